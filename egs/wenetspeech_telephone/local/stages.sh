# What the stages of run.sh do, in their order, and the words of their commands: sourced by it once options
# and sets are known.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # run.sh reads what is set here, and sets what is read here

[ -z "$calls" ] || [ "$calls" = "$real_data" ] ||
  usage_error "--calls $calls and --real-data $real_data are the same option; give one"
asks_only=false
for word in "$@"; do
  case $word in --status | --dry[-_]run) asks_only=true ;; esac
done
[ -n "$wenetspeech$real_data" ] || [ "$asks_only" = true ] ||
  usage_error "give --wenetspeech PATH/WenetSpeech.json, --real-data [KIND=]PATH, or both (README.md)"
numbers max_utterances nj num_nodes gpus_per_node seed tune
one_of start_from previous base
one_of accelerator auto gpu cpu
one_of mode joint llm ctc
[ "$num_nodes" = 1 ] || [ "${one_machine-}" != true ] ||
  usage_error "--num-nodes $num_nodes needs a --cmd, such as --cmd conf/slurm.sh (docs/cluster.md)"
if [ -n "$base_model" ]; then
  base_model=$(realpath -ms -- "$base_model")
  tokenizer=${tokenizer:-$base_model/Qwen3-0.6B}
elif [ "$test" = false ]; then
  echo "run.sh: without --base-model DIR only stage 0, the data, can be made"
fi

for needed in "$keywords" "$test_set" "${base_model:+$base_model/model.pt}"; do
  [ -z "$needed" ] || [ -s "$needed" ] || [ "$needed" = "$heldout/test.jsonl" ] || [ "$asks_only" = true ] ||
    usage_error "$needed, which a later stage reads, is missing or empty"
done

read -ra noises <<<"$noise"
read -ra more <<<"$settings"
sources=()
prepare_words=(--out "$data/stage0" --seed "$seed" --mix "$mix" --workers "$nj")
[ -z "$wenetspeech" ] || prepare_words+=(--simulated "$wenetspeech") sources+=("${wenetspeech#*=}")
[ -z "$real_data" ] || prepare_words+=(--real "$real_data") sources+=("${real_data#*=}")
[ -z "$tokenizer" ] || prepare_words+=(--tokenizer "$tokenizer")
[ "$test" = false ] || prepare_words+=(--test)
for word in "${noises[@]}"; do prepare_words+=(--noise-manifest "$word"); done
[ -z "$max_utterances" ] || prepare_words+=(sets.simulated.max_utterances="$max_utterances")
prepare_words+=("${more[@]}")
out=$data/stage0
[ "$test" = false ] || out=$data/stage0-test

prepare_data() {
  python3 -m nest_ssl.bin.prepare "$@"
  python3 -m nest_ssl.bin.prepare --check "$out"
}

prepare_and_hold_out() {
  prepare_data "$@"
  python3 "$recipe/local/hold_out.py" --set "$domain" --out "$heldout" --tune "$tune" --seed "$seed"
  [ "$near" = "$domain" ] ||
    python3 "$recipe/local/hold_out.py" --set "$near" --out "$near_heldout" --seed "$seed"
}

read -ra all_words <<<"$train_conf"
read -ra encoder_words <<<"$encoder_conf"
read -ra adaptor_words <<<"$adaptor_conf"
read -ra lora_words <<<"$lora_conf"
train_words=(++seed="$seed" ++train_conf.num_nodes="$num_nodes" ++train_conf.devices="$devices"
  ++train_conf.accelerator="$accelerator" "${all_words[@]}")

# finetune PART CONFIG MODEL WORDS...: through on_gpu, so that --cmd decides where.
finetune() {
  local part=$1 config=$2 model=$3
  shift 3
  on_gpu "$exp/log/$part-train.log" \
    python3 -m nest_ssl.bin.finetune --part "$part" --config "$config" --model "$model" \
    --out "$exp/$part" "$@"
}

read -ra decode_words <<<"$decode_conf"

# single_rows_failed STATUS FILE: after a decoding; its status 3 says so, and the score counts such rows.
single_rows_failed() {
  [ "$1" = 3 ] || return "$1"
  echo "WARNING: some utterances of $2 could not be decoded; they will count as deleted"
}

# decode_set MODEL MESSAGES NAME OPTION...: writes decode/NAME.jsonl
decode_set() {
  local num_nodes=1 gpus_per_node=1 # read by on_gpu of --cmd: a decoding takes one GPU
  on_gpu "$exp/log/decode-$3.log" \
    python3 -m nest_ssl.bin.decode --model "$1" --messages "$2" --mode "$mode" \
    --out "$exp/decode/$3.jsonl" --fresh-if-changed "${@:4}" "${decode_words[@]}" ||
    single_rows_failed $? "$exp/decode/$3.jsonl"
}

# decode NAME=MODEL...: one process each; the weight of CTC is chosen for each model, on dev of the domain.
decode() {
  local pair name weight choose=() take=()
  for pair in "$@"; do
    name=${pair%%=*} weight=$exp/decode/${pair%%=*}.weight.json
    [ "$mode" != joint ] || choose=(--tune-on "$heldout/tune.jsonl" --weight-out "$weight")
    [ "$mode" != joint ] || take=(--ctc-weight "$weight")
    decode_set "${pair#*=}" "$test_set" "$name" "${choose[@]}"
    case " ${near_systems[*]} " in
    *" $name "*) decode_set "${pair#*=}" "$near_heldout/test.jsonl" "${name}_simulated" "${take[@]}" ;;
    esac
  done
}

title="Fun-ASR-Nano on telephone speech ($tag)"
systems=(base encoder adaptor lora)
keyword_words=(--keywords-from "$domain/train.jsonl")
[ -z "$keywords" ] || keyword_words=(--keywords "$keywords")

score() {
  score_set '' "$test_set" "${systems[@]}"
  [ "${#near_systems[@]}" = 0 ] || score_set _simulated "$near_heldout/test.jsonl" "${near_systems[@]}"
}

# score_set SUFFIX MESSAGES SYSTEM...
score_set() {
  local name hypotheses=() channels=()
  for name in "${@:3}"; do hypotheses+=("$name=$exp/decode/$name$1.jsonl"); done
  [ -z "$1" ] || channels=(--metadata "$near_heldout/test_metadata.jsonl")
  python3 -m nest_ssl.bin.score --hypotheses "${hypotheses[@]}" --references "$2" --baseline base \
    --seed "$seed" "${keyword_words[@]}" "${channels[@]}" --json "$exp/scores$1.json" \
    --utterances "$exp/utterances$1.jsonl" --alignments "$exp/alignments$1.txt" --out "$exp/SCORES$1.md" \
    --title "$title${1:+, ${1#_} test set}" \
    --note "Made by egs/wenetspeech_telephone/run.sh; test set $2, seed $seed, start from $start_from"
}

report() {
  local example=()
  [ -z "$wenetspeech" ] || [ ! -s "$near/work/train.jsonl" ] ||
    example=(--channel-example "$near/work/train.jsonl" "$near/audio/train.jsonl")
  python3 -m nest_ssl.bin.report "$exp" --title "$title" --data-report "$data/stage0/STAGE0_REPORT.json" \
    "${example[@]}"
}
