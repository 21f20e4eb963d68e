#!/usr/bin/env bash
# Is NEST a better start for CTC than random weights? Fine-tunes from both and writes the tables.
#
# Pre-trains a NEST encoder on the prompts of all languages (run.sh), or takes one; then fine-tunes it and
# the same encoder with random weights on the English prompts that have a text, several seeds each, and scores
# prompts that neither training has heard, in wideband and in the published GSM files.
#
#   bash egs/asterisk/run_ctc.sh --seeds '0 1'             # the tables are exp/ctc/CTC.md
#   tail -f egs/asterisk/exp/ctc/trials/nest-0/train.log   # to follow a trial

set -euo pipefail
recipe=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=${recipe%/egs/*}
# shellcheck source=utils/recipe.sh
. "$root/utils/recipe.sh"

tag=ctc              # name of the experiment: its folder is EXP_DIR/TAG
nj=2                 # trials side by side, one thread each
deb_dir=             # folder with the Debian packages, as for run.sh
tarball_dir=         # folder with the upstream releases, as for run.sh
nest_model=          # model to start from (.nemo, checkpoint, run); empty: pre-train one
pretrain_steps=8000  # optimiser steps of the pre-training
train_audio=wideband # of wideband gsm telephone: what to fine-tune on
label_share=1.0      # share of the training prompts whose text may be used
seeds='0 1 2'        # of weights and order, one trial from each start
updates=600          # optimiser steps of a fine-tuning
accelerator=cpu      # of pre-training and fine-tuning: cpu or gpu
# --help-all shows these as well
data_is_ready=false           # true: DATA_DIR holds the manifests of run.sh, made with this split
dev=0.05                      # share of the prompts held out to watch the training
test=0.05                     # share of the prompts held out for the end
split_seed=17                 # of that division
pretrain_conf=                # more KEY=VALUE settings of the pre-training, behind those of this recipe
tokenizer=char                # char, bpe or unigram
vocab_size=                   # pieces of the tokenizer; empty for char
finetune_conf=                # more KEY=VALUE settings of both fine-tunings, separated by spaces
nest_conf=model.optim.lr=4e-3 # settings of the fine-tuning from NEST alone; random weights learn less at it
parse_options "$@"
numbers nj pretrain_steps label_share updates dev test split_seed vocab_size
one_of accelerator auto gpu cpu
one_of tokenizer char bpe unigram
[[ $train_audio =~ ^( *(wideband|gsm|telephone)( |$))+$ ]] ||
  usage_error "--train-audio '$train_audio': wideband, gsm, telephone, or several of them in one word"
[[ $seeds =~ ^( *[0-9]+( |$))+$ ]] || usage_error "--seeds '$seeds': numbers in one word, as in '0 1 2'"
[ -z "$deb_dir" ] || [ -z "$tarball_dir" ] ||
  usage_error "--deb-dir and --tarball-dir are two ways to the same recordings; give one"

prepare_data() {
  [ "$data_is_ready" = false ] || return 0
  bash "$recipe/run.sh" --stop-stage manifests "${run_options[@]}"
}

pretrain_or_take() {
  local model=$nest_model
  if [ -z "$model" ]; then
    bash "$recipe/run.sh" --stage pretrain --stop-stage pretrain "${run_options[@]}" \
      --max-steps "$pretrain_steps" --accelerator "$accelerator" \
      --pretrain-conf "${pretraining[*]} $pretrain_conf"
    model=${exp%/*}/$tag-nest/pretrain
  fi
  python3 "$recipe/local/ctc_pretrained.py" --model "$model" --out "$exp/nest.json"
}

make_labels() {
  # shellcheck disable=SC2086  # the versions are words
  python3 "$recipe/local/make_ctc_data.py" --data "$data" --out "$exp/labels" --dev "$dev" --test "$test" \
    --split-seed "$split_seed" --train-audio $train_audio --label-share "$label_share" \
    --pretrain "$exp/nest.json"
}

make_tokenizer() {
  local size=()
  [ -z "$vocab_size" ] || size=(--vocab-size "$vocab_size")
  python3 -m nest_ssl.bin.tokenizer --manifest "$exp/labels/train.jsonl" --kind "$tokenizer" \
    --out "$exp/tokenizer" "${size[@]}"
}

finetune() {
  local model count
  model=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["model"])' "$exp/nest.json")
  read -ra count <<<"$seeds"
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    on_cpu --max-jobs-run "$nj" JOB=1:$((2 * ${#count[@]})) "$exp/log/trial.JOB.log" \
    python3 "$recipe/local/ctc_trial.py" --number JOB --seeds "$seeds" --nest "$model" \
    --labels "$exp/labels" --out "$exp/trials" --config "$root/conf/ctc_fast-conformer.yaml" \
    --nest-settings="$nest_conf" "${settings[@]}" "${more[@]}"
}

run_options=(--tag "$tag-nest" --data-dir "$data" --exp-dir "${exp%/*}" --nj "$nj")
run_options+=(--seed "$split_seed" --dev "$dev" --test "$test")
[ -z "$deb_dir" ] || run_options+=(--deb-dir "$deb_dir")
[ -z "$tarball_dir" ] || run_options+=(--tarball-dir "$tarball_dir")
[ -z "$nest_model" ] || nest_model=$(realpath -ms -- "$nest_model")
# Against the pre-training of run.sh: eight codebooks instead of one, masks of 80 ms instead of 50
# and a learning rate that rises more slowly and stays higher.
pretraining=(
  model.num_books=8
  model.masking.block_size=8
  model.masking.mask_prob=0.045
  model.optim.lr=0.45
  model.optim.sched.warmup_steps=500
)
settings=(
  model.tokenizer.dir="$exp/tokenizer"
  model.train_ds.manifest_filepath="$exp/labels/train.jsonl"
  model.validation_ds.manifest_filepath="$exp/labels/dev.jsonl"
  trainer.accelerator="$accelerator"
  trainer.devices=1
  trainer.max_steps="$updates"
  trainer.val_check_interval=100
)
read -ra more <<<"$finetune_conf"

stage 0 data out:"$data/prompts.jsonl" out:"$data/prompts_gsm.jsonl" out:"$data/manifests/train.jsonl" \
  -- prepare_data
stage 1 pretrain in:"$data/manifests/train.jsonl" in:"$data/manifests/dev.jsonl" out:"$exp/nest.json" \
  -- pretrain_or_take
stage 2 labels in:"$data/prompts.jsonl" in:"$data/prompts_gsm.jsonl" in:"$exp/nest.json" \
  out:"$exp/labels/train.jsonl" out:"$exp/labels/dev.jsonl" out:"$exp/labels/labels.json" \
  out:"$exp/labels/heldout_wideband.jsonl" out:"$exp/labels/heldout_gsm.jsonl" \
  -- make_labels
stage 3 tokenizer in:"$exp/labels/train.jsonl" out:"$exp/tokenizer" -- make_tokenizer
stage 4 finetune in:"$exp/nest.json" in:"$exp/labels/train.jsonl" in:"$exp/labels/dev.jsonl" \
  in:"$exp/tokenizer" in:"$exp/labels/heldout_wideband.jsonl" in:"$exp/labels/heldout_gsm.jsonl" \
  in:"$root/conf/ctc_fast-conformer.yaml" out:"$exp/trials" \
  -- finetune
stage 5 table in:"$exp/nest.json" in:"$exp/labels/labels.json" in:"$exp/trials" out:"$exp/CTC.md" \
  -- python3 "$recipe/local/ctc_table.py" --trials "$exp/trials" --seeds "$seeds" \
  --pretrain "$exp/nest.json" --labels "$exp/labels/labels.json" --out "$exp/CTC.md"
run_stages
