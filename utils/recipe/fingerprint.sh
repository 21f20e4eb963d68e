# What a stage depends on, one fact per line, so that a difference can be shown as it is.
# nest_ssl/report/markers.py reads these facts, for the verbs status and report.
# shellcheck shell=bash
# shellcheck disable=SC2154  # the parts of the layer share its variables

_whole_digest_bytes=$((64 * 1024 * 1024)) # of larger inputs size and time count: hashing takes seconds

# _gather_facts INDEX: set _facts, every line ended.
_gather_facts() {
  local _words=("${_stage_words[@]:_stage_first[$1]:_stage_count[$1]}")
  local _files=() _labels=() _path _seen=$'\n'
  _facts=
  _command_facts "${_words[@]}"
  _function_facts "${_words[@]}"
  while IFS= read -r _path; do
    if [ -n "$_path" ]; then _files+=("$_path") _labels+=("input $_path"); fi
  done <<<"${_stage_in[$1]}"
  ((${#_files[@]} == 0)) || _digest_facts
  _name_places "$_facts"
  _facts=$_named
}

# _name_places TEXT: set _named to TEXT with @exp@, @data@ and @checkout@ in place of these folders, so that
# facts stay the same when one of them is moved or copied.
_name_places() {
  local _folders=("$exp" "$data" "$_root") _marks=('@exp@' '@data@' '@checkout@') _round _i _longest _rest
  _named=$1
  for _round in 1 2 3; do
    _longest=0 # first: a folder may lie in another of the three
    for _i in 1 2; do ((${#_folders[_i]} <= ${#_folders[_longest]})) || _longest=$_i; done
    ((${#_folders[_longest]} > 1)) || return 0
    _rest=$_named _named=
    while [[ $_rest == *"${_folders[_longest]}"* ]]; do
      _named+=${_rest%%"${_folders[_longest]}"*}
      _rest=${_rest#*"${_folders[_longest]}"}
      # not within a longer path or name
      if [[ $_named == *[A-Za-z0-9_./-] || $_rest == [A-Za-z0-9_.-]* ]]; then
        _named+=${_folders[_longest]}
      else
        _named+=${_marks[_longest]}
      fi
    done
    _named+=$_rest _folders[_longest]=''
  done
}

# _quote_named WORD...: _quote with the places named first, as whether a folder needs quotes is no fact.
_quote_named() {
  local _words=() _word _named
  for _word in "$@"; do
    _name_places "$_word"
    _words+=("$_named")
  done
  _quote "${_words[@]}"
}

# _show_places TEXT: set _shown to TEXT with the folders that stand for @exp@, @data@ and @checkout@ here.
_show_places() {
  _shown=${1//'@exp@'/"$exp"}
  _shown=${_shown//'@data@'/"$data"}
  _shown=${_shown//'@checkout@'/"$_root"}
}

# The command's words; an option and its value make one fact.
_command_facts() {
  local _previous='' _word
  for _word in "$@"; do
    [ "$_previous" != -m ] || _settings_file "$_root/${_word//.//}.py"
    _settings_file "${_word#*=}"
    _previous=$_word
  done
  while (($#)); do
    if [[ $1 == -* && $1 != *=* && $# -gt 1 && $2 != -* ]]; then
      _quote_named "$1" "$2"
      shift
    else
      _quote_named "$1"
    fi
    _facts+="command $_quoted"$'\n'
    shift
  done
}

# _settings_file PATH: count the file if it is code or settings of this checkout and not made by the recipe.
# The file of `python -m MODULE`, say, holds the defaults of its options.
_settings_file() {
  local _file=$1
  case $_file in *.py | *.sh | *.yaml | *.yml) ;; *) return 0 ;; esac
  [[ $_file == /* || -f $_file ]] || _file=$_root/$_file
  _absolute _file
  [[ -f $_file && $_file == "$_root"/* && $_file != "$data"/* && $_file != "$exp"/* ]] || return 0
  [[ $_seen != *$'\n'"$_file"$'\n'* ]] || return 0
  _seen+=$_file$'\n'
  _files+=("$_file") _labels+=("settings $_file")
}

# _files_in_text TEXT: the same for what a shell text names, as -m MODULE or as "$recipe/local/prepare.py".
_files_in_text() {
  local _text=$1 _file _name
  while [[ $_text =~ [[:space:]]-m[[:space:]]+([A-Za-z_][A-Za-z0-9_.]*)(.*) ]]; do
    _text=${BASH_REMATCH[2]}
    _settings_file "$_root/${BASH_REMATCH[1]//.//}.py"
  done
  _text=$1
  while [[ $_text =~ ([A-Za-z0-9_.\$\{\}/-]+\.(py|sh|yaml|yml))(.*) ]]; do
    _file=${BASH_REMATCH[1]} _text=${BASH_REMATCH[3]}
    # "$root/conf/x.yaml" or "${recipe}/local/x.py": one variable in front is what recipes write
    if [[ $_file =~ ^\$\{?([a-z][A-Za-z0-9_]*)\}?(/.*)$ ]]; then
      _name=${BASH_REMATCH[1]}
      _file=${!_name-}${BASH_REMATCH[2]}
    fi
    _settings_file "$_file"
  done
}

# The text of the shell functions that the command calls, and the values of the variables they read.
_function_facts() {
  local _queue=("$@") _next _word _text _line _known _more _names=' '
  _known=$(compgen -A function) # one list: asking for every word of a text would take a process each
  _known=$'\n'$_known$'\n'
  for ((_next = 0; _next < ${#_queue[@]}; _next++)); do
    _word=${_queue[_next]}
    [[ $_known == *$'\n'"$_word"$'\n'* && $_names != *" $_word "* ]] || continue
    # how a scheduler is called is no part of what a stage makes
    case $_word in _* | on_cpu | on_gpu | stage | run_stages | parse_options) continue ;; esac
    _names+="$_word "
    _text=$(declare -f "$_word")
    while IFS= read -r _line; do
      while [[ $_line == ' '* ]]; do _line=${_line# }; done
      [ -z "$_line" ] || _facts+="function $_word: $_line"$'\n'
    done <<<"$_text"
    _variable_facts "$_text"
    read -r -d '' -a _more <<<"${_text//[^A-Za-z0-9_-]/ }" || true # read calls the end of the text a failure
    _queue+=("${_more[@]}")
    _files_in_text "$_text"
  done
}

# Lower-case names: those of the recipe. Upper case belongs to the shell and the environment. By custom nj is
# the number of parallel processes, which is no part of what a stage makes either.
_variable_facts() {
  local _text=$1 _name _all
  while [[ $_text =~ \$\{?[#!]?([a-z][A-Za-z0-9_]*)(.*) ]]; do
    _name=${BASH_REMATCH[1]} _text=${BASH_REMATCH[2]}
    [ "$_name" != nj ] || continue
    _all="${_name}[@]" # also right for a plain variable; nothing for one that is not set
    _quote_named "${!_all}"
    [[ $_facts == *"variable $_name ="* ]] || _facts+="variable $_name = $_quoted"$'\n'
  done
}

# Digests of _files under _labels: one stat and one sha256sum for all of them.
_digest_facts() {
  local _i _stats _digests _sizes _line _hashed=() _hashes=() _next=0 _listing
  _stats=$(stat -L -c '%s size %s, changed %.9Y' -- "${_files[@]}") || _die "cannot read the file named above"
  mapfile -t _sizes <<<"$_stats"
  for _i in "${!_files[@]}"; do
    if [ ! -d "${_files[_i]}" ] && ((${_sizes[_i]%% *} <= _whole_digest_bytes)); then
      _hashed+=("${_files[_i]}")
    fi
  done
  if ((${#_hashed[@]})); then
    _digests=$(sha256sum -- "${_hashed[@]}") || _die "cannot read the file named above"
    mapfile -t _hashes <<<"$_digests"
  fi
  for _i in "${!_files[@]}"; do
    if [ -d "${_files[_i]}" ]; then
      _listing=$(find -H "${_files[_i]}" -type f -printf '%P %s %T@\n' | LC_ALL=C sort | sha256sum) ||
        _die "cannot list ${_files[_i]}"
      _line="listing ${_listing:0:32}"
    elif ((${_sizes[_i]%% *} <= _whole_digest_bytes)); then
      _line=${_hashes[_next]#\\} # sha256sum puts a backslash before a digest whose file name it had to escape
      _line="sha256 ${_line:0:32}"
      _next=$((_next + 1))
    else
      _line=${_sizes[_i]#* }
    fi
    _facts+="${_labels[_i]} = $_line"$'\n'
  done
}

# _compare_facts OLD NEW: set _changes, lines "was: FACT", "now: FACT" and, for a digest, "changed: FILE".
_compare_facts() {
  local -A _count=() _digest_of=()
  local _line _old _new _was=() _now=() _shown
  mapfile -t _old <<<"$1"
  mapfile -t _new <<<"${2%$'\n'}"
  for _line in "${_new[@]}"; do _count[" $_line"]=$((${_count[" $_line"]:-0} + 1)); done
  for _line in "${_old[@]}"; do
    if ((${_count[" $_line"]:-0})); then
      _count[" $_line"]=$((${_count[" $_line"]} - 1))
    elif [[ $_line == input\ * || $_line == settings\ * ]]; then
      _digest_of[${_line% = *}]=was
    else
      _was+=("$_line")
    fi
  done
  for _line in "${_new[@]}"; do
    ((${_count[" $_line"]})) || continue
    _count[" $_line"]=$((${_count[" $_line"]} - 1))
    if [[ $_line != input\ * && $_line != settings\ * ]]; then
      _now+=("$_line")
    elif [ -n "${_digest_of[${_line% = *}]-}" ]; then
      _digest_of[${_line% = *}]=changed
    else
      _digest_of[${_line% = *}]=now
    fi
  done
  for _line in "${_was[@]/#/was: }" "${_now[@]/#/now: }"; do
    _show_places "$_line"
    _changes+=("$_shown")
  done
  for _line in "${!_digest_of[@]}"; do
    _show_places "${_line#* }"
    _shorten "$_shown"
    _changes+=("${_digest_of[$_line]}: ${_line%% *} $_short")
  done
}
