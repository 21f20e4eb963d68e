# Running the body of a stage: its own process group, its log, and its end whatever happens to run.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154  # the parts of the layer share its variables

_signal='' _signal_count=0 # the first signal that asked the run to stop, and how many came
_job_group=''              # process group of the running body
_alive=()

# On a terminal, past the log: a line overwrites a bar; warnings are yellow, errors red, and a line that has
# colours already keeps its own.
_overwriting=$': end\ns/^/\e[K/'
_colouring=$'/\e/b end
/^\\(20[0-9][0-9]-[-0-9]* [:0-9]* \\)\\{0,1\\}WARNING\\>/{s/.*/\e[33m&\e[m/;b end\n}
/^\\(20[0-9][0-9]-[-0-9]* [:0-9]* \\)\\{0,1\\}\\(ERROR\\|CRITICAL\\)\\>/s/.*/\e[31m&\e[m/
/^[a-z_]*: error: /s/.*/\e[31m&\e[m/'

# The first signal asks the stage to stop, a second one leaves it no choice.
_on_signal() {
  trap '' PIPE # a terminal that has gone must not stop the stopping
  _signal_count=$((_signal_count + 1))
  _signal=${_signal:-$1}
  case $_job_group in
    '') exit "$((128 + $(kill -l "$_signal")))" ;; # nothing runs but the layer itself
    starting) ;;
    *)
      ((_signal_count == 1)) || return 0
      kill -TERM -- "-$_job_group" 2>/dev/null || true
      _clear_bar
      _complain "SIG$1: stopping the stage, $recipe_grace_s s at most (again: at once)"
      ;;
  esac
}

# What was drawn last stays where the stage was stopped.
_clear_bar() {
  if _is_screen 2; then printf '\e[K' >&2; elif _is_screen 1; then printf '\e[K'; fi
}

# _run_job LOG SHARD_REPORT WORD...: run the words as a job, its output to the terminal and the end of LOG.
# Sets _status of the caller.
_run_job() {
  local _log=$1 _report=$2 _log_r _log_w _life_r _life_w _bar='' _group _tee
  shift 2
  _job_group=starting # from here on a signal waits until there is a job to stop
  _open_pipe _log_r _log_w
  _open_pipe _life_r _life_w
  # a stage draws progress bars on this descriptor, past the log; without a terminal there is none
  if _is_screen 2; then exec {_bar}>&2; elif _is_screen 1; then exec {_bar}>&1; fi

  (
    trap '' INT TERM HUP PIPE
    exec {_log_w}>&- {_life_r}<&- {_life_w}>&-
    if _is_screen 1 && printf x | sed -u p >/dev/null 2>&1; then
      _wants_colour 1 || _colouring=''
      set -o pipefail
      tee -a -- "$_log" <&"$_log_r" | sed -u "$_colouring"$'\n'"$_overwriting"
      exit
    fi
    exec tee -a -- "$_log" <&"$_log_r"
  ) &
  _tee=$!

  set -m # gives the job a process group of its own
  (
    set +m
    trap - INT TERM HUP PIPE EXIT
    trap '' TTOU # with `stty tostop` a bar would stop the stage
    exec </dev/null >&"$_log_w" 2>&1 {_log_r}<&- {_log_w}>&- {_life_w}>&-
    _group=$BASHPID # for the guard, where BASHPID is another
    (_guard "$_group" "$_run_id" <&"$_life_r" >/dev/null 2>&1 &)
    exec {_life_r}<&-
    export NEST_RUN_ID=$_run_id NEST_SHARD_REPORT=$_report NEST_STAGE_KEY=${_stage_key%% *}
    export PYTHONUNBUFFERED=1 # its output goes through a pipe, and a person watches the end of that
    unset NEST_PROGRESS_FD
    [ -z "$_bar" ] || export NEST_PROGRESS_FD=$_bar
    set -Eeuo pipefail
    trap '_explain_error "$?" "${PIPESTATUS[*]}" "$LINENO" "$BASH_COMMAND"' ERR
    # shellcheck disable=SC2317  # called by the recipe's own functions
    wait() {
      (($#)) || _refuse_bare_wait
      builtin wait "$@"
    }
    "$@"
  ) &
  _group=$!
  exec {_log_r}<&- {_log_w}>&- {_life_r}<&-
  [ -z "$_bar" ] || exec {_bar}>&-
  _await_job "$_group" "$_life_w"
  [ "$_status$_signal" != 0 ] || _expect_no_rest "$_group"
  _job_group=
  exec {_life_w}>&-
  _close_log "$_tee"
  _clear_bar
}

# _await_job GROUP [GUARD]: wait for the job just started with `set -m`; stop all of it on a signal or when it
# failed. Tells the guard, if there is one, that this shell takes care. Sets _status of the caller.
_await_job() {
  set +m
  _job_group=$1
  [ -z "$_signal" ] || kill -TERM -- "-$1" || true # it came while the job was being started
  _status=0
  wait "$1" 2>/dev/null || _status=$?
  if [ -n "${2-}" ]; then
    trap '' PIPE
    { printf 'done\n' >&"$2"; } 2>/dev/null || true # it may be gone already
    trap '_on_signal PIPE' PIPE
  fi
  if [ -n "$_signal" ] || [ "$_status" != 0 ]; then
    _stop_rest "$1"
    wait "$1" 2>/dev/null || true
  fi
}

# _stop_rest GROUP: give what is left of the job the grace period, then kill it.
_stop_rest() {
  if [ -z "$_signal" ]; then
    kill -TERM -- "-$1" 2>/dev/null || true
  fi
  if ! _await_end "$1" "$_run_id"; then
    _complain "killing what did not stop: ${_alive[*]}"
    kill -KILL -- "-$1" "${_alive[@]}" 2>/dev/null || true
  fi
}

# _expect_no_rest GROUP: a stage that ends well leaves nothing that could still be writing its outputs.
_expect_no_rest() {
  local _deadline=$((SECONDS + recipe_grace_s)) # a loaded machine takes a while to end what is ending
  _survivors "$1" "$_run_id"
  while ((${#_alive[@]} && SECONDS < _deadline)); do
    sleep 0.02 || true
    _survivors "$1" "$_run_id"
  done
  ((${#_alive[@]})) || return 0
  _status=1
  _list_processes
  _complain "the command of the stage ended but left processes running; it should wait PID for each:$_listed"
  _stop_rest "$1"
}

# _close_log TEE: let the last lines through; a daemon that fled with the pipe in its hands is not waited for.
_close_log() {
  local _deadline=$((SECONDS + recipe_grace_s)) _ended=0
  while kill -0 "$1" 2>/dev/null && ((SECONDS < _deadline)); do sleep 0.01 || true; done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || _ended=$?
  [ "$_ended" = 0 ] || _complain "the log may be incomplete (tee ended with status $_ended)"
}

# _open_pipe READ WRITE: a pipe whose two ends are descriptors of this shell, in the variables so named.
_open_pipe() {
  local _folder _both _read _write
  _folder=$(mktemp -d) || _die "cannot make a temporary folder in ${TMPDIR:-/tmp}"
  mkfifo -m 600 -- "$_folder/pipe" || _die "cannot make a pipe in $_folder"
  exec {_both}<>"$_folder/pipe" # with both ends open the next two do not block
  exec {_read}<"$_folder/pipe"
  exec {_write}>"$_folder/pipe" {_both}>&-
  rm -rf -- "$_folder"
  printf -v "$1" %s "$_read"
  printf -v "$2" %s "$_write"
}

# _guard GROUP RUN: a member of the job. Its input ends without a word only when run.sh died with SIGKILL.
_guard() {
  local _word _job_group=$1 _signal_count=0
  trap '' INT TERM HUP
  if read -r _word; then return 0; fi
  kill -TERM -- "-$1" || true
  _await_end "$1" "$2" "$BASHPID" || kill -KILL -- "${_alive[@]}" "-$1"
}

# _explain_error STATUS PIPE_STATUSES LINE COMMAND: bash says nothing when set -e ends a function; a person
# should see which line of the recipe it was. Called by the ERR trap of a stage.
_explain_error() {
  local _depth=1 _line=$3 _command=$4
  [[ $2 != *' '* ]] || _command="the pipeline that ends in $4"
  while [ "${BASH_SOURCE[_depth]}" = "$_opt_cmd" ]; do # the call of on_cpu counts, not its inside
    _line=${BASH_LINENO[_depth]} _command=${FUNCNAME[_depth]}
    _depth=$((_depth + 1))
  done
  [ "${BASH_SOURCE[_depth]}" != "$_utils/recipe/job.sh" ] || return 0
  printf '%s: line %s: status %s from: %s\n' "${BASH_SOURCE[_depth]##*/}" "$_line" "$1" "$_command" >&2
}

_refuse_bare_wait() {
  echo "wait without a process number returns 0 whatever happened; use wait PID for each, or on_cpu" >&2
  exit 1
}

# _list_processes: set _listed to the command lines of _alive, one per line.
_list_processes() {
  local _pid _words _line
  _listed=
  for _pid in "${_alive[@]}"; do
    _words=()
    mapfile -d '' -t _words 2>/dev/null <"/proc/$_pid/cmdline" || true
    _line="${_words[*]}"
    _listed+=$'\n'"    $_pid  ${_line:0:100}"
  done
} 2>/dev/null

# _survivors GROUP RUN [EXCEPT]: set _alive to the processes of that group (if any) or with that NEST_RUN_ID.
_survivors() {
  local _file _line _fields _pid _marked
  _alive=()
  for _file in /proc/[0-9]*/stat; do
    { read -r _line <"$_file"; } 2>/dev/null || continue
    read -r -a _fields <<<"${_line##*) }" # state, parent, group
    if [[ ${_fields[2]} == "$1" && ${_fields[0]} != [ZX] ]]; then _alive+=("${_line%% *}"); fi
  done
  [ -n "$2" ] || return 0
  # grep fails when nothing matches and when a process is gone meanwhile; neither is an error
  _marked=$(grep -laF "NEST_RUN_ID=$2" /proc/[0-9]*/environ 2>/dev/null) || true
  while IFS=/ read -r _ _ _pid _; do
    if [[ -n $_pid && " ${_alive[*]} " != *" $_pid "* ]]; then _alive+=("$_pid"); fi
  done <<<"$_marked"
  if [ -n "${3-}" ]; then
    for _pid in "${!_alive[@]}"; do
      [ "${_alive[_pid]}" != "$3" ] || unset "_alive[_pid]"
    done
  fi
}

# _await_end GROUP RUN [EXCEPT]: true once all of it is gone; false after the grace period or a second signal.
_await_end() {
  local _deadline=$((SECONDS + recipe_grace_s))
  while :; do
    _survivors "$@"
    ((${#_alive[@]})) || return 0
    ((SECONDS < _deadline && _signal_count < 2)) || return 1
    sleep 0.1 || true # a Ctrl-C ends the sleep as well
  done
}
