#!/usr/bin/env bash
# The tests, in the environment of this checkout, which is made first if there is none.
#
#   bash tests/run.sh                     a representative slice, in minutes on two cores
#   bash tests/run.sh --full              all tests
#   bash tests/run.sh tests/shell -k lock pytest's own arguments narrow it further
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)

slice=(-m "not slow")
arguments=()
for argument in "$@"; do
  case $argument in
    --full) slice=() ;;
    --help | -h)
      sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit ;;
    *) arguments+=("$argument") ;;
  esac
done

# shellcheck source=SCRIPTDIR/../path.sh
source "$root/path.sh"
if ! python3 -c 'import pytest' 2>/dev/null; then
  echo "tests/run.sh: $(type -P python3) has no pytest: NEST_EXTRAS (now '${NEST_EXTRAS-}') needs dev" >&2
  exit 1
fi
# The tests do without it, but then say that they left the shell scripts unread.
if ! command -v shellcheck >/dev/null; then bash "$root/utils/setup_env.sh" --apt shellcheck || true; fi

export OMP_NUM_THREADS=1
cd -- "$root"
# A process for each core, a file of tests at a time; NEST_TEST_PROCESSES=0: one for all, as debuggers need.
cores=$(env -u OMP_NUM_THREADS nproc) # nproc would say what that says
processes=(--numprocesses "${NEST_TEST_PROCESSES:-$cores}" --maxprocesses 8 --dist loadfile)
python3 -c 'import xdist' 2>/dev/null || processes=() # an environment of one's own may lack it
exec python3 -m pytest "${processes[@]}" --durations=10 --durations-min=5 "${slice[@]}" "${arguments[@]}"
