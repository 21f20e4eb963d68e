# Declaring stages, choosing them, running them. The contract of `stage` is in docs/recipes.md.
# shellcheck shell=bash
# shellcheck disable=SC2154  # the parts of the layer share its variables

# stage NUMBER NAME [at:FOLDER] [in:PATH...] [out:PATH...] -- COMMAND...
# Only declares: commands run in run_stages, when every stage is known.
stage() {
  local _number=${1-} _name=${2-} _at=$exp _in='' _out='' _path _i
  local _here="stage $_number ${_name:-?}"
  [ -n "$exp" ] || _usage_error "$_here: parse_options \"\$@\" must come first"
  [[ $_number =~ ^[0-9]+$ && $_name =~ ^[a-z][a-z0-9_-]*$ ]] ||
    _usage_error "$_here: the form is: stage NUMBER NAME [at:FOLDER] [in:PATH...] [out:PATH...] -- COMMAND..."
  _number=$((10#$_number))
  for _i in "${!_stage_number[@]}"; do
    [ "${_stage_name[_i]}" != "$_name" ] || _usage_error "$_here: there is another stage of that name"
    ((_stage_number[_i] < _number)) ||
      _usage_error "$_here: stages are declared in rising order, and ${_stage_number[_i]} came before"
  done
  shift 2
  while (($#)) && [ "$1" != -- ]; do
    _path=${1#*:}
    [[ -n $_path && $_path != *$'\n'* ]] || _usage_error "$_here: '$1' names no path"
    _absolute _path
    case $1 in
      at:*) _at=$_path ;;
      in:*) _in+=$_path$'\n' ;;
      out:*) _out+=$_path$'\n' ;;
      *) _usage_error "$_here: '$1' is none of at:FOLDER, in:PATH, out:PATH; the command comes after --" ;;
    esac
    shift
  done
  (($# > 1)) || _usage_error "$_here: no command after --"
  shift
  _stage_number+=("$_number") _stage_name+=("$_name")
  _stage_at+=("$_at") _stage_in+=("$_in") _stage_out+=("$_out")
  _stage_first+=("${#_stage_words[@]}") _stage_count+=("$#")
  _stage_words+=("$@")
}

# run_stages: the last line of a recipe.
run_stages() {
  local _i _from _to _forced=() _fresh=() _locked=false _started=$SECONDS _ran=0
  ((${#_stage_number[@]})) || _usage_error "the recipe declares no stage"
  _refuse_suspended_errexit
  _choose_stages
  if [ "$_opt_status$_opt_dry_run" != falsefalse ]; then
    _finished=true
    trap - PIPE
    if [ "$_opt_status" = true ]; then _print_status; else _print_plan; fi
    exit 0
  fi
  for ((_i = _from; _i <= _to; _i++)); do
    _examine "$_i"
    [ "$_state" = needs ] && _die "$_why"
    if [ "$_state" = "done" ] && [ "${_forced[_i]}" = false ]; then
      _say "stage $_title already done, skipped"
      continue
    fi
    if [ "$_locked" = false ]; then
      # all later stages may run, so a folder that someone else holds is found now and not after an hour
      _lock_stages "$_i" "$_to"
      _locked=true
      _note_run
      _load_environment
      _examine "$_i"
      if [ "$_state" = "done" ] && [ "${_forced[_i]}" = false ]; then
        _say "stage $_title already done, skipped"
        continue
      fi
    fi
    _run_stage "$_i"
    _ran=$((_ran + 1))
  done
  _spell_seconds "$((SECONDS - _started))"
  _shorten "$exp"
  if ((_ran)); then _say "finished in $_spelled; $_short"; else _say "nothing to do; $_short"; fi
  _finished=true
}

# bash ignores set -e inside everything that `if`, `&&`, `||` or `!` asks about, stage functions included.
_refuse_suspended_errexit() {
  local _status
  set +e
  (
    set -e
    false
    exit 42
  )
  _status=$?
  set -e
  [ "$_status" != 42 ] ||
    _usage_error "run_stages must stand on a line of its own: inside if, &&, || or ! bash ignores errors"
}

# Set _from, _to, _forced, _fresh of the caller from --stage, --stop-stage, --force and --fresh.
_choose_stages() {
  local _i _word
  _from=0 _to=$((${#_stage_number[@]} - 1))
  for _i in "${!_stage_number[@]}"; do _forced[_i]=$_opt_force _fresh[_i]=false; done
  if [ -n "$_opt_stage" ]; then
    _find_stage --stage "$_opt_stage"
    _from=$_found
    _forced[_from]=true
  fi
  if [ -n "$_opt_stop_stage" ]; then
    _find_stage --stop-stage "$_opt_stop_stage"
    _to=$_found
  fi
  ((_from <= _to)) || _usage_error "--stop-stage $_opt_stop_stage comes before --stage $_opt_stage"
  for _word in "${_opt_fresh[@]}"; do
    _find_stage --fresh "$_word"
    ((_from <= _found && _found <= _to)) ||
      _usage_error "--fresh $_word: that stage is outside --stage and --stop-stage, so it would not run"
    _fresh[_found]=true _forced[_found]=true
  done
}

# _find_stage OPTION WORD: set _found to the index of the stage with that number or name.
_find_stage() {
  local _i _known='' _hint=''
  local _wanted=$2
  if [[ $2 =~ ^[0-9]+$ ]]; then _wanted=$((10#$2)); fi
  for _i in "${!_stage_number[@]}"; do
    _known+=", ${_stage_number[_i]} ${_stage_name[_i]}"
    if [ "$_wanted" = "${_stage_number[_i]}" ] || [ "$_wanted" = "${_stage_name[_i]}" ]; then
      _found=$_i
      return
    fi
  done
  _nearest "$2" "${_stage_name[@]}"
  [ -z "$_near" ] || _hint=" (did you mean $_near?)"
  _usage_error "$1 $2: there is no such stage$_hint; the stages are ${_known#, }"
}

# _title_of INDEX: set _title, "3 (pretrain)".
_title_of() { _title="${_stage_number[$1]} (${_stage_name[$1]})"; }

_marker_of() { _marker=${_stage_at[$1]}/.done/${_stage_number[$1]}-${_stage_name[$1]}; }

# What is kept about an attempt that did not end well: "failed with status 1, 2026-11-21 19:40:01, after 5 s".
_attempt_of() { _attempt=${_stage_at[$1]}/.done/.${_stage_number[$1]}-${_stage_name[$1]}.attempt; }

_log_of() { _log=${_stage_at[$1]}/log/${_stage_number[$1]}-${_stage_name[$1]}.log; }

# _note_run: leave for --status, the report and people which stages there are and how this run was called.
# Paths within one tree are relative, so that a recipe's folder can be moved or copied.
_note_run() {
  local _i _at _log _line _list='' _near=${exp%/*/*}
  mkdir -p -- "$exp/.done" || _cannot_write "$exp/.done"
  [[ $exp/../.. -ef $_near ]] || _near=none # a link on the way: .. would lead elsewhere
  for _i in "${!_stage_number[@]}"; do
    _log_of "$_i"
    _at=${_stage_at[_i]}
    case $_at/ in
      "$exp"/) _at=. _log=${_log#"$exp"/} ;;
      "$_near"/*) _at=../..${_at#"$_near"} _log=../..${_log#"$_near"} ;;
    esac
    printf -v _line '%s\t%s\t%s\t%s' "${_stage_number[_i]}" "${_stage_name[_i]}" "$_at" "$_log"
    _list+=$_line$'\n'
  done
  printf %s "$_list" >"$exp/.done/.stages.new" || _cannot_write "$exp/.done/.stages"
  mv -f -- "$exp/.done/.stages.new" "$exp/.done/.stages" || _cannot_write "$exp/.done/.stages"
  _shorten "$0"
  _quote bash "$_short" "${_arguments[@]}"
  printf '# %s on %s in %s\n%s\n' "$_run_since" "$HOSTNAME" "$PWD" "$_quoted" >>"$exp/.done/.command" ||
    _cannot_write "$exp/.done/.command"
}

# _examine INDEX: set _state to needs (an input is missing), done, stale or absent, with _why in words,
# _changes (lines "was ..." and "now ...") when stale, and _facts for the marker.
_examine() {
  local _path _old _kept _named
  local _place=$'\nplace ([^\n]*)' # a line of the marker
  _changes=() _why='' _facts='' _needed=''
  _title_of "$1"
  _marker_of "$1"
  while IFS= read -r _path; do
    [ -n "$_path" ] || continue
    if ! _present "$_path"; then
      _state=needs _needed=$_path
      _why_needed "$1" "$_path"
      return
    fi
  done <<<"${_stage_in[$1]}"
  _gather_facts "$1"
  if [ ! -f "$_marker" ]; then
    _state=absent _why="it has not been done yet"
    return
  fi
  _old=$(<"$_marker")
  _kept=${_old%$'\n'# *}
  _kept=${_kept%%$'\n'output\ *}
  if [ "$_kept"$'\n' != "$_facts" ]; then
    _name_places "$_kept" # older markers name the folders themselves
    _kept=$_named
  fi
  if [ "$_kept"$'\n' != "$_facts" ]; then
    _state=stale _why="changed since it was done"
    _compare_facts "$_kept" "$_facts"
    return
  fi
  while IFS= read -r _path; do
    if [ -n "$_path" ] && ! _present "$_path"; then
      _shorten "$_path"
      _state=stale _why="its output $_short is missing or empty"
      return
    fi
  done <<<"${_stage_out[$1]}"
  # -ef: a folder that is reached by another path has not been moved
  if [[ $_old =~ $_place && ! ${BASH_REMATCH[1]} -ef ${_stage_at[$1]} ]]; then
    _state=stale _why="its outputs name files in ${BASH_REMATCH[1]}, from where they were moved"
    return
  fi
  _state="done" _why=${_old##*$'\n'# }
}

# _why_needed INDEX PATH: say which stage makes the path that is missing.
_why_needed() {
  local _i _path _what=missing _advice="no stage of this recipe makes it"
  [ ! -e "$2" ] || _what=empty
  _maker=
  for ((_i = 0; _i < $1; _i++)); do
    while IFS= read -r _path; do
      if [[ -n $_path && ($2 == "$_path" || $2 == "$_path"/*) ]]; then
        _maker=$_i _advice="run stage ${_stage_number[_i]} (${_stage_name[_i]}) first"
      fi
    done <<<"${_stage_out[_i]}"
  done
  _shorten "$2"
  _why="stage $_title needs $_short, which is $_what; $_advice"
}

# _run_stage INDEX: run it, check its outputs, write the marker; ends the run when any of this fails.
_run_stage() {
  local _words=("${_stage_words[@]:_stage_first[$1]:_stage_count[$1]}") _path _status _before=$SECONDS _now
  local _shard_report="${_stage_at[$1]}/.done/.${_stage_number[$1]}-${_stage_name[$1]}.shard"
  local _title _marker _attempt _log _begin _stage_key='' _spelled _made='' _named
  _title_of "$1"
  _marker_of "$1"
  _attempt_of "$1"
  _log_of "$1"
  _shorten "$_log"
  _note_stage "$1"
  case $_state in
    absent) _say "stage $_title starts; log $_short" ;;
    stale) _say "stage $_title starts again ($_why); log $_short" ;;
    *) _say "stage $_title starts again, as asked; log $_short" ;;
  esac
  ((${#_changes[@]} == 0)) || printf '    %s\n' "${_changes[@]}"
  rm -f -- "$_marker" "$_shard_report"
  [ "${_fresh[$1]}" = false ] || _wipe "$1"
  printf -v _now '%(%F %T)T' -1
  printf 'interrupted; it started %s\n' "$_now" >"$_attempt" || _cannot_write "$_attempt"
  _quote "${_words[@]}"
  printf '# %s stage %s on %s\n# %s\n' "$_now" "$_title" "$HOSTNAME" "$_quoted" >>"$_log" ||
    _cannot_write "$_log"
  _begin=$(stat -c %s -- "$_log")
  # shards that an attempt with the same facts has done need not run again, unless that is asked for
  if [[ $_opt_force${_fresh[$1]} == falsefalse ]]; then _stage_key=$(sha256sum <<<"$_facts"); fi
  _run_job "$_log" "$_shard_report" "${_words[@]}"
  _spell_seconds "$((SECONDS - _before))"
  if [ -n "$_signal" ]; then
    _stopped "$1"
  elif [ "$_status" != 0 ]; then
    _failed "$1" "$_status"
  fi
  while IFS= read -r _path; do
    [ -n "$_path" ] || continue
    if ! _present "$_path"; then
      _resume_command "$1"
      _shorten "$_path"
      printf 'it ended well, but %s is missing or empty, %(%F %T)T, after %s\n' "$_short" -1 "$_spelled" \
        >"$_attempt"
      _die "stage $_title ended with status 0, but its output $_short is missing or empty," \
        "so it is not done. When that is mended: $_resume"
    fi
    _made+="output $_path"$'\n'
  done <<<"${_stage_out[$1]}"
  _name_places "$_made"
  _made=$_named
  if _outputs_name_folder "$1"; then _made+="place ${_stage_at[$1]}"$'\n'; fi
  printf -v _now '%(%F %T)T' -1
  # the marker comes last and whole: an interrupted run leaves none
  printf '%s%s# %s, took %s\n' "$_facts" "$_made" "$_now" "$_spelled" >"$_marker.new" ||
    _cannot_write "$_marker"
  mv -f -- "$_marker.new" "$_marker" || _cannot_write "$_marker"
  rm -f -- "$_attempt" "$_shard_report"
  _say "stage $_title done in $_spelled"
}

# _outputs_name_folder INDEX: true if a file that the stage made for other stages names files of its own
# folder by their full paths, as manifests may: moved, it has to be made again.  What experiments name is for
# people.
_outputs_name_folder() {
  local _path _begin
  [ "${_stage_at[$1]}" != "$exp" ] || return 1
  while IFS= read -r _path; do
    [ -f "$_path" ] || continue
    _begin=$(head -c 65536 -- "$_path" | tr -d '\0') || _die "cannot read $_path"
    [[ $_begin != *"${_stage_at[$1]}/"* ]] || return 0
  done <<<"${_stage_out[$1]}"
  return 1
}

_cannot_write() { _die "cannot write $1; is the disk full or read-only?"; }

# _wipe INDEX: remove the stage's outputs, each of which must lie under the stage's own folder.
_wipe() {
  local _path _top _parent
  _top=$(realpath -m -- "${_stage_at[$1]}")
  while IFS= read -r _path; do
    [ -n "$_path" ] || continue
    # the folder that holds it is resolved, not the output itself: a link goes, its target stays
    _parent=$(realpath -m -- "${_path%/*}/")
    case $_parent/${_path##*/}/ in
      "$_top"/.done/* | "$_top"/log/* | */../ | */./) _die "--fresh: $_path may not be removed" ;;
      "$_top"/?*) ;;
      *) _die "--fresh: $_path lies outside ${_stage_at[$1]}; remove it yourself if you are sure" ;;
    esac
    [ -e "$_path" ] || [ -L "$_path" ] || continue
    _shorten "$_path"
    _say "--fresh: removing $_short"
    rm -rf -- "$_path" || _die "--fresh: cannot remove $_short"
  done <<<"${_stage_out[$1]}"
}

# _failed INDEX STATUS: what failed, the tail of its log, how to go on.
_failed() {
  local _what="status $2" _tail _from=$((_begin + 1)) _line # earlier attempts are in the log, too
  _title_of "$1"
  printf 'failed with status %s, %(%F %T)T, after %s\n' "$2" -1 "$_spelled" >"$_attempt"
  if (($2 > 128)) && _line=$(kill -l "$2" 2>/dev/null); then
    _what="killed by SIG$_line"
    [ "$_line" != KILL ] || _what+=", which is often the machine running out of memory"
  fi
  _tail=$_log
  if [ -s "$_shard_report" ]; then
    # written by submit.py: which shards failed and how, then the log of the first of them
    { IFS= read -r _what && IFS= read -r _tail; } <"$_shard_report"
    _from=1
  fi
  _shorten "$_tail"
  if _wants_colour 2; then
    _complain $'\e[31m'"stage $_title failed: $_what."$'\e[m'" The end of $_short:"
  else
    _complain "stage $_title failed: $_what. The end of $_short:"
  fi
  tail -c "+$_from" -- "$_tail" | tail -n 25 | sed 's/^/    | /' >&2
  _resume_command "$1"
  _finished=true
  _complain "to resume: $_resume"
  exit "$2"
}

# _stopped INDEX: after a signal; ends the run with 128 + its number, as a shell does.
_stopped() {
  local _number
  _title_of "$1"
  printf 'stopped by SIG%s, %(%F %T)T, after %s\n' "$_signal" -1 "$_spelled" >"$_attempt"
  _number=$(kill -l "$_signal")
  _resume_command "$1"
  _finished=true
  _complain "stage $_title stopped by SIG$_signal and is not done; to resume: $_resume"
  exit "$((128 + _number))"
}

# _resume_command INDEX: set _resume to the call that goes on from this stage, all other options kept.
_resume_command() {
  local _kept=() _i _word _stage="${_stage_number[$1]}"
  for ((_i = 0; _i < ${#_arguments[@]}; _i++)); do
    _word=${_arguments[_i]}
    case $_word in
      --stage | --fresh) _i=$((_i + 1)) ;;
      --stage=* | --fresh=*) ;;
      *) _kept+=("$_word") ;;
    esac
  done
  _shorten "$0"
  _quote bash "$_short" "${_kept[@]}" --stage "$_stage"
  _resume=$_quoted
}

# _spell_seconds N: set _spelled, "12 s", "3 min 5 s" or "2 h 10 min 0 s"; exact, as programs read it, too.
_spell_seconds() {
  if (($1 < 60)); then
    _spelled="$1 s"
  elif (($1 < 3600)); then
    _spelled="$(($1 / 60)) min $(($1 % 60)) s"
  else
    _spelled="$(($1 / 3600)) h $(($1 % 3600 / 60)) min $(($1 % 60)) s"
  fi
}

# Find or make the Python environment. Only here: --help, --status and --dry-run never come so far.
# First as a job, which a signal can stop while it downloads; the second call finds what the first one made.
_load_environment() {
  local _status=0 _fd
  [ -f "$_root/path.sh" ] || return 0
  _job_group=starting
  set -m
  (
    set +m
    trap - INT TERM HUP PIPE EXIT
    for _fd in "${_locks[@]}"; do exec {_fd}>&-; done # set-up has a lock of its own and writes nothing here
    # shellcheck source=/dev/null
    . "$_root/path.sh"
  ) </dev/null &
  _await_job "$!"
  _job_group=
  if [ -n "$_signal" ]; then exit "$((128 + $(kill -l "$_signal")))"; fi
  [ "$_status" = 0 ] || _die "the environment is not ready (path.sh: status $_status), so nothing was run"
  # shellcheck source=/dev/null
  . "$_root/path.sh"
}

# At the end of run.sh, however it comes.
_on_exit() {
  local _status=$?
  [ "$BASHPID" = "$$" ] || return 0
  trap '' INT TERM HUP PIPE # it is over anyway, and this is short
  _unlock_all
  if [ "$_finished" = false ]; then
    if [ -n "$_signal" ]; then
      _complain "stopped by SIG$_signal"
    elif [ "$_status" != 0 ]; then
      _complain "stopped with status $_status outside of any stage; the lines above say why"
    elif ((${#_stage_number[@]})); then
      _complain "the recipe declares stages but never calls run_stages, so nothing was run"
      exit 1
    fi
  fi
}
