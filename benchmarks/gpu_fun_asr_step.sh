#!/usr/bin/env bash
# The GPU figures of Fun-ASR-Nano's three stages: bf16, the released size, random weights, one GPU.
#
#   bash benchmarks/gpu_fun_asr_step.sh [--parts "encoder adaptor lora"] [--seconds 5] [--out FOLDER]
#     [--python PYTHON] [--funasr-python PYTHON]
#
# For each part: the batch of conf/fun_asr_nano_8k (6000 padded 10-ms frames and tokens, 32 utterances at
# most), then the largest batch that fits, with and without gradient checkpointing. With --funasr-python
# FunASR's step is timed in turn with ours. One log per measurement in FOLDER, and all of them on standard
# output; `audio-s/s` is what the recipe's README asks for.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/gpu_common.sh
. "$here/gpu_common.sh"
python=python3
funasr_python=
parts="encoder adaptor lora"
out=${OUT:-exp/gpu_fun_asr_step}
seconds=5
largest=1024

read_options python funasr_python parts out seconds largest -- "$@"
mkdir -p "$out"

# show LOG TITLE: what a run printed.
show() {
  echo "== $2"
  cat "$out/$1.log"
}

usual=$(awk -v s="$seconds" 'BEGIN { n = int(6000 / (103 * s)); if (n > 32) n = 32; print n < 1 ? 1 : n }')
for part in $parts; do
  measure "$part-$usual" fun_asr_step.py --part "$part" --batch "$usual" --steps 20 --warmup 5 ||
    echo "failed:"
  show "$part-$usual" "$part, batch $usual, as configured"
  for how in plain checkpointing; do
    words=(--part "$part" --steps 2 --warmup 1)
    [ "$how" = plain ] || words+=(--gradient-checkpointing)
    batch=$usual
    best=0
    while [ "$batch" -le "$largest" ]; do
      measure "$part-$how-$batch" fun_asr_step.py "${words[@]}" --batch "$batch" || break
      best=$batch
      batch=$((2 * batch))
    done
    if [ "$best" = 0 ]; then
      show "$part-$how-$batch" "$part, $how: not even a batch of $batch ran"
    else
      show "$part-$how-$best" "$part, $how: the largest batch tried that fits is $best"
    fi
  done
  if [ -n "$funasr_python" ]; then
    measure "$part-funasr" fun_asr_step.py --part "$part" --batch "$usual" --steps 20 --warmup 5 \
      --funasr-python "$funasr_python" || true # the losses may differ under bf16: the log says so
    show "$part-funasr" "$part, batch $usual, against FunASR"
  fi
done
