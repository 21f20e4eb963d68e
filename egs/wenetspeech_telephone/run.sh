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

tag=nano         # name of the experiment: its folder is EXP_DIR/TAG
wenetspeech=     # WenetSpeech.json, beside its audio; or [KIND=]PATH of other wideband speech
real_data=       # [KIND=]PATH of recorded calls: a Kaldi directory, a manifest, calls=FOLDER
base_model=      # folder of Fun-ASR-Nano-2512, with config.yaml and model.pt
max_utterances=  # take so many of the wideband speech; empty for all that is selected
mix=default      # channels: default, china or north_america (conf/telephone.yaml)
keywords=        # words of the business, one a line, for KWER; default the frequent ones of training
nj=0             # processes of stage 0; 0 means one for each core
accelerator=auto # auto, gpu or cpu
devices=-1       # ranks on this machine: -1 means all GPUs, or one CPU process
num_nodes=1      # machines of the training; several need a --cmd
gpus_per_node=2  # processes of the training on each machine, for a --cmd
# --help-all shows these as well
calls=              # the same as --real-data
tokenizer=          # folder of the LLM's tokenizer; default BASE_MODEL/Qwen3-0.6B
noise=              # [KIND=]PATH of recordings of noise, separated by spaces
seed=17             # of the simulated channels, the divisions and the training
test=false          # stage 0 alone, 50 utterances of each set, to DATA_DIR/stage0-test
settings=           # more KEY=VALUE settings of stage 0 (conf/stage0.yaml), separated by spaces
start_from=previous # what a stage starts from: previous (the stage before) or base
train_conf=         # more ++KEY=VALUE settings of all three trainings, separated by spaces
encoder_conf=       # more of stage 1; the learning rates are in conf/fun_asr_nano_8k/
adaptor_conf=       # more of stage 2
lora_conf=          # more of stage 3
test_set=           # messages lines to score on; default half of the dev calls
tune=500            # utterances of dev on which the weight of the joint decoding is chosen
mode=joint          # of the decoding: joint, llm or ctc; for a model without CTC weights llm
decode_conf=        # more options of nest_ssl.bin.decode, separated by spaces
parse_options "$@"

# The set of stages 1 and 2 and that of stage 3. Half of the dev lines of each is a test set that no training
# looks at: the calls are what is scored; of the simulated speech, base and last stage are scored too.
real_data=${real_data:-$calls}
near=$data/stage0/simulated near_heldout=$data/heldout_simulated
domain=$data/stage0/real heldout=$data/heldout
[ -n "$wenetspeech" ] || near=$domain
[ -n "$real_data" ] || domain=$near
[ "$near" != "$domain" ] || near_heldout=$heldout
test_set=${test_set:-$heldout/test.jsonl}
decoded=("$exp"/decode/{base,encoder,adaptor,lora}.jsonl) near_systems=()
scored=("$exp"/{scores.json,utterances.jsonl}) pages=("$exp"/{SCORES.md,alignments.txt})
if [ "$near" != "$domain" ]; then
  decoded+=("$exp"/decode/{base,lora}_simulated.jsonl) near_systems=(base lora)
  scored+=("$exp"/{scores_simulated.json,utterances_simulated.jsonl})
  pages+=("$exp"/{SCORES_simulated.md,alignments_simulated.txt})
fi
# shellcheck source=egs/wenetspeech_telephone/local/stages.sh
. "$recipe/local/stages.sh" # checks the options, and has the functions behind each --
conf=$root/conf/fun_asr_nano_8k from_encoder=$exp/encoder/model from_adaptor=$exp/adaptor/model
[ "$start_from" = previous ] || from_encoder=$base_model from_adaptor=$base_model

if [ "$test" = true ]; then
  stage 0 test_data at:"$data" "${sources[@]/#/in:}" in:"$root"/conf/{stage0,telephone}.yaml \
    out:"$data"/stage0-test/{STAGE0_REPORT.html,funasr_limits.yaml} -- prepare_data "${prepare_words[@]}"
else
  stage 0 data at:"$data" "${sources[@]/#/in:}" in:"$root"/conf/{stage0,telephone}.yaml \
    out:"$data"/stage0/{STAGE0_REPORT.{html,json},funasr_limits.yaml} out:{"$near","$domain"}/train.jsonl \
    out:"$heldout"/{dev,tune,test}.jsonl out:"$near_heldout"/{dev,test,test_metadata}.jsonl \
    -- prepare_and_hold_out "${prepare_words[@]}"
fi
if [ -n "$base_model" ] && [ "$test" = false ]; then
  stage 1 encoder in:"$base_model"/{config.yaml,model.pt} \
    in:"$near/train.jsonl" in:"$near_heldout/dev.jsonl" out:"$exp/encoder" out:"$exp/encoder/model/model.pt" \
    -- finetune encoder "$conf/stage1_encoder_adapt.yaml" "$base_model" \
    --train "$near/train.jsonl" --valid "$near_heldout/dev.jsonl" "${train_words[@]}" "${encoder_words[@]}"
  stage 2 adaptor in:"$from_encoder"/{config.yaml,model.pt} \
    in:"$near/train.jsonl" in:"$near_heldout/dev.jsonl" out:"$exp/adaptor" out:"$exp/adaptor/model/model.pt" \
    -- finetune adaptor "$conf/stage2_adaptor_align.yaml" "$from_encoder" \
    --train "$near/train.jsonl" --valid "$near_heldout/dev.jsonl" "${train_words[@]}" "${adaptor_words[@]}"
  stage 3 lora in:"$from_adaptor"/{config.yaml,model.pt} \
    in:"$domain/train.jsonl" in:"$heldout/dev.jsonl" out:"$exp/lora" out:"$exp/lora/model/model.pt" \
    -- finetune lora "$conf/stage3_lora_domain.yaml" "$from_adaptor" \
    --train "$domain/train.jsonl" --valid "$heldout/dev.jsonl" "${train_words[@]}" "${lora_words[@]}"
  stage 4 decode in:"$test_set" in:"$near_heldout/test.jsonl" in:"$heldout/tune.jsonl" \
    in:"$base_model/model.pt" in:"$exp"/{lora,adaptor,encoder}/model/model.pt "${decoded[@]/#/out:}" \
    -- decode base="$base_model" encoder="$exp/encoder/model" adaptor="$exp/adaptor/model" \
    lora="$exp/lora/model"
  stage 5 score in:"$test_set" in:"$near_heldout/test.jsonl" "${decoded[@]/#/in:}" \
    ${keywords:+in:"$keywords"} "${scored[@]/#/out:}" "${pages[@]/#/out:}" -- score
  stage 6 report "${scored[@]/#/in:}" in:"$data/stage0/STAGE0_REPORT.json" \
    out:"$exp"/{RESULTS.md,report.html} -- report
fi
run_stages
