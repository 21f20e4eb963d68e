# What --status tells of the stage that runs now: its training runs, and its shards.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # the parts of the layer share its variables

_quiet_s=600 # a log without a line for so long is worth a word

# _describe_running INDEX: the part of _describe for the stage that the lock's holder is at.
_describe_running() {
  local _now _changed _begin='' _spelled
  printf -v _now '%(%s)T' -1
  _shown_state=running _note="pid $_holder_pid on $_holder_host" _at_work=$_title
  # of another machine it cannot be asked whether the process is there
  if [ "$_holder_state" = elsewhere ] && _changed=$(stat -c %Y -- "$_log" 2>/dev/null); then
    _changed=$(((_now - _changed) / 60))
    ((_changed * 60 < _quiet_s)) || _note+="; no line in its log for $_changed min: was it killed?"
  fi
  if [[ $_kept =~ started\ ([0-9: -]{19}) ]]; then _begin=${BASH_REMATCH[1]} _ended="since ${_begin#*-}"; fi
  if [ -n "$_begin" ] && _begin=$(date -d "$_begin" +%s 2>/dev/null); then
    _spell_seconds "$((_now > _begin ? _now - _begin : 0))"
    _took=$_spelled
  fi
  _shards_of "$1"
  _runs_of "$1"
}

# _runs_of INDEX: a line in _more for every train.log that the running stage has written to.
_runs_of() {
  local _logs _file _name _line _now _changed _width=0
  printf -v _now '%(%s)T' -1
  _logs=$(find "${_stage_at[$1]}" -maxdepth 4 -name train.log -newer "$_attempt" 2>/dev/null |
    LC_ALL=C sort) || true
  [ -n "$_logs" ] || return 0
  while IFS= read -r _file; do
    _name=${_file%/train.log}
    _name=${_name#"${_stage_at[$1]}"/}
    ((${#_name} <= _width)) || _width=${#_name}
  done <<<"$_logs"
  while IFS= read -r _file; do
    _name=${_file%/train.log}
    _line=$(_last_figures "$_file") || true
    _changed=$(stat -c %Y -- "$_file") || _changed=$_now
    ((_now - _changed < _quiet_s)) || _line+="; no line for $(((_now - _changed) / 60)) min"
    printf -v _line '%-*s  %s' "$_width" "${_name#"${_stage_at[$1]}"/}" "${_line:-starts}"
    _more+=("$_line")
  done <<<"$_logs"
}

# _last_figures TRAIN_LOG: print "step 70/200  35 %  loss 4.0518  val_loss 4.1055 (best 4.1012)  eta 0:02:40".
_last_figures() {
  awk '
    function field(key,   i) {
      for (i = 3; i < NF; i++) if ($i == key) return $(i + 1)
      return ""
    }
    $3 == "step" { step = $4; loss = field("loss"); eta = field("eta") }
    $3 == "validation" && $4 == "step" {
      value = field("val_loss")
      if (best == "" || value + 0 < best + 0) best = value
    }
    END {
      if (step == "") exit
      split(step, of, "/")
      line = "step " step
      if (of[2] > 0) line = line sprintf("  %d %%", 100 * of[1] / of[2])
      line = line "  loss " loss
      if (value != "") line = line "  val_loss " value (value == best ? "" : " (best " best ")")
      if (eta != "" && of[1] + 0 < of[2] + 0) line = line "  eta " eta
      print line
    }' "$1"
}

# _shards_of INDEX: a line in _more about the shards that submit.py runs for the stage now.
_shards_of() {
  local _line _total='' _logs='' _file _end _done=0 _failed=0 _here=0 _made=0 _all=0 _eta='' _unit=''
  [ -s "$_log" ] || return 0
  while IFS= read -r _line; do
    if [[ $_line =~ ^submit\.py:\ ([0-9]+)\ shards,\ .*\ logs\ (.*JOB.*)$ ]]; then
      _total=${BASH_REMATCH[1]} _logs=${BASH_REMATCH[2]}
    elif [[ $_line =~ ^submit\.py:\ [0-9]+\ of\ [0-9]+\ shards\ done\ in ]]; then
      _total=''
    fi
  done < <(tail -n 100 -- "$_log") # fails only when the log has gone meanwhile
  [ -n "$_total" ] || return 0
  for ((_line = 1; _line <= _total; _line++)); do
    _file=${_logs//JOB/$_line}
    [[ -s $_file && $_file -nt $_attempt ]] || continue
    _end=$(tail -c 4096 -- "$_file")
    if [[ $_end =~ $'\n# Finished at '[^$'\n']*' with status '([0-9]+) ]]; then
      if [ "${BASH_REMATCH[1]}" = 0 ]; then _done=$((_done + 1)); else _failed=$((_failed + 1)); fi
      continue
    fi
    _here=$((_here + 1))
    _end=${_end##*$'\n'20[0-9][0-9]-} # the last dated line
    if [[ $_end =~ \ ([a-z]+)\ ([0-9]+)/([0-9]+)\ \(.*\ eta\ ([0-9:]+) ]]; then
      _unit=${BASH_REMATCH[1]} _made=$((_made + BASH_REMATCH[2])) _all=$((_all + BASH_REMATCH[3]))
      [[ ${#BASH_REMATCH[4]} -lt ${#_eta} || ${BASH_REMATCH[4]} < $_eta ]] || _eta=${BASH_REMATCH[4]}
    fi
  done
  _line="shards $_done of $_total done, $_here running"
  ((_failed == 0)) || _line+=", $_failed failed"
  [ -z "$_unit" ] || _line+="; these at $_unit $_made of $_all, eta $_eta"
  _more+=("$_line")
}
