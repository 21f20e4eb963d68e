# Options and runs of the scripts that measure on a GPU; sourced by them.
# shellcheck shell=bash

# read_options NAME... -- WORD...: the words are `--NAME VALUE`, each of which sets the variable NAME.
read_options() {
  local names=() option
  while [ "$1" != -- ]; do
    names+=("$1")
    shift
  done
  shift
  while (($#)); do
    option=${1#--}
    option=${option//-/_}
    if [[ $1 != --* || " ${names[*]} " != *" $option "* ]]; then
      echo "${0##*/}: unknown option $1; the options are: ${names[*]//_/-}" >&2
      exit 2
    elif (($# < 2)); then
      echo "${0##*/}: $1 needs a value" >&2
      exit 2
    fi
    printf -v "$option" %s "$2"
    shift 2
  done
}

# measure LOG SCRIPT WORDS...: one run in bf16 on the GPU, its output in the log.
# shellcheck disable=SC2154  # the script that sources this sets out, here, python and seconds
measure() {
  local log=$out/$1.log script=$here/$2
  shift 2
  "$python" "$script" --device cuda --precision bf16 --seconds "$seconds" "$@" >"$log" 2>&1
}
