#!/usr/bin/env bash
# Fun-ASR-Nano on 8 kHz telephone speech, adapted in three stages and scored on recorded calls.
#
#   bash egs/wenetspeech_telephone/run.sh --wenetspeech WenetSpeech.json --real-data calls=FOLDER \
#     --base-model Fun-ASR-Nano-2512
#
# 0 makes the data, 1 to 3 train encoder, adaptor with CTC, and LoRA of the language model, 4 to 6 decode,
# score and write EXP_DIR/TAG/RESULTS.md and report.html. Without --base-model only the data are made. Try
# stage 0 on 50 utterances first:
#
#   bash egs/wenetspeech_telephone/local/test_data_prep.sh --wenetspeech ... --tokenizer DIR

set -euo pipefail
recipe=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=${recipe%/egs/*}
# shellcheck source=utils/recipe.sh
. "$root/utils/recipe.sh"

tag=nano            # name of the experiment: its folder is EXP_DIR/TAG
wenetspeech=        # WenetSpeech.json, beside its audio folder; or [KIND=]PATH of other wideband speech
real_data=          # [KIND=]PATH of recorded calls: a Kaldi directory, a manifest, calls=FOLDER
calls=              # the same as --real-data
base_model=         # folder of Fun-ASR-Nano-2512, with config.yaml and model.pt
tokenizer=          # folder of the LLM's tokenizer; default BASE_MODEL/Qwen3-0.6B
max_utterances=     # take so many of the wideband speech; empty for all that is selected
mix=default         # channels to draw from: default, china, north_america (conf/telephone.yaml)
noise=              # [KIND=]PATH of recordings of noise, separated by spaces
seed=17             # of the simulated channels, the divisions and the training
nj=0                # processes of stage 0; 0 means one for each core
test=false          # stage 0 alone, 50 utterances of each set, to DATA_DIR/stage0-test
settings=           # more KEY=VALUE settings of stage 0 (conf/stage0.yaml), separated by spaces
start_from=previous # what a stage starts from: previous (the stage before) or base
num_nodes=1         # machines of the training; several need a --cmd
gpus_per_node=2     # processes of the training on each machine, for a --cmd
accelerator=auto    # auto, gpu or cpu
devices=-1          # ranks on this machine without a cluster: -1 means all GPUs, or one CPU process
train_conf=         # more ++KEY=VALUE settings of all three trainings, separated by spaces
encoder_conf=       # more of stage 1; the learning rates are in conf/fun_asr_nano_8k/
adaptor_conf=       # more of stage 2
lora_conf=          # more of stage 3
test_set=           # messages lines to score on; default half of the dev calls
tune=500            # utterances of dev on which the weight of the joint decoding is chosen
mode=joint          # of the decoding: joint, llm or ctc; for a model without CTC weights llm
decode_conf=        # more options of nest_ssl.bin.decode, separated by spaces
keywords=           # words of the business, one a line, for KWER; default the frequent terms of the training
parse_options "$@"

asks_only=false
for word in "$@"; do
  case $word in --status | --dry-run) asks_only=true ;; esac
done
wrong() {
  echo "run.sh: $*" >&2
  exit 2
}
[ -z "$calls" ] || [ -z "$real_data" ] || [ "$calls" = "$real_data" ] ||
  wrong "--calls $calls and --real-data $real_data are the same option; give one"
real_data=${real_data:-$calls}
if [ -z "$wenetspeech$real_data" ] && [ "$asks_only" = false ]; then
  wrong "give --wenetspeech PATH/WenetSpeech.json, --real-data [KIND=]PATH, or both (README.md)"
fi
case $start_from in previous | base) ;; *) wrong "--start-from $start_from: previous or base" ;; esac
case $accelerator in auto | gpu | cpu) ;; *) wrong "--accelerator $accelerator: auto, gpu or cpu" ;; esac
case $mode in joint | llm | ctc) ;; *) wrong "--mode $mode: joint, llm or ctc" ;; esac
if [ "$num_nodes" != 1 ] && [ "${one_machine-}" = true ]; then
  wrong "--num-nodes $num_nodes needs a --cmd, such as --cmd conf/slurm.sh (docs/cluster.md)"
fi
if [ -z "$base_model" ]; then
  [ "$test" = true ] || echo "run.sh: without --base-model DIR only stage 0, the data, can be made"
else
  base_model=$(realpath -ms -- "$base_model")
  tokenizer=${tokenizer:-$base_model/Qwen3-0.6B}
fi

# The sets: what stages 1 and 2 train on, what stage 3 trains on, and whose dev lines are divided once more.
near=$data/stage0/simulated domain=$data/stage0/real heldout=$data/heldout
[ -n "$wenetspeech" ] || near=$domain
[ -n "$real_data" ] || domain=$near
# Half of the dev lines, of calls and of simulated ones, is a test set that no training looks at.
near_heldout=$data/heldout_simulated
[ "$near" != "$domain" ] || near_heldout=$heldout

words=(--out "$data/stage0" --seed "$seed" --mix "$mix" --workers "$nj")
inputs=()
out=$data/stage0
[ -z "$wenetspeech" ] || words+=(--simulated "$wenetspeech") inputs+=(in:"${wenetspeech#*=}")
[ -z "$real_data" ] || words+=(--real "$real_data") inputs+=(in:"${real_data#*=}")
[ -z "$tokenizer" ] || words+=(--tokenizer "$tokenizer")
[ "$test" = false ] || words+=(--test) out=$data/stage0-test
read -ra kinds <<<"$noise"
for kind in "${kinds[@]}"; do words+=(--noise-manifest "$kind"); done
[ -z "$max_utterances" ] || words+=(sets.simulated.max_utterances="$max_utterances")
read -ra more <<<"$settings"

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

# finetune PART CONFIG MODEL WORDS...: through on_gpu, so that --cmd decides where.
finetune() {
  local part=$1 config=$2 model=$3
  shift 3
  on_gpu "$exp/log/$part-train.log" \
    python3 -m nest_ssl.bin.finetune --part "$part" --config "$config" --model "$model" \
    --out "$exp/$part" "$@"
}

# single_rows_failed STATUS FILE: after a decoding; its status 3 says so, and the score counts such rows.
single_rows_failed() {
  [ "$1" = 3 ] || return "$1"
  echo "WARNING: some utterances of $2 could not be decoded; they will count as deleted"
}

# decode_set MODEL MESSAGES NAME OPTION...: writes decode/NAME.jsonl
decode_set() {
  # shellcheck disable=SC2034  # read by on_gpu of --cmd: a decoding takes one GPU
  local num_nodes=1 gpus_per_node=1
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

title="Fun-ASR-Nano on telephone speech ($tag)"
test_set=${test_set:-$heldout/test.jsonl}
keyword_words=(--keywords-from "$domain/train.jsonl")
[ -z "$keywords" ] || keyword_words=(--keywords "$keywords")
read -ra decode_words <<<"$decode_conf"
read -ra all_words <<<"$train_conf"
read -ra encoder_words <<<"$encoder_conf"
read -ra adaptor_words <<<"$adaptor_conf"
read -ra lora_words <<<"$lora_conf"
common=(++seed="$seed" ++train_conf.num_nodes="$num_nodes" ++train_conf.devices="$devices"
  ++train_conf.accelerator="$accelerator" "${all_words[@]}")
conf=$root/conf/fun_asr_nano_8k
from_encoder=$exp/encoder/model from_adaptor=$exp/adaptor/model
[ "$start_from" = previous ] || from_encoder=$base_model from_adaptor=$base_model
systems=(base encoder adaptor lora)
models=(base="$base_model" encoder="$exp/encoder/model" adaptor="$exp/adaptor/model" lora="$exp/lora/model")
near_systems=() # those that decode simulated calls too, where these are not the test set already
[ "$near" = "$domain" ] || near_systems=(base lora)
outputs=() hypotheses=() scored=() told=()
for name in "${systems[@]}" "${near_systems[@]/%/_simulated}"; do
  outputs+=(out:"$exp/decode/$name.jsonl") hypotheses+=(in:"$exp/decode/$name.jsonl")
done
for suffix in '' ${near_systems:+_simulated}; do
  told+=(in:"$exp/scores$suffix.json" in:"$exp/utterances$suffix.jsonl")
  scored+=(out:"$exp/scores$suffix.json" out:"$exp/utterances$suffix.jsonl"
    out:"$exp/SCORES$suffix.md" out:"$exp/alignments$suffix.txt")
done

stage_0_in=("${inputs[@]}" in:"$root/conf/stage0.yaml" in:"$root/conf/telephone.yaml")
if [ "$test" = true ]; then
  stage 0 test_data at:"$data" "${stage_0_in[@]}" \
    out:"$data/stage0-test/STAGE0_REPORT.html" out:"$data/stage0-test/funasr_limits.yaml" \
    -- prepare_data "${words[@]}" "${more[@]}"
else
  stage 0 data at:"$data" "${stage_0_in[@]}" out:"$data/stage0/STAGE0_REPORT.html" \
    out:"$data/stage0/funasr_limits.yaml" out:"$near/train.jsonl" out:"$domain/train.jsonl" \
    out:"$heldout/dev.jsonl" out:"$heldout/tune.jsonl" out:"$heldout/test.jsonl" \
    out:"$near_heldout/dev.jsonl" out:"$near_heldout/test.jsonl" out:"$near_heldout/test_metadata.jsonl" \
    -- prepare_and_hold_out "${words[@]}" "${more[@]}"
fi
if [ -n "$base_model" ] && [ "$test" = false ]; then
  stage 1 encoder in:"$base_model/config.yaml" in:"$base_model/model.pt" \
    in:"$near/train.jsonl" in:"$near_heldout/dev.jsonl" out:"$exp/encoder" out:"$exp/encoder/model/model.pt" \
    -- finetune encoder "$conf/stage1_encoder_adapt.yaml" "$base_model" \
    --train "$near/train.jsonl" --valid "$near_heldout/dev.jsonl" "${common[@]}" "${encoder_words[@]}"
  stage 2 adaptor in:"$from_encoder/config.yaml" in:"$from_encoder/model.pt" \
    in:"$near/train.jsonl" in:"$near_heldout/dev.jsonl" out:"$exp/adaptor" out:"$exp/adaptor/model/model.pt" \
    -- finetune adaptor "$conf/stage2_adaptor_align.yaml" "$from_encoder" \
    --train "$near/train.jsonl" --valid "$near_heldout/dev.jsonl" "${common[@]}" "${adaptor_words[@]}"
  stage 3 lora in:"$from_adaptor/config.yaml" in:"$from_adaptor/model.pt" \
    in:"$domain/train.jsonl" in:"$heldout/dev.jsonl" \
    out:"$exp/lora" out:"$exp/lora/model/model.pt" \
    -- finetune lora "$conf/stage3_lora_domain.yaml" "$from_adaptor" \
    --train "$domain/train.jsonl" --valid "$heldout/dev.jsonl" "${common[@]}" "${lora_words[@]}"
  stage 4 decode in:"$test_set" in:"$near_heldout/test.jsonl" in:"$heldout/tune.jsonl" \
    in:"$base_model/model.pt" \
    in:"$exp/lora/model/model.pt" in:"$exp/adaptor/model/model.pt" in:"$exp/encoder/model/model.pt" \
    "${outputs[@]}" \
    -- decode "${models[@]}"
  stage 5 score in:"$test_set" in:"$near_heldout/test.jsonl" "${hypotheses[@]}" "${scored[@]}" -- score
  stage 6 report "${told[@]}" in:"$data/stage0/STAGE0_REPORT.json" out:"$exp/RESULTS.md" \
    out:"$exp/report.html" -- report
fi
run_stages
