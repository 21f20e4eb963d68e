#!/usr/bin/env bash
# NEST pre-training at real scale: LibriSpeech (960 h), if wanted Libri-Light (up to 60,000 h), noise from
# MUSAN and RIRS_NOISES, a Large or XLarge FastConformer on 8 GPUs or more nodes.
#
#   bash egs/librispeech/run.sh --librilight small
#   bash egs/librispeech/run.sh --cmd conf/slurm.sh --num-nodes 4 --nj 64   # on a Slurm cluster

set -euo pipefail
recipe=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=${recipe%/egs/*}
# shellcheck source=utils/recipe.sh
. "$root/utils/recipe.sh"

tag=large             # name of the experiment: its folder is EXP_DIR/TAG
train="train-clean-100 train-clean-360 train-other-500" # parts of LibriSpeech to train on
librilight=           # parts of Libri-Light to add: small, medium, large; separated by spaces
noise="musan rirs"    # corpora of noise; empty for none
corpora_dir=          # folder with LibriSpeech/, musan/, ... if you have them; default DATA_DIR/corpora
offline=false         # load nothing: all archives or corpora are here
telephone=false       # add a version of the training speech that went through simulated telephone channels
config=large          # size of the model: small, medium, large, xlarge, xxlarge
num_nodes=1           # machines of the pre-training; several need a --cmd
# shellcheck disable=SC2034  # read by the file of --cmd
gpus_per_node=8       # processes of the pre-training on each machine, for a --cmd
accelerator=gpu       # gpu or cpu
devices=-1            # ranks on this machine without a cluster: -1 means all GPUs
batch_duration=400    # seconds of audio in a batch, for each GPU
max_steps=500000      # optimiser steps
# --help-all shows these as well
archive_dir=          # folder of the archives, where those you have are found; default DATA_DIR/downloads
site=                 # address to load all archives from instead of their publishers'
keep_archives=true    # false: remove each archive once it is unpacked
nj=16                 # shards of the simulation
seed=17               # of the simulated channels and the training
min_duration=1        # seconds; shorter utterances are dropped
max_duration=36       # seconds; longer ones are dropped, and Libri-Light is cut to this
precision=bf16        # bf16 or 32
num_workers=8         # reading processes of each GPU
pretrain_conf=        # more KEY=VALUE settings of the pre-training, separated by spaces
parse_options "$@"

numbers num_nodes gpus_per_node batch_duration max_steps nj seed min_duration max_duration num_workers
one_of config small medium large xlarge xxlarge
one_of accelerator auto gpu cpu
one_of precision bf16 32
[ "$num_nodes" = 1 ] || [ "${one_machine-}" != true ] ||
  usage_error "--num-nodes $num_nodes needs a --cmd, such as --cmd conf/slurm.sh (docs/cluster.md)"
corpora=${corpora_dir:-$data/corpora}
downloads=${archive_dir:-$data/downloads}
read -ra parts <<<"$train $librilight dev-clean dev-other test-clean test-other $noise"
case $config in
  small) size=(model.encoder.d_model=176 model.encoder.n_heads=4 model.encoder.n_layers=16) ;;
  medium) size=(model.encoder.d_model=256 model.encoder.n_heads=4 model.encoder.n_layers=16) ;;
  large) size=() ;;
  xlarge) size=(model.encoder.d_model=1024 model.encoder.n_layers=24 model.encoder.use_bias=false) ;;
  xxlarge) size=(model.encoder.d_model=1024 model.encoder.n_layers=42 model.encoder.use_bias=false
    model.encoder.conv_kernel_size=5) ;;
esac

fetch() {
  local how=()
  [ -z "$site" ] || how+=(--site "$site")
  [ "$offline" = false ] || how+=(--offline)
  [ "$keep_archives" = true ] || how+=(--remove-archives)
  python3 "$recipe/local/fetch.py" --corpora "$corpora" --downloads "$downloads" --out "$data/corpora.json" \
    "${how[@]}" "${parts[@]}"
}

make_manifests() {
  python3 "$recipe/local/make_manifests.py" --corpora "$data/corpora.json" --out "$data/manifests" \
    --min-duration "$min_duration" --max-duration "$max_duration"
  python3 -m nest_ssl.bin.manifest --sample-rate 16000 --check "$data"/manifests/{train,dev,test}.jsonl
}

simulate() {
  local what=(--manifest "$data/manifests/train.jsonl" --out "$data/telephone" --seed "$seed")
  [ -z "$noise" ] || what+=(--noise-manifest "$data/manifests/noise.jsonl")
  # --force: a changed setting of this recipe makes the speech anew; unchanged ones go on where they stopped
  on_cpu JOB=1:"$nj" "$data/log/simulate.JOB.log" \
    python3 -m nest_ssl.bin.simulate "${what[@]}" --force --shard JOB/"$nj"
  python3 -m nest_ssl.bin.simulate "${what[@]}" --merge
  cat "$data/manifests/train.jsonl" "$data/telephone.jsonl" >"$data/train_telephone.jsonl"
}

# Through on_gpu, so that --cmd decides where: here all GPUs of this machine, on a cluster one rank per GPU.
pretrain() {
  on_gpu "$exp/log/pretrain.log" \
    python3 -m nest_ssl.bin.pretrain --config "$root/conf/nest_fast-conformer.yaml" "$@"
}

train_manifest=$data/manifests/train.jsonl
[ "$telephone" = false ] || train_manifest=$data/train_telephone.jsonl
noise_manifest=null
[ -z "$noise" ] || noise_manifest=$data/manifests/noise.jsonl
settings=(
  exp_manager.explicit_log_dir="$exp/pretrain"
  exp_manager.checkpoint_callback_params.filename='step-{step}'
  exp_manager.checkpoint_callback_params.auto_insert_metric_name=false
  exp_manager.checkpoint_callback_params.every_n_train_steps=1000
  exp_manager.checkpoint_callback_params.always_save_nemo=false
  model.train_ds.manifest_filepath="$train_manifest"
  model.train_ds.noise_manifest="$noise_manifest"
  model.train_ds.min_duration="$min_duration"
  model.train_ds.batch_size=null
  +model.train_ds.batch_duration="$batch_duration"
  model.train_ds.num_workers="$num_workers"
  model.validation_ds.manifest_filepath="$data/manifests/dev.jsonl"
  model.validation_ds.noise_manifest="$noise_manifest"
  model.validation_ds.min_duration="$min_duration"
  model.validation_ds.num_workers="$num_workers"
  trainer.accelerator="$accelerator"
  trainer.devices="$devices"
  trainer.num_nodes="$num_nodes"
  trainer.precision="$precision"
  trainer.seed="$seed"
  trainer.max_steps="$max_steps"
)
read -ra more <<<"$pretrain_conf"

stage 0 fetch at:"$data" out:"$data/corpora.json" -- fetch
stage 1 manifests at:"$data" in:"$data/corpora.json" \
  out:"$data/manifests/train.jsonl" out:"$data/manifests/dev.jsonl" out:"$data/manifests/test.jsonl" \
  -- make_manifests
if [ "$telephone" = true ]; then
  stage 2 simulate at:"$data" in:"$data/manifests/train.jsonl" in:"$root/conf/telephone.yaml" \
    out:"$data/telephone" out:"$data/telephone.jsonl" out:"$data/train_telephone.jsonl" \
    -- simulate
fi
stage 3 pretrain in:"$train_manifest" in:"$data/manifests/dev.jsonl" \
  out:"$exp/pretrain" out:"$exp/pretrain/final.nemo" \
  -- pretrain "${size[@]}" "${settings[@]}" "${more[@]}"
run_stages
