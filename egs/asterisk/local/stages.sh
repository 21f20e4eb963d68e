# What the stages of run.sh do, in their order: sourced by it once its options are known.
# shellcheck shell=bash
# shellcheck disable=SC2154  # the options, data, exp, recipe and root are those of run.sh

numbers nj devices seed dev test min_duration max_duration max_steps batch_duration beam
one_of accelerator auto gpu cpu
one_of encoder conformer sanm
one_of start nest random
[ -z "$deb_dir" ] || [ -z "$tarball_dir" ] ||
  usage_error "--deb-dir and --tarball-dir are two ways to the same recordings; give one"
read -ra base_parts <<<"$base_steps"
read -ra adapt_parts <<<"$adapt_steps"
for words in "${base_parts[*]}" "${adapt_parts[*]}"; do
  [[ $words =~ ^[0-9]+\ [0-9]+\ [0-9]+$ ]] ||
    usage_error "--base-steps and --adapt-steps take three numbers in one word, as in '300 200 150'"
done
read -ra base_more <<<"$base_conf"
read -ra adapt_more <<<"$adapt_conf"

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

# What is laid over conf/pretrain.yaml; the words of --pretrain-conf come last.
read -ra pretrain_more <<<"$pretrain_conf"
# shellcheck disable=SC2034  # read by run.sh
pretrain_settings=(
  exp_manager.explicit_log_dir="$exp/pretrain"
  model.train_ds.manifest_filepath="$data/manifests/train.jsonl"
  model.validation_ds.manifest_filepath="$data/manifests/dev.jsonl"
  model.train_ds.min_duration="$min_duration"
  model.train_ds.batch_duration="$batch_duration"
  trainer.accelerator="$accelerator"
  trainer.devices="$devices"
  trainer.seed="$seed"
  trainer.max_steps="$max_steps"
  "${pretrain_more[@]}"
)

# One thread a process: two ranks with one thread each are faster than one with two, and do not stall on a
# machine that has other work.
pretrain() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    python3 -m nest_ssl.bin.pretrain --config "$root/conf/nest_fast-conformer.yaml" \
    --config "$recipe/conf/pretrain.yaml" "$@"
}

# train_base STEPS_OF_CTC STEPS_OF_HEADS STEPS_OF_ALL: the stand-in for a released checkpoint, small.
train_base() {
  OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} \
    python3 "$recipe/local/train_base.py" --exp "$exp" --conf "$recipe/conf" \
    --ctc-conf "$root/conf/ctc_fast-conformer.yaml" --train "$data/finetune/train_wideband.jsonl" \
    --valid "$data/finetune/dev_wideband.jsonl" --encoder "$encoder" --start "$start" --steps "$@" \
    --seed "$seed" --devices "$devices" --accelerator "$accelerator" "${base_more[@]}"
}

# adapt PART CONFIG MODEL CONTROL_MODEL STEPS TRAIN DEV: a stage of the adaptation, which goes on from MODEL,
# and beside it its control on wideband.
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
