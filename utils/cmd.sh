# How a recipe runs its commands here: on this machine. run.sh --cmd FILE takes the same functions from FILE.
# Flags before "$@" belong to utils/submit.py (see its --help).
# shellcheck shell=bash
# shellcheck disable=SC2154  # _utils is the folder of this file, set by recipe.sh

# on_cpu [JOB=1:N] LOG COMMAND...: N shards, as many at a time as there are cores.
on_cpu() { python3 "$_utils/submit.py" "$@"; }

# on_gpu [JOB=1:N] LOG COMMAND...: one at a time, each with all GPUs of the machine.
on_gpu() { python3 "$_utils/submit.py" --max-jobs-run 1 "$@"; }

# shellcheck disable=SC2034  # read by recipes that have a number of machines for an option
one_machine=true
