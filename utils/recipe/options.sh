# Options of a recipe, read from the lines of run.sh between `. utils/recipe.sh` and `parse_options`.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # the parts of the layer share its variables

_option_names=() _option_help=() # of the recipe
_option_defaults=() _option_rare=()
_opt_stage='' _opt_stop_stage='' _opt_cmd='' _opt_fresh=() # of the layer
_opt_force=false _opt_dry_run=false _opt_status=false
_layer_values=(stage stop_stage fresh cmd)
_layer_flags=(force dry_run status help help_all)
data='' exp=''       # folders of this run, set by parse_options
declare -A _given=() # options of the recipe that the call gives

# parse_options "$@": set every option, then data, exp, on_cpu and on_gpu.
parse_options() {
  _recipe_file=${BASH_SOURCE[1]}
  local _folder=${_recipe_file%/*}
  [ "$_folder" != "$_recipe_file" ] || _folder=.
  _folder=$(CDPATH='' cd -- "$_folder" && pwd)
  _arguments=("$@")
  _read_options
  _add_option tag default "name of the experiment: its folder is EXP_DIR/TAG"
  _add_option data_dir "$_folder/data" "folder of the data, shared by all tags"
  _add_option exp_dir "$_folder/exp" "folder of the experiments"
  trap _on_exit EXIT
  trap '_on_signal INT' INT
  trap '_on_signal TERM' TERM
  trap '_on_signal HUP' HUP
  trap '_on_signal PIPE' PIPE
  _read_words "$@"

  # shellcheck disable=SC2154  # tag, data_dir and exp_dir are set by _add_option or by the recipe
  case $tag in
    '' | .* | -* | */* | *$'\n'*)
      _usage_error "--tag '$tag' cannot name a folder: it needs a name without / and without . or - in front"
      ;;
  esac
  exp=$(realpath -ms -- "${exp_dir:-$_folder/exp}")/$tag
  [ "$_opt_status" = false ] || _take_last_options
  data=$(realpath -ms -- "${data_dir:-$_folder/data}")
  _opt_cmd=${_opt_cmd:-$_utils/cmd.sh}
  [ -f "$_opt_cmd" ] || _usage_error "--cmd $_opt_cmd: no such file; it would define on_cpu and on_gpu"
  _absolute _opt_cmd
  # shellcheck source=utils/cmd.sh
  . "$_opt_cmd"
  for _name in on_cpu on_gpu; do
    declare -F "$_name" >/dev/null || _usage_error "$_opt_cmd does not define $_name; see utils/cmd.sh"
  done
}

# _read_words WORD...: set the options of a call, those of the recipe also in _given.
_read_words() {
  local _name _value
  while (($#)); do
    case $1 in
      -h | --help | --help[-_]all)
        _finished=true
        trap - PIPE # `--help | head` ends as other programs do
        if [[ $1 == *all ]]; then _print_help true; else _print_help false; fi
        exit 0
        ;;
      --?*) ;;
      *) _usage_error "unexpected argument '$1'; options are written --name VALUE or --name=VALUE" ;;
    esac
    _name=${1#--}
    _name=${_name%%=*}
    _name=${_name//-/_}
    if _is_one_of "$_name" "${_layer_flags[@]}"; then
      [[ $1 != *=* ]] || _usage_error "--${_name//_/-} takes no value: '$1'"
      printf -v "_opt_$_name" %s true
      shift
      continue
    fi
    _is_one_of "$_name" "${_option_names[@]}" "${_layer_values[@]}" || _unknown_option "$_name"
    if [[ $1 == *=* ]]; then
      _value=${1#*=}
      shift
    else
      if (($# < 2)) || [[ $2 == --* ]]; then
        _usage_error "--${_name//_/-} needs a value (--${_name//_/-}=VALUE if it begins with --)"
      fi
      _value=$2
      shift 2
    fi
    _set_option "$_name" "$_value"
  done
}

# _set_option NAME VALUE: a boolean is true or false, of which the default tells.
_set_option() {
  local _i
  case $1 in
    stage | stop_stage | fresh | cmd) ;;
    *) _given[$1]=$2 ;;
  esac
  case $1 in
    fresh) _opt_fresh+=("$2") ;;
    stage | stop_stage | cmd)
      [ -n "$2" ] || _usage_error "--${1//_/-} needs a value"
      printf -v "_opt_$1" %s "$2"
      ;;
    *)
      for _i in "${!_option_names[@]}"; do
        [ "${_option_names[_i]}" = "$1" ] || continue
        case ${_option_defaults[_i]}:$2 in
          true:true | true:false | false:true | false:false) ;;
          true:* | false:*) _usage_error "--${1//_/-} is true or false, not '$2'" ;;
        esac
      done
      printf -v "$1" %s "$2"
      ;;
  esac
}

