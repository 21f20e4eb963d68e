#!/usr/bin/env bash
# From real telephone prompts to an adapted LLM recogniser and its table, from nothing, on a CPU.
#
# Fetches the Asterisk prompts (five languages, two hours, Debian packages or the upstream releases), sends
# them through simulated telephone channels, pre-trains a small NEST FastConformer on all of them, trains a
# small Fun-ASR-Nano with that encoder on wideband English, adapts it to the telephone in three stages, and
# scores each stage on real 8 kHz GSM prompts that no training has heard.
# Follow a run with: tail -f egs/asterisk/exp/small/*/train.log

set -euo pipefail
recipe=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=${recipe%/egs/*}
# shellcheck source=utils/recipe.sh
. "$root/utils/recipe.sh"

tag=small         # name of the experiment: its folder is EXP_DIR/TAG
nj=2              # processes of the data stages
deb_dir=          # folder with the Debian packages, for a machine without network
tarball_dir=      # folder with the upstream releases (.tar.gz), for one without network and apt
preset=default    # default (20 minutes on two idle cores) or quick (some 6: few steps, NEST not used)
seed=17           # of the simulated channels, the split and the training
dev=0.08          # share of the prompts held out for every choice
test=0.2          # share of the prompts held out for the end
min_duration=0.5  # seconds; shorter prompts are dropped
max_duration=20   # seconds; longer prompts are dropped
max_steps=        # optimiser steps of the pre-training; empty: the preset's
batch_duration=10 # seconds of audio in a batch, for each rank
accelerator=cpu   # cpu, or gpu: then take --devices -1 and a longer batch
devices=2         # ranks of the pre-training: one process each; -1 means all GPUs
pretrain_conf=    # more KEY=VALUE settings of the pre-training, separated by spaces
encoder=conformer # of the recogniser: conformer (NEST's) or sanm (Fun-ASR-Nano's, random weights)
start=            # of the conformer: nest or random weights; empty: the preset's
base_steps=       # optimiser steps of stage base, at most; empty: the preset's
adapt_steps=      # optimiser steps of the stages encoder, adaptor and lora, three words; empty: the preset's
base_conf=        # more ++KEY=VALUE settings of stage base, separated by spaces
adapt_conf=       # more ++KEY=VALUE settings of the stages encoder, adaptor and lora
beam=             # hypotheses of the language model in decoding; empty: the preset's
parse_options "$@"

case $preset in
default) chosen=(2000 nest '800 600 300' '300 200 150' 8) ;;
quick) chosen=(20 random '250 140 0' '60 20 20' 4) ;;
*)
  echo "run.sh: --preset $preset is neither default nor quick" >&2
  exit 2
  ;;
esac
max_steps=${max_steps:-${chosen[0]}}
start=${start:-${chosen[1]}}
read -ra base_parts <<<"${base_steps:-${chosen[2]}}"
read -ra steps <<<"${adapt_steps:-${chosen[3]}}"
beam=${beam:-${chosen[4]}}
[ "${#base_parts[@]} ${#steps[@]}" = '3 3' ] || {
  echo "run.sh: --base-steps and --adapt-steps take three numbers in one word, as in '300 200 150'" >&2
  exit 2
}

fetch_and_prepare() {
  local from=()
  [ -z "$deb_dir" ] || from+=(--deb-dir "$deb_dir")
  [ -z "$tarball_dir" ] || from+=(--tarball-dir "$tarball_dir")
  python3 "$recipe/local/fetch.py" --downloads "$data/downloads" --out "$data/archives.json" "${from[@]}"
  python3 "$recipe/local/prepare_data.py" --archives "$data/archives.json" --out "$data" --jobs "$nj"
}

# Two sets of calls: all kinds of channels for all languages (quick: for English), and GSM alone, which is
# what the real set has, for the language of the recogniser.
simulate() {
  local noise=(--noise-manifest "$data/noise.jsonl") prompts=$data/prompts.jsonl
  python3 "$recipe/local/rows_of.py" --in "$data/prompts.jsonl" --lang en --out "$data/prompts_en.jsonl"
  [ "$preset" != quick ] || prompts=$data/prompts_en.jsonl
  through_channels telephone "$prompts" --seed "$seed" "${noise[@]}"
  through_channels telephone_gsm "$data/prompts_en.jsonl" --seed "$((seed + 1))" "${noise[@]}" \
    --preset mobile_gsm_fr channel.room.probability=0 channel.noise.probability=0.2 \
    channel.noise.snr_db.min=15 channel.weighting.send='{flat: 0.6, msin: 0.4}' channel.loss.probability=0
}

# through_channels NAME MANIFEST OPTION...: writes NAME/ and NAME.jsonl
through_channels() {
  local what=(--manifest "$2" --out "$data/$1" --split-seed "$seed") # babble comes from prompts of the split
  what+=("${@:3}")
  # --force: a changed setting of this recipe makes the speech anew; unchanged ones go on where they stopped
  on_cpu JOB=1:"$nj" "$data/log/simulate_$1.JOB.log" \
    python3 -m nest_ssl.bin.simulate "${what[@]}" --force --shard JOB/"$nj"
  python3 -m nest_ssl.bin.simulate "${what[@]}" --merge
}

make_manifests() {
  local split=(--dev "$dev" --test "$test")
  python3 -m nest_ssl.bin.manifest --in "$data/prompts.jsonl" --in "$data/telephone.jsonl" \
    --out-dir "$data/manifests" --split-by key "${split[@]}" --seed "$seed" \
    --min-duration "$min_duration" --max-duration "$max_duration"
  python3 -m nest_ssl.bin.manifest --sample-rate 16000 --decode \
    --check "$data"/manifests/{train,dev,test}.jsonl
  python3 "$recipe/local/make_finetune_data.py" --wideband "$data/prompts.jsonl" \
    --simulated "$data/telephone.jsonl" "$data/telephone_gsm.jsonl" --gsm "$data/prompts_gsm.jsonl" \
    --pretrain "$data"/manifests/{train,dev}.jsonl --out "$data/finetune" "${split[@]}" --split-seed "$seed" \
    --min-duration "$min_duration" --max-duration "$max_duration"
}

# One thread a process: two ranks with one thread each are faster than one with two, and do not stall on a
# machine that has other work.
pretrain() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    python3 -m nest_ssl.bin.pretrain --config "$root/conf/nest_fast-conformer.yaml" \
    --config "$recipe/conf/pretrain.yaml" "$@"
}

# The stand-in for a released checkpoint: the same parts, small.
train_base() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    python3 "$recipe/local/train_base.py" --exp "$exp" --conf "$recipe/conf" \
    --ctc-conf "$root/conf/ctc_fast-conformer.yaml" --train "$data/finetune/train_wideband.jsonl" \
    --valid "$data/finetune/dev_wideband.jsonl" --encoder "$encoder" --start "$start" --steps "$@" \
    --seed "$seed" --devices "$devices" --accelerator "$accelerator" "${base_more[@]}"
}

# adapt_stage NUMBER PART CONFIG FROM CONTROL_FROM STEPS TRAIN VALID
adapt_stage() {
  stage "$1" "$2" in:"$exp/$4/model/model.pt" in:"$exp/$5/model/model.pt" in:"$data/finetune/$7" \
    in:"$data/finetune/$8" in:"$recipe/conf/$3" out:"$exp/$2/model/model.pt" \
    out:"$exp/control_$2/model/model.pt" -- adapt "${@:2}"
}

# adapt PART CONFIG FROM CONTROL_FROM STEPS TRAIN VALID: a stage, and its control on wideband beside it.
adapt() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} on_cpu JOB=1:2 "$exp/log/$1.JOB.log" \
    python3 "$recipe/local/finetune_pair.py" --number JOB --part "$1" --config "$recipe/conf/$2" \
    --models "$exp/$3/model" "$exp/$4/model" \
    --train "$data/finetune/$6" "$data/finetune/train_wideband.jsonl" \
    --valid "$data/finetune/$7" "$data/finetune/dev_wideband.jsonl" --out "$exp/$1" "$exp/control_$1" \
    ++seed="$seed" ++train_conf.accelerator="$accelerator" ++train_conf.devices=1 \
    ++train_conf.max_steps="$5" "${adapt_more[@]}"
}

# Every system on the same real telephone prompts; the weight of CTC is chosen on the dev prompts for each.
# The first and the last also on simulated calls of all kinds, for the table by codec, loss and noise.
decode() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} on_cpu --max-jobs-run "$nj" JOB=1:5 "$exp/log/decode.JOB.log" \
    python3 "$recipe/local/decode_one.py" --number JOB --exp "$exp" --beam "$beam" \
    --systems base lora control=control_lora encoder adaptor \
    --dev "$data/finetune/dev_gsm.jsonl" --test "$data/finetune/test_gsm.jsonl" \
    --further "simulated=$data/finetune/test_simulated.jsonl" --further-systems base lora
}

score() {
  score_set '' base,control base control encoder adaptor lora
  score_set _simulated base base lora
}

# score_set SUFFIX BASELINES SYSTEM...
score_set() {
  local name systems=()
  for name in "${@:3}"; do systems+=("$name=$exp/decode/$name$1.jsonl"); done
  python3 -m nest_ssl.bin.score --hypotheses "${systems[@]}" --baseline "$2" \
    --keywords "$recipe/local/keywords.txt" --json "$exp/scores$1.json" \
    --utterances "$exp/utterances$1.jsonl" --alignments "$exp/alignments$1.txt" \
    --out "$exp/SCORES$1.md" --title "egs/asterisk, $tag${1:+, ${1#_} test set}"
}

report() {
  python3 -m nest_ssl.bin.report "$exp" --title "egs/asterisk, $tag" --aim cer_gain=0.25 --aim cer=0.40 \
    --data-report "$data/local/report.json" --data-report "$data/manifests/report.json" \
    --data-report "$data/finetune/report.json" \
    --channel-example "$data/prompts_en.jsonl" "$data/telephone_gsm.jsonl"
}

settings=(
  exp_manager.explicit_log_dir="$exp/pretrain"
  model.train_ds.manifest_filepath="$data/manifests/train.jsonl"
  model.validation_ds.manifest_filepath="$data/manifests/dev.jsonl"
  model.train_ds.min_duration="$min_duration"
  model.train_ds.batch_duration="$batch_duration"
  trainer.accelerator="$accelerator"
  trainer.devices="$devices"
  trainer.seed="$seed"
  trainer.max_steps="$max_steps"
)
read -ra more <<<"$pretrain_conf"
read -ra base_more <<<"$base_conf"
read -ra adapt_more <<<"$adapt_conf"
decoded_in=() decoded_out=() scored=() told=()
for name in base control encoder adaptor lora base_simulated lora_simulated; do
  decoded_in+=(in:"$exp/decode/$name.jsonl") decoded_out+=(out:"$exp/decode/$name.jsonl")
done
for suffix in '' _simulated; do
  told+=(in:"$exp/scores$suffix.json" in:"$exp/utterances$suffix.jsonl")
  scored+=(out:"$exp/scores$suffix.json" out:"$exp/utterances$suffix.jsonl"
    out:"$exp/SCORES$suffix.md" out:"$exp/alignments$suffix.txt")
done

stage 0 data at:"$data" \
  out:"$data/prompts.jsonl" out:"$data/prompts_gsm.jsonl" out:"$data/prompts_wav8k.jsonl" \
  out:"$data/noise.jsonl" out:"$data/local/report.json" \
  -- fetch_and_prepare
stage 1 simulate at:"$data" in:"$data/prompts.jsonl" in:"$data/noise.jsonl" in:"$root/conf/telephone.yaml" \
  out:"$data/telephone" out:"$data/telephone.jsonl" \
  out:"$data/telephone_gsm" out:"$data/telephone_gsm.jsonl" \
  -- simulate
stage 2 manifests at:"$data" in:"$data/prompts.jsonl" in:"$data/telephone.jsonl" \
  in:"$data/prompts_gsm.jsonl" in:"$data/telephone_gsm.jsonl" \
  out:"$data/manifests/train.jsonl" out:"$data/manifests/dev.jsonl" \
  out:"$data/manifests/test.jsonl" out:"$data/finetune/report.json" out:"$data/finetune/test_gsm.jsonl" \
  out:"$data/finetune/test_simulated.jsonl" \
  -- make_manifests
stage 3 pretrain in:"$data/manifests/train.jsonl" in:"$data/manifests/dev.jsonl" \
  in:"$recipe/conf/pretrain.yaml" in:"$root/conf/nest_fast-conformer.yaml" \
  out:"$exp/pretrain" out:"$exp/pretrain/final.nemo" \
  -- pretrain "${settings[@]}" "${more[@]}"
stage 4 base in:"$exp/pretrain/final.nemo" in:"$data/finetune/train_wideband.jsonl" \
  in:"$data/finetune/dev_wideband.jsonl" in:"$recipe/conf/model.yaml" in:"$recipe/conf/base_heads.yaml" \
  in:"$recipe/conf/base.yaml" in:"$root/conf/ctc_fast-conformer.yaml" out:"$exp/base/model/model.pt" \
  -- train_base "${base_parts[@]}"
adapt_stage 5 encoder stage1_encoder.yaml base base "${steps[0]}" adapt.jsonl adapt_dev.jsonl
adapt_stage 6 adaptor stage2_adaptor.yaml encoder control_encoder "${steps[1]}" adapt.jsonl adapt_dev.jsonl
adapt_stage 7 lora stage3_lora.yaml adaptor control_adaptor "${steps[2]}" train_gsm.jsonl dev_gsm.jsonl
stage 8 decode in:"$exp/base/model/model.pt" in:"$exp/control_lora/model/model.pt" \
  in:"$exp/encoder/model/model.pt" in:"$exp/adaptor/model/model.pt" in:"$exp/lora/model/model.pt" \
  in:"$data/finetune/dev_gsm.jsonl" in:"$data/finetune/test_gsm.jsonl" \
  in:"$data/finetune/test_simulated.jsonl" "${decoded_out[@]}" -- decode
stage 9 score "${decoded_in[@]}" in:"$recipe/local/keywords.txt" "${scored[@]}" -- score
stage 10 report "${told[@]}" in:"$data/finetune/report.json" out:"$exp/RESULTS.md" out:"$exp/report.html" \
  -- report
run_stages
