# shellcheck shell=bash
# Environment of every recipe: `source path.sh`, from any folder, any number of times. Makes .venv if need be.
#
#   NEST_PYTHON, NEST_EXTRAS, NEST_TORCH_INDEX   see utils/setup_env.sh
#   NEST_REQUIRE_ENV=1                           only use a finished environment, as every Slurm job does
#
# OMP_NUM_THREADS is left as it is: torch takes all cores, and what starts several processes divides them.

[ -n "${BASH_VERSION-}" ] || { echo "path.sh: to be sourced in bash" >&2; return 1; }
_nest_root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P) || return 1
if [[ -n ${SLURM_JOB_ID-} || ${NEST_REQUIRE_ENV-} == 1 ]]; then
  _nest_bin=$(bash "$_nest_root/utils/setup_env.sh" --print-bin --require) || return 1
else
  _nest_bin=$(bash "$_nest_root/utils/setup_env.sh" --print-bin) || return 1
fi
[[ $PATH == "$_nest_bin":* ]] || PATH=$_nest_bin:$PATH
[[ ${PYTHONPATH-}: == "$_nest_root":* ]] || PYTHONPATH=$_nest_root${PYTHONPATH:+:$PYTHONPATH}
# One sort order and UTF-8 everywhere; plain C, in which Python still takes UTF-8, where C.UTF-8 is unknown.
if [[ $(LC_ALL=C.UTF-8 locale charmap 2>/dev/null) == UTF-8 ]]; then LC_ALL=C.UTF-8; else LC_ALL=C; fi
export PATH PYTHONPATH LC_ALL
unset _nest_root _nest_bin
