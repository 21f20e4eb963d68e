#!/usr/bin/env bash
# NEST pre-training on real telephone prompts, from nothing, on a CPU.
#
# Fetches the Asterisk prompts (five languages, two hours, Debian packages or the upstream releases), sends
# them through simulated telephone channels, makes manifests, and pre-trains a small NEST FastConformer.
# Follow a run with: tail -f egs/asterisk/exp/small/pretrain/train.log

set -euo pipefail
recipe=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=${recipe%/egs/*}
# shellcheck source=utils/recipe.sh
. "$root/utils/recipe.sh"

tag=small             # name of the experiment: its folder is EXP_DIR/TAG
nj=2                  # processes of the data stages
deb_dir=              # folder with the Debian packages, for a machine without network
tarball_dir=          # folder with the upstream releases (.tar.gz), for one without network and apt
seed=17               # of the simulated channels, the split and the training
dev=0.05              # share of the prompts held out to watch the training
test=0.05             # share of the prompts held out for the end
min_duration=0.5      # seconds; shorter prompts are dropped
max_duration=20       # seconds; longer prompts are dropped
max_steps=2000        # optimiser steps of the pre-training
batch_duration=10     # seconds of audio in a batch, for each rank
accelerator=cpu       # cpu, or gpu: then take --devices -1 and a longer batch
devices=2             # ranks of the pre-training: one process each; -1 means all GPUs
pretrain_conf=        # more KEY=VALUE settings of the pre-training, separated by spaces
parse_options "$@"

fetch_and_prepare() {
  local from=()
  [ -z "$deb_dir" ] || from+=(--deb-dir "$deb_dir")
  [ -z "$tarball_dir" ] || from+=(--tarball-dir "$tarball_dir")
  python3 "$recipe/local/fetch.py" --downloads "$data/downloads" --out "$data/archives.json" "${from[@]}"
  python3 "$recipe/local/prepare_data.py" --archives "$data/archives.json" --out "$data" --jobs "$nj"
}

simulate() {
  local what=(--manifest "$data/prompts.jsonl" --noise-manifest "$data/noise.jsonl" --out "$data/telephone")
  what+=(--seed "$seed" --split-seed "$seed") # babble comes from prompts of the same split
  # --force: a changed setting of this recipe makes the speech anew; unchanged ones go on where they stopped
  on_cpu JOB=1:"$nj" "$data/log/simulate.JOB.log" \
    python3 -m nest_ssl.bin.simulate "${what[@]}" --force --shard JOB/"$nj"
  python3 -m nest_ssl.bin.simulate "${what[@]}" --merge
}

make_manifests() {
  python3 -m nest_ssl.bin.manifest --in "$data/prompts.jsonl" --in "$data/telephone.jsonl" \
    --out-dir "$data/manifests" --split-by key --dev "$dev" --test "$test" --seed "$seed" \
    --min-duration "$min_duration" --max-duration "$max_duration"
  python3 -m nest_ssl.bin.manifest --sample-rate 16000 --decode \
    --check "$data"/manifests/{train,dev,test}.jsonl
}

# One thread a process: two ranks with one thread each are faster than one with two, and do not stall on a
# machine that has other work.
pretrain() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    python3 -m nest_ssl.bin.pretrain --config "$root/conf/nest_fast-conformer.yaml" "$@"
}

# NEST at a size that learns in minutes. Against NVIDIA's setting: frames of 40 ms instead of 80 and masks of
# 50 ms instead of 400, for prompts of a second; 256 codes instead of 8192, for two hours of speech; no
# dropout, for a few epochs; fewer utterances with a second speaker in them, since the channel adds noise.
settings=(
  exp_manager.explicit_log_dir="$exp/pretrain"
  exp_manager.checkpoint_callback_params.filename='step-{step}'
  exp_manager.checkpoint_callback_params.auto_insert_metric_name=false
  exp_manager.checkpoint_callback_params.every_n_train_steps=100
  exp_manager.checkpoint_callback_params.always_save_nemo=false
  model.train_ds.manifest_filepath="$data/manifests/train.jsonl"
  model.train_ds.min_duration="$min_duration"
  model.train_ds.batch_size=null
  +model.train_ds.batch_duration="$batch_duration"
  model.train_ds.num_workers=0
  model.train_ds.batch_augmentor.prob=0.2
  model.validation_ds.manifest_filepath="$data/manifests/dev.jsonl"
  model.validation_ds.min_duration="$min_duration"
  model.validation_ds.num_workers=0
  model.validation_ds.batch_augmentor.prob=0.0
  model.num_classes=256
  model.masking.block_size=5
  model.masking.mask_prob=0.08
  model.encoder.subsampling_factor=4
  model.encoder.subsampling_conv_channels=16
  model.encoder.n_layers=4
  model.encoder.d_model=96
  model.encoder.n_heads=4
  model.encoder.xscaling=false
  model.encoder.dropout=0.0
  model.encoder.dropout_pre_encoder=0.0
  model.encoder.dropout_att=0.0
  model.optim.lr=0.2
  model.optim.sched.warmup_steps=100
  trainer.accelerator="$accelerator"
  trainer.devices="$devices"
  trainer.seed="$seed"
  trainer.max_steps="$max_steps"
  trainer.gradient_clip_val=5.0
  trainer.val_check_interval=500
  trainer.log_every_n_steps=50
)
read -ra more <<<"$pretrain_conf"

stage 0 data at:"$data" \
  out:"$data/prompts.jsonl" out:"$data/prompts_gsm.jsonl" out:"$data/prompts_wav8k.jsonl" \
  out:"$data/noise.jsonl" out:"$data/local/report.json" \
  -- fetch_and_prepare
stage 1 simulate at:"$data" in:"$data/prompts.jsonl" in:"$data/noise.jsonl" in:"$root/conf/telephone.yaml" \
  out:"$data/telephone" out:"$data/telephone.jsonl" \
  -- simulate
stage 2 manifests at:"$data" in:"$data/prompts.jsonl" in:"$data/telephone.jsonl" \
  out:"$data/manifests/train.jsonl" out:"$data/manifests/dev.jsonl" out:"$data/manifests/test.jsonl" \
  -- make_manifests
stage 3 pretrain in:"$data/manifests/train.jsonl" in:"$data/manifests/dev.jsonl" \
  out:"$exp/pretrain" out:"$exp/pretrain/final.nemo" \
  -- pretrain "${settings[@]}" "${more[@]}"
run_stages
