# The recipe layer: sourced by every egs/*/run.sh, it owns options, stages, markers, logs and locks.
#
#   . "$root/utils/recipe.sh"
#   tag=small                      # an option: --tag; the comment is its line in --help
#   parse_options "$@"             # sets the options, then $data and $exp
#   stage 2 manifests at:"$data" in:"$data/all.jsonl" out:"$data/manifests/train.jsonl" \
#     -- python3 -m nest_ssl.bin.manifest --in "$data/all.jsonl" --out-dir "$data/manifests"
#   run_stages                     # the last line: everything above it only declares
#
# docs/recipes.md is the manual. Bash scopes are dynamic: a stage function would see the locals of the layer
# functions that call it, so every name of the layer begins with _ and no option may.
# shellcheck shell=bash

if ((BASH_VERSINFO[0] < 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] < 4))); then
  echo "${0##*/}: needs bash 4.4 or newer, this is bash $BASH_VERSION" >&2
  exit 2
fi
set -euo pipefail
shopt -s inherit_errexit

_script=${0##*/}
_utils=${BASH_SOURCE[0]%/*}
[ "$_utils" != "${BASH_SOURCE[0]}" ] || _utils=.
_utils=$(CDPATH='' cd -- "$_utils" && pwd)
_root=${_utils%/*}
# shellcheck disable=SC2034  # read by recipe/job.sh
recipe_grace_s=15 # from the polite signal to the one that cannot be refused; a recipe may set another

# one entry per stage, paths of in: and out: one per line; _stage_words has the commands one after the other
_stage_number=() _stage_name=() _stage_at=() _stage_in=() _stage_out=() _stage_first=() _stage_count=()
_stage_words=()
_finished=false # the layer has said how the run ended

_say() { printf '%s: %s\n' "$_script" "$*"; }

_complain() { printf '%s: %s\n' "$_script" "$*" >&2; }

# _is_screen FD: a person looks on at a terminal that can be drawn on.
_is_screen() { [[ -t $1 && ${TERM-dumb} != dumb ]]; }

_wants_colour() { [ -z "${NO_COLOR-}" ] && _is_screen "$1"; }

# _width_of_terminal: set _width to the columns for what a person reads: the terminal's, at most 100.
_width_of_terminal() {
  local _size=''
  _width=100
  [ ! -t 1 ] || _size=$(stty size <&1 2>/dev/null) || true
  [[ ! ${_size#* } =~ ^[1-9][0-9]*$ ]] || _width=$((${_size#* } < 100 ? ${_size#* } : 100))
}

# _die MESSAGE: end the run with status 1. _usage_error MESSAGE: the same for a mistake in the call, status 2.
_die() {
  _finished=true
  _complain "$*"
  exit 1
}
_usage_error() {
  _finished=true
  _complain "$*"
  exit 2
}

# usage_error MESSAGE: the same, for a recipe that finds a mistake in the call.
usage_error() { _usage_error "$@"; }

# _shorten PATH: set _short to PATH as a person here would type it.
_shorten() {
  _short=${1#"$PWD"/}
}

# _absolute NAME: make the path in variable NAME absolute, without a slash at its end.
_absolute() {
  local _path=${!1}
  case $_path in
    /*) ;;
    *) _path=$PWD/$_path ;;
  esac
  while [[ $_path == */ && $_path != / ]]; do _path=${_path%/}; done
  printf -v "$1" %s "$_path"
}

# _quote WORD...: set _quoted to the words as they can be pasted into a shell, on one line in any locale.
_quote() {
  local _word _rest LC_ALL=C
  _quoted=
  for _word in "$@"; do
    if [[ $_word == *$'\n'* ]]; then
      printf -v _word %q "$_word"
    elif [[ ! $_word =~ ^[A-Za-z0-9_./:=,+@%^-]+$ ]]; then
      _rest=$_word _word="'"
      while [[ $_rest == *\'* ]]; do _word+="${_rest%%\'*}'\\''" _rest=${_rest#*\'}; done
      _word+="$_rest'"
    fi
    _quoted+=" $_word"
  done
  _quoted=${_quoted# }
}

# _present PATH: true for a file with something in it and for a folder with an entry.
_present() {
  local _entry
  if [ -d "$1" ]; then
    for _entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
      [ -e "$_entry" ] && return 0
    done
    return 1
  fi
  [ -s "$1" ]
}

# shellcheck source=utils/recipe/options.sh
. "$_utils/recipe/options.sh"
# shellcheck source=utils/recipe/stages.sh
. "$_utils/recipe/stages.sh"
# shellcheck source=utils/recipe/fingerprint.sh
. "$_utils/recipe/fingerprint.sh"
# shellcheck source=utils/recipe/lock.sh
. "$_utils/recipe/lock.sh"
# shellcheck source=utils/recipe/job.sh
. "$_utils/recipe/job.sh"
# shellcheck source=utils/recipe/running.sh
. "$_utils/recipe/running.sh"
# shellcheck source=utils/recipe/status.sh
. "$_utils/recipe/status.sh"
