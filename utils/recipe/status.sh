# What --status and --dry-run print. Both only read.
# shellcheck shell=bash
# shellcheck disable=SC2154  # the parts of the layer share its variables

_print_status() {
  local _i _shown_state _detail _line
  _shorten "$data"
  printf 'data %s\n' "$_short"
  _shorten "$exp"
  printf 'exp  %s\n' "$_short"
  for _i in "${!_stage_number[@]}"; do
    _describe "$_i"
    printf '%3s %-12s %s\n' "${_stage_number[_i]}" "${_stage_name[_i]}" "$_shown_state${_detail:+ $_detail}"
    [ "$_state" = stale ] || continue
    for _line in "${_changes[@]}"; do printf '%25s %s\n' '' "$_line"; done
  done
}

# _describe INDEX: set _shown_state and _detail of the caller.
_describe() {
  _examine "$1"
  _attempt_of "$1"
  _log_of "$1"
  _read_lock "${_stage_at[$1]}"
  _detail=$_why _shown_state=$_state
  if [[ $_holder_state == @(alive|elsewhere) && $_holder_stage == "stage $_title" ]]; then
    _shown_state=running
    _detail="pid $_holder_pid on $_holder_host, since $_holder_since"
    _last_step "$1"
    [ -z "$_step" ] || _detail="$_step ($_detail)"
  elif [[ $_state != @(done|stale) && -s $_attempt ]]; then
    _shown_state=failed
    _shorten "$_log"
    _detail="$(<"$_attempt"); log $_short"
  elif [ "$_state" = needs ]; then
    _shown_state=missing
    _detail=${_why#"stage $_title "}
  elif [ "$_state" = absent ]; then
    _shown_state=missing _detail=
  fi
  [ -z "$_detail" ] || printf -v _shown_state '%-8s' "$_shown_state"
}

# _last_step INDEX: set _step from the last line of the train.log in or beside the stage's outputs.
_last_step() {
  local _path _file _line _word
  _step=
  while IFS= read -r _path; do
    for _file in "$_path/train.log" "${_path%/*}/train.log"; do
      [[ -n $_path && -s $_file ]] || continue
      _line=$(tail -n 1 -- "$_file")
      for _word in step epoch loss eta; do
        if [[ $_line =~ [[:space:]]"$_word "([^[:space:]]+) ]]; then _step+=" $_word ${BASH_REMATCH[1]}"; fi
      done
      _step=${_step# }
      return 0
    done
  done <<<"${_stage_out[$1]}"
}

_print_plan() {
  local _i _will=() _path _command
  for ((_i = _from; _i <= _to; _i++)); do
    _will[_i]=false
    _examine "$_i"
    _quote "${_stage_words[@]:_stage_first[_i]:_stage_count[_i]}"
    _command=$_quoted
    if [ "$_state" = needs ]; then
      if [[ -z $_maker || ${_will[_maker]-false} == false ]]; then
        _say "stage $_title cannot run: ${_why#"stage $_title "}"
        return 0
      fi
      _shorten "$_needed"
      _will[_i]=true
      _say "stage $_title would run once stage ${_stage_number[_maker]} has made $_short"
    elif [ "${_forced[_i]}" = true ]; then
      _will[_i]=true
      _say "stage $_title would run, as asked"
    elif [ "$_state" != "done" ]; then
      _will[_i]=true
      _say "stage $_title would run: $_why"
      ((${#_changes[@]} == 0)) || printf '    %s\n' "${_changes[@]}"
    else
      _plan_done "$_i"
      continue
    fi
    while IFS= read -r _path; do
      _shorten "$_path"
      if [ "${_fresh[_i]}" = true ] && [ -e "$_path" ]; then printf '    first removing %s\n' "$_short"; fi
    done <<<"${_stage_out[_i]}"
    printf '    %s\n' "$_command"
  done
}

# _plan_done INDEX: a finished stage runs again only if an earlier one that runs changes its inputs.
_plan_done() {
  local _j _path _made
  for ((_j = _from; _j < $1; _j++)); do
    [ "${_will[_j]}" != false ] || continue
    while IFS= read -r _made; do
      while IFS= read -r _path; do
        [[ -n $_path && -n $_made && ($_path == "$_made" || $_path == "$_made"/*) ]] || continue
        _will[$1]=maybe
        _shorten "$_path"
        _title_of "$_j"
        _made=$_title
        _title_of "$1"
        _say "stage $_title is done; would run if stage $_made changes $_short"
        return 0
      done <<<"${_stage_in[$1]}"
    done <<<"${_stage_out[_j]}"
  done
  _say "stage $_title already done, would be skipped"
}