# _add_option NAME DEFAULT MEANING: an option of every recipe, unless the recipe declared it itself.
_add_option() {
  if ! _is_one_of "$1" "${_option_names[@]}"; then
    printf -v "$1" %s "$2"
    _option_names+=("$1") _option_help+=("$3") _option_defaults+=("$2") _option_rare+=(false)
  fi
}

# Read the option block: NAME=DEFAULT  # MEANING, or the meaning in comment lines right above.
# Behind a comment that begins with --help-all come the options that --help leaves out.
_read_options() {
  local _line _before='' _inside=false _rare=false _number=0 _name _rest _meaning
  local _assignment='^([a-z][a-z0-9_]*)=(.*)$'
  local _commented='^("[^"]*"|'\''[^'\'']*'\''|[^"'\'']*[^"'\''[:space:]])?[[:space:]]+#[[:space:]]*(.*)$'
  while IFS= read -r _line || [ -n "$_line" ]; do
    _number=$((_number + 1))
    case $_line in
      parse_options*) break ;;
      *recipe.sh*)
        if [[ $_line =~ ^(\.|source)[[:space:]] ]]; then _inside=true; fi
        continue
        ;;
    esac
    [ "$_inside" = true ] || continue
    if [[ $_line =~ ^#[[:space:]]*--help-all ]]; then
      _rare=true _before=
      continue
    elif [[ $_line =~ ^#[[:space:]]*(.*)$ ]]; then
      _before+=${_before:+ }${BASH_REMATCH[1]}
      continue
    elif [[ $_line =~ $_assignment ]]; then
      _name=${BASH_REMATCH[1]} _rest=${BASH_REMATCH[2]} _meaning=$_before
      if [[ $_rest =~ $_commented ]]; then
        _rest=${BASH_REMATCH[1]} _meaning=${BASH_REMATCH[2]}
      fi
      _check_option "$_name" "$_rest" "$_meaning" "$_script:$_number"
      _option_names+=("$_name") _option_help+=("$_meaning") _option_defaults+=("${!_name}")
      _option_rare+=("$_rare")
    fi
    _before=
  done <"$_recipe_file"
}

# _check_option NAME TEXT MEANING WHERE: refuse declarations that would surprise whoever runs the recipe.
_check_option() {
  local _text=$2 _used
  local _environment='\$\{[A-Za-z_][A-Za-z0-9_]*:?[-=]' _variable='\$\{?([A-Za-z_][A-Za-z0-9_]*)'
  if _is_one_of "$1" "${_layer_values[@]}" "${_layer_flags[@]}" data exp h; then
    _usage_error "$4: the name '$1' belongs to the recipe layer; call the option something else"
  elif _is_one_of "$1" "${_option_names[@]}"; then
    _usage_error "$4: option '$1' is declared twice"
  elif [ -z "$3" ]; then
    _usage_error "$4: an assignment above parse_options is an option and needs a comment: $1=...  # meaning"
  elif [[ $_text =~ $_environment ]]; then
    _usage_error "$4: the default of '$1' comes from the environment; options come from the command line only"
  fi
  while [[ $_text =~ $_variable ]]; do
    _used=${BASH_REMATCH[1]}
    if _is_one_of "$_used" "$1" "${_option_names[@]}" tag data_dir exp_dir data exp; then
      _usage_error "$4: '$1' is computed from '$_used' before options are parsed; fill it below parse_options"
    fi
    _text=${_text#*"${BASH_REMATCH[0]}"}
  done
}

# one_of NAME VALUE VALUE...: for a recipe, to refuse any other value of an option.
one_of() {
  local _others
  ! _is_one_of "${!1}" "${@:2}" || return 0
  printf -v _others '%s, ' "${@:2:$#-2}"
  _usage_error "--${1//_/-} ${!1}: ${_others%, } or ${!#}"
}

# numbers NAME...: the same for options that are numbers; one may be empty where its default is.
numbers() {
  local _name _i _may_be_empty
  for _name in "$@"; do
    _may_be_empty=false
    for _i in "${!_option_names[@]}"; do
      [[ ${_option_names[_i]} != "$_name" || -n ${_option_defaults[_i]} ]] || _may_be_empty=true
    done
    [[ ${!_name}$_may_be_empty == true || ${!_name} =~ ^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$ ]] ||
      _usage_error "--${_name//_/-} is a number, not '${!_name}'"
  done
}

_is_one_of() {
  local _word
  for _word in "${@:2}"; do
    [ "$_word" = "$1" ] && return 0
  done
  return 1
}

_unknown_option() {
  _nearest "$1" "${_option_names[@]}" "${_layer_values[@]}" "${_layer_flags[@]}"
  local _hint="--help lists the options"
  [ -z "$_near" ] || _hint="did you mean --${_near//_/-}? $_hint"
  _usage_error "unknown option --${1//_/-}; $_hint"
}

# _nearest WORD CANDIDATE...: set _near to the candidate fewest edits away, or to nothing when all are far.
_nearest() {
  local _word=$1 _candidate _best=99 _i _j _cost _corner _above
  local -a _row
  _near=
  for _candidate in "${@:2}"; do
    for ((_j = 0; _j <= ${#_candidate}; _j++)); do _row[_j]=$_j; done
    for ((_i = 1; _i <= ${#_word}; _i++)); do
      _corner=${_row[0]} _row[0]=$_i
      for ((_j = 1; _j <= ${#_candidate}; _j++)); do
        _above=${_row[_j]} _cost=1
        [ "${_word:_i-1:1}" != "${_candidate:_j-1:1}" ] || _cost=0
        _cost=$((_corner + _cost))
        ((_above + 1 >= _cost)) || _cost=$((_above + 1))
        ((_row[_j - 1] + 1 >= _cost)) || _cost=$((_row[_j - 1] + 1))
        _row[_j]=$_cost _corner=$_above
      done
    done
    _cost=${_row[${#_candidate}]}
    # a word cut short ("stat" for "status", "steps" for "max_steps") is nearer than its edits say
    if [[ ${#_word} -ge 3 && $_candidate == *"$_word"* ]]; then _cost=1; fi
    if ((_cost < _best)); then _best=$_cost _near=$_candidate; fi
  done
  ((_best < ${#_word} && (_best <= 2 || _best * 3 <= ${#_word}))) || _near=
}

# _print_help EVERYTHING: the header of run.sh, its options and those of the layer, its stages.
_print_help() {
  local _everything=$1 _left_out=0 _i _line _list _prose='' _stages=()
  local _declaration='^[[:space:]]*stage[[:space:]]+([0-9]+)[[:space:]]+([a-z][a-z0-9_-]*)[[:space:]]'
  _shorten "$0"
  _quote "$_short"
  printf 'Usage: bash %s [options]\n\n' "$_quoted"
  while IFS= read -r _line; do
    case $_line in
      '#!'*) continue ;;
      '#' | '#  '*) ;; # a paragraph ends; indented lines stay as they are
      '#'*)
        _prose+=" ${_line#\# }"
        continue
        ;;
      *) break ;;
    esac
    [ -z "$_prose" ] || _fold '' '' "$_prose"
    _prose=''
    _line=${_line#\#}
    printf '%s\n' "${_line# }"
  done <"$_recipe_file"
  [ -z "$_prose" ] || _fold '' '' "$_prose"
  printf '\nOptions of this recipe:\n'
  for _i in "${!_option_names[@]}"; do
    _shorten "${_option_defaults[_i]}"
    _list=${_option_help[_i]}${_short:+ [$_short]}
    _help_line "${_option_rare[_i]}" "--${_option_names[_i]//_/-} VALUE" "$_list"
  done
  printf '\nOptions of every recipe:\n'
  _help_line false "--stage STAGE" "start here, with this stage run even if it is done; a number or a name"
  _help_line false "--stop-stage STAGE" "stop after this stage"
  _help_line false "--force" "run every stage of the range even if it is done"
  _help_line true "--fresh STAGE" "remove what this stage has made before running it (may be given again)"
  _help_line false "--dry-run" "print what would run and why, touch nothing"
  _help_line false "--status" "print the table of stages, touch nothing"
  _help_line true "--cmd FILE" "take on_cpu and on_gpu from FILE [utils/cmd.sh]"
  _list="this; --help-all prints $_left_out more options"
  if [ "$_everything" = true ]; then _list="the usual options; --help-all prints these"; fi
  _help_line false "-h, --help" "print $_list"
  while IFS= read -r _line; do
    if [[ $_line =~ $_declaration ]]; then _stages+=("${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"); fi
  done <"$_recipe_file"
  printf -v _list ', %s' "${_stages[@]}"
  printf '\n'
  _fold '' '  ' "Stages: ${_list#, }"
}

# _help_line RARE OPTION MEANING
_help_line() {
  local _begin
  if [[ $1$_everything == truefalse ]]; then
    _left_out=$((_left_out + 1))
    return 0
  fi
  printf -v _begin '  %-22s ' "$2"
  _fold "$_begin" "${_begin//?/ }" "$3"
}

# _fold BEGIN INDENT TEXT: print the text in lines that fit the terminal; a longer word has a line of its own.
_fold() {
  local _line=$1 _space='' _word _words
  read -r -a _words <<<"$3"
  _width_of_terminal
  for _word in "${_words[@]}"; do
    if [[ -n $_space ]] && ((${#_line} + 1 + ${#_word} > _width)); then
      printf '%s\n' "$_line"
      _line=$2 _space=''
    fi
    _line+=$_space$_word _space=' '
  done
  printf '%s\n' "$_line"
}
