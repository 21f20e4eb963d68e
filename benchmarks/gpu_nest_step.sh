#!/usr/bin/env bash
# The GPU figures of the training step: bf16, clips of 20 s, the largest batch that fits, eager and compiled.
#
#   bash benchmarks/gpu_nest_step.sh [--sizes "small large"] [--out FOLDER]
#     [--python PYTHON] [--nemo-python PYTHON]
#
# One log per measurement in FOLDER, and all of them on standard output.  The batch of each size is doubled
# from 8 until the device's memory ends.  With --nemo-python NeMo's step is interleaved, at batches that it
# fits too.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/gpu_common.sh
. "$here/gpu_common.sh"
python=python3
nemo_python=
sizes="small large xlarge"
out=${OUT:-exp/gpu_nest_step}
seconds=20
largest=1024

read_options python nemo_python sizes out seconds largest -- "$@"
mkdir -p "$out"

for size in $sizes; do
  batch=8
  best=0
  while [ "$batch" -le "$largest" ]; do
    measure "$size-$batch" nest_step.py --size "$size" --batch "$batch" --steps 2 --warmup 1 || break
    best=$batch
    batch=$((2 * batch))
  done
  if [ "$best" -eq 0 ]; then
    echo "== $size: not even a batch of 8 ran; $out/$size-8.log says why"
    tail -n 3 "$out/$size-8.log"
    continue
  fi
  three_quarters=$((best + best / 2)) # between the last that fitted and the first that did not
  if [ "$batch" -le "$largest" ] &&
    measure "$size-$three_quarters" nest_step.py --size "$size" --batch "$three_quarters" \
      --steps 2 --warmup 1; then
    best=$three_quarters
  fi
  for how in eager compiled; do
    echo "== $size, batch $best, $how"
    words=(--size "$size" --batch "$best" --steps 10 --warmup 5)
    [ "$how" = eager ] || words+=(--compile)
    measure "$size-$best-$how" nest_step.py "${words[@]}" || echo "failed:"
    cat "$out/$size-$best-$how.log"
  done
  if [ -n "$nemo_python" ]; then
    # NeMo's quantiser holds 1 MB per frame: its batch is searched downwards from ours.
    batch=$best
    while [ "$batch" -ge 1 ]; do
      words=(--size "$size" --batch "$batch" --steps 6 --warmup 3 --nemo-python "$nemo_python")
      # the losses may differ: NeMo's tokens are of bf16
      measure "$size-$batch-nemo" nest_step.py "${words[@]}" || true
      if grep -q "NeMo's time / ours" "$out/$size-$batch-nemo.log"; then
        echo "== $size, batch $batch, against NeMo"
        cat "$out/$size-$batch-nemo.log"
        break
      fi
      batch=$((batch / 2))
    done
  fi
done
