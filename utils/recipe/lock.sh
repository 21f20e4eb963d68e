# One writer per folder. FOLDER/.lock is locked by the kernel (flock) for every process of the run, so that it
# lasts exactly as long as anything that may still write; the text in the file is for people.
# shellcheck shell=bash
# shellcheck disable=SC2154  # the parts of the layer share its variables

declare -A _locks=() # folder -> file descriptor
_run_id=''           # exported to the jobs as NEST_RUN_ID, by which strays are found in /proc
_run_since=''

# _lock_stages FROM TO: lock the folder of every stage of the range.
_lock_stages() {
  local _i
  command -v flock >/dev/null || _die "needs the flock command (package util-linux)"
  printf -v _run_id '%s.%s.%(%s)T' "$HOSTNAME" "$$" -1
  printf -v _run_since '%(%F %T)T' -1
  for ((_i = $1; _i <= $2; _i++)); do
    if [ -z "${_locks[${_stage_at[_i]}]-}" ]; then _lock "${_stage_at[_i]}"; fi
  done
}

_lock() {
  local _fd _status _waited=0
  mkdir -p -- "$1/.done" "$1/log" ||
    _die "cannot make folders in $1; choose another place with --exp-dir or --data-dir"
  while :; do
    { exec {_fd}<>"$1/.lock"; } 2>/dev/null || _die "cannot write in $1: is it read-only, or someone else's?"
    _status=0
    flock -n -E 75 "$_fd" || _status=$?
    # the last holder removes the file, so what was locked may be gone from its name
    if [ "$_status" = 0 ] && [ "$1/.lock" -ef "/proc/$BASHPID/fd/$_fd" ]; then break; fi
    _read_lock "$1"
    exec {_fd}>&-
    [ "$_status" = 0 ] && continue
    _shorten "$1"
    [ "$_status" = 75 ] || _die "cannot lock $_short/.lock (status $_status): a file system without locks?"
    [ "$_holder_state" = dead ] || _refuse_holder
    # killed with SIGKILL: the guard of its job is stopping what it left
    ((_waited++)) || _say "$_short: run $_holder_pid was killed; waiting for the end of what it left running"
    ((_waited <= (recipe_grace_s + 5) * 5)) || _refuse_survivors
    sleep 0.2
  done
  _read_lock "$1"
  if [ -n "$_holder_run" ]; then
    _shorten "$1"
    _survivors none "$_holder_run"
    ((${#_alive[@]} == 0)) || _refuse_survivors
    _say "$_short: run $_holder_pid (since $_holder_since) was killed at $_holder_stage; going on from there"
  fi
  _locks[$1]=$_fd
  _write_lock "$1" "its start"
}

# _write_lock FOLDER STAGE
_write_lock() {
  local _start
  _start_time "$$"
  printf 'pid %s\nhost %s\nsince %s\nstart %s\nrun %s\nstage %s\n' \
    "$$" "$HOSTNAME" "$_run_since" "$_start" "$_run_id" "$2" >"$1/.lock" ||
    _die "cannot write $1/.lock; is the disk full?"
}

# _note_stage INDEX: tell in every lock what the run is at.
_note_stage() {
  local _folder
  for _folder in "${!_locks[@]}"; do
    _write_lock "$_folder" "stage ${_stage_number[$1]} (${_stage_name[$1]})"
  done
}

# _read_lock FOLDER: set _holder_pid, _since, _host, _run, _stage and _state: none, alive, dead or elsewhere.
_read_lock() {
  local _key _value _start='' _written=''
  _holder_pid='' _holder_since='' _holder_host='' _holder_run='' _holder_stage='' _holder_state=none
  [ -s "$1/.lock" ] || return 0
  while read -r _key _value; do
    case $_key in
      pid) _holder_pid=$_value ;;
      host) _holder_host=$_value ;;
      since) _holder_since=$_value ;;
      start) _written=$_value ;;
      run) _holder_run=$_value ;;
      stage) _holder_stage=$_value ;;
    esac
  done 2>/dev/null <"$1/.lock"
  if [ "$_holder_host" != "$HOSTNAME" ]; then
    _holder_state=elsewhere
    return 0
  fi
  _start_time "$_holder_pid"
  _holder_state=dead
  # a number may be given to another process later, but not with the same time of birth
  if [ -n "$_start" ] && [ "$_start" = "$_written" ]; then _holder_state=alive; fi
}

# _start_time PID: set _start of the caller, clock ticks since boot; empty for a process that is gone.
_start_time() {
  local _fields=''
  _start=
  [ -r "/proc/$1/stat" ] || return 0
  read -r _fields <"/proc/$1/stat" || return 0
  read -r -a _fields <<<"${_fields##*) }" # the name, in brackets, may hold spaces
  _start=${_fields[19]}
} 2>/dev/null

_refuse_holder() {
  [ "$_holder_state" != none ] || _die "$_short is in use by a run that has just started; try again"
  _die "$_short is in use by another run: pid $_holder_pid on $_holder_host, since $_holder_since," \
    "at $_holder_stage." \
    "Wait for it, stop it with: kill $_holder_pid, or give this run a folder of its own (--tag, --data-dir)"
}

_refuse_survivors() {
  _survivors none "$_holder_run"
  _list_processes
  if ((${#_alive[@]} == 0)); then
    _die "$_short: the run with pid $_holder_pid was killed, but something of it still holds $_short/.lock;" \
      "to see what: fuser -v $_short/.lock"
  fi
  _die "$_short: the run with pid $_holder_pid was killed at $_holder_stage, but processes of it still run" \
    "and may write:$_listed"$'\n'"stop them, then start again: kill ${_alive[*]}   (kill -9 if they stay)"
}

_unlock_all() {
  local _folder _fd
  for _folder in "${!_locks[@]}"; do
    _fd=${_locks[$_folder]}
    # unlocking also frees what a stray of a finished stage inherited
    rm -f -- "$_folder/.lock" || true
    flock -u "$_fd" || true
    exec {_fd}>&-
  done
  _locks=()
}
