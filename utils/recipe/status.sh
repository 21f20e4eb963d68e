# What --status and --dry-run print. Both only read.
# shellcheck shell=bash
# shellcheck disable=SC2154  # the parts of the layer share its variables

_told_by='' # which options the states are for, where that needs a word

# _take_last_options: give a call without options of the recipe those of the last run of this tag, so that
# stages are compared with what made them.  Sets _told_by.
_take_last_options() {
  local _head='' _call='' _words=() _last _name _own=false _tag=$tag _exp_dir=$exp_dir
  [ -r "$exp/.done/.command" ] || return 0
  { IFS= read -r _head && IFS= read -r _call; } < <(tail -n 2 -- "$exp/.done/.command") || return 0
  mapfile -d '' -t _words < <(xargs printf '%s\0' <<<"$_call" 2>/dev/null)
  _words=("${_words[@]:2}") # without bash and the script
  # a call that cannot be read any more, say as the recipe has lost an option since, is none
  _last=$(_options_of_call "${_words[@]}" 2>/dev/null) || return 0
  for _name in "${!_given[@]}"; do
    [[ $_name == @(tag|data_dir|exp_dir) ]] || _own=true
  done
  if [ "$_own" = true ]; then
    _quote_given
    [ "$_quoted" = "$_last" ] || _told_by="the options given now; the last run had ${_last:-none}"
    return 0
  fi
  _read_words "${_words[@]}"
  [[ -z $data_dir || $data_dir == /* ]] || data_dir=/${_head#* in /}/$data_dir # it was relative to there
  _opt_stage='' _opt_stop_stage='' _opt_fresh=()
  _read_words "${_arguments[@]}"
  tag=$_tag exp_dir=$_exp_dir
  [ -z "$_last" ] || _told_by="the options of the last run, as none are given: $_last"
}

# _options_of_call WORD...: print what _quote_given finds in another call.  A shell of its own: it may fail.
# shellcheck disable=SC2030,SC2031
_options_of_call() (
  _given=()
  _read_words "$@"
  _quote_given
  printf %s "$_quoted"
)

# _quote_given: set _quoted to the options given that are not at their default, folders and tag left out.
# shellcheck disable=SC2031
_quote_given() {
  local _i _name _value _words=()
  for _i in "${!_option_names[@]}"; do
    _name=${_option_names[_i]}
    _value=${_given[$_name]-${_option_defaults[_i]}}
    [[ $_name != @(tag|data_dir|exp_dir) && $_value != "${_option_defaults[_i]}" ]] || continue
    _words+=("--${_name//_/-}" "$_value")
  done
  _quote "${_words[@]}"
}

_print_status() {
  local _i _shown_state _ended _took _note _more _line _name_width=12 _width
  local _paint _count=0 _sum=0 _at_work='' _next=''
  _width_of_terminal
  for _i in "${_stage_name[@]}"; do ((${#_i} <= _name_width)) || _name_width=${#_i}; done
  _shorten "$data"
  printf 'data %s\n' "$_short"
  _shorten "$exp"
  printf 'exp  %s\n' "$_short"
  [ -z "$_told_by" ] || _fold 'for  ' '     ' "$_told_by"
  printf '    %-*s %-8s %-20s %14s\n' "$_name_width" stage state ended took
  for _i in "${!_stage_number[@]}"; do
    _describe "$_i"
    _paint_of "$_shown_state"
    if ((${#_note} > 36)); then _more=("$_note" "${_more[@]}") _note=''; fi
    printf -v _line '%-20s %14s  %s' "$_ended" "$_took" "$_note"
    while [[ $_line == *' ' ]]; do _line=${_line% }; done
    printf -v _shown_state "%-$((${#_line} ? 8 : 0))s" "$_shown_state"
    printf "%3s %-*s %s%s%s" "${_stage_number[_i]}" "$_name_width" "${_stage_name[_i]}" \
      "$_paint" "$_shown_state" "${_paint:+$'\e[m'}"
    printf '%s\n' "${_line:+ $_line}"
    for _line in "${_more[@]}"; do
      ((${#_line} + 6 <= _width)) || _line=${_line:0:_width-9}...
      printf '      %s\n' "$_line"
    done
  done
  _spell_seconds "$_sum"
  _line="$_count of ${#_stage_number[@]} stages done"
  ((_count == 0)) || _line+=", $_spelled of work"
  if [ -n "$_at_work" ]; then
    _line+="; running: $_at_work"
  elif [ -n "$_next" ]; then
    _line+="; next: $_next"
  fi
  printf '%s\n' "$_line"
}

# _paint_of STATE: set _paint, nothing unless a person looks on at a terminal.
_paint_of() {
  _paint=
  _wants_colour 1 || return 0
  case $1 in
    'done') _paint=$'\e[32m' ;;
    running) _paint=$'\e[1;36m' ;;
    stale | stopped) _paint=$'\e[33m' ;;
    failed) _paint=$'\e[1;31m' ;;
    *) _paint=$'\e[2m' ;;
  esac
}

# _describe INDEX: set _shown_state, _ended, _took, _note and the lines _more of the caller; add to its sums.
_describe() {
  local _kept='' _seconds
  _examine "$1"
  _attempt_of "$1"
  _log_of "$1"
  _read_lock "${_stage_at[$1]}"
  _shown_state=$_state _ended='' _took='' _note='' _more=()
  if [ -s "$_attempt" ]; then _kept=$(<"$_attempt"); fi
  if [[ $_holder_state == @(alive|elsewhere) && $_holder_stage == "stage $_title" ]]; then
    _describe_running "$1"
  elif [ -f "$_marker" ]; then # done or stale, or with an input that has gone since
    _kept=$(tail -n 1 -- "$_marker")
    if [[ $_kept =~ ^#\ (.*),\ took\ (.*)$ ]]; then _ended=${BASH_REMATCH[1]} _took=${BASH_REMATCH[2]}; fi
    _seconds_of "$_took"
    if [ "$_state" = "done" ]; then
      _count=$((_count + 1)) _sum=$((_sum + _seconds))
    elif [ "$_state" = needs ]; then
      _shorten "$_needed"
      _shown_state=stale _note="its input $_short is missing or empty"
      [ -n "$_maker" ] || _next=${_next:-$_title}
    else
      _note="it ${_why#it }" _next=${_next:-$_title}
      _note=${_note/#it its/its}
      _note=${_note/#it changed/changed}
      _more=("${_changes[@]:0:8}")
      ((${#_changes[@]} <= 8)) || _more+=("... and $((${#_changes[@]} - 8)) more; --dry-run shows them all")
    fi
  elif [ -n "$_kept" ]; then
    _shown_state=failed _next=${_next:-$_title}
    [[ $_kept != interrupted* && $_kept != stopped* ]] || _shown_state=stopped
    if [[ $_kept =~ ^(.*),\ ([0-9: -]{19})(,\ after\ (.*))?$ ]]; then
      _note=${BASH_REMATCH[1]} _ended=${BASH_REMATCH[2]} _took=${BASH_REMATCH[4]}
    elif [[ $_kept =~ ^(interrupted)\;\ it\ started\ (.*)$ ]]; then
      _note="killed; begun ${BASH_REMATCH[2]}"
    else
      _note=$_kept
    fi
    _note=${_note#"$_shown_state" }
    _note=${_note#with }
    _shorten "$_log"
    _more+=("log $_short")
  elif [ "$_state" = needs ]; then
    _shown_state=missing
    if [ -n "$_maker" ]; then
      _note="waits for stage ${_stage_number[_maker]} (${_stage_name[_maker]})"
    else
      _next=${_next:-$_title}
      _more=("${_why#"stage $_title "}")
    fi
  else
    _shown_state=missing _next=${_next:-$_title}
  fi
}

# _seconds_of WORDS: set _seconds from what _spell_seconds has spelled.
_seconds_of() {
  local _words _word _number=0
  _seconds=0
  read -r -a _words <<<"$1"
  for _word in "${_words[@]}"; do
    case $_word in
      h) _seconds=$((_seconds + 3600 * _number)) ;;
      min) _seconds=$((_seconds + 60 * _number)) ;;
      s) _seconds=$((_seconds + _number)) ;;
      *[!0-9]*) return 0 ;;
      *) _number=$_word ;;
    esac
  done
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
