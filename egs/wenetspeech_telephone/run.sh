#!/usr/bin/env bash
# Fun-ASR-Nano on 8 kHz telephone speech: WenetSpeech through simulated channels, and recorded calls.
#
# Stage 0 makes the data: annotation errors out, lengths within limits, train and dev apart, messages lines
# for FunASR, and a report (data/stage0/STAGE0_REPORT.html). Try it on 50 utterances first:
#   bash egs/wenetspeech_telephone/local/test_data_prep.sh --wenetspeech WenetSpeech.json --tokenizer DIR

set -euo pipefail
recipe=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=${recipe%/egs/*}
# shellcheck source=utils/recipe.sh
. "$root/utils/recipe.sh"

tag=nano        # name of the experiment: its folder is EXP_DIR/TAG
wenetspeech=    # WenetSpeech.json, beside its audio folder; or [KIND=]PATH of other wideband speech
calls=          # [KIND=]PATH of recorded calls: a Kaldi directory, a manifest, calls=FOLDER
tokenizer=      # folder of the LLM's tokenizer: Qwen3-0.6B of Fun-ASR-Nano-2512
max_utterances= # take so many of the wideband speech; empty for all that is selected
mix=default     # channels to draw from: default, china, north_america (conf/telephone.yaml)
noise=          # [KIND=]PATH of recordings of noise, separated by spaces
seed=17         # of the simulated channels and the division
nj=0            # processes; 0 means one for each core
test=false      # 50 utterances of each set, to DATA_DIR/stage0-test
settings=       # more KEY=VALUE settings (conf/stage0.yaml), separated by spaces
parse_options "$@"

if [ -z "$wenetspeech$calls" ]; then
  asks_only=false
  for word in "$@"; do
    case $word in --status | --dry-run) asks_only=true ;; esac
  done
  if [ "$asks_only" = false ]; then
    echo "run.sh: give --wenetspeech PATH/WenetSpeech.json, --calls [KIND=]PATH, or both (README.md)" >&2
    exit 2
  fi
fi

words=(--out "$data/stage0" --seed "$seed" --mix "$mix" --workers "$nj")
inputs=()
out=$data/stage0
[ -z "$wenetspeech" ] || words+=(--simulated "$wenetspeech") inputs+=(in:"${wenetspeech#*=}")
[ -z "$calls" ] || words+=(--real "$calls") inputs+=(in:"${calls#*=}")
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

if [ "$test" = true ]; then
  stage 0 test_data at:"$data" "${inputs[@]}" in:"$root/conf/stage0.yaml" in:"$root/conf/telephone.yaml" \
    out:"$data/stage0-test/STAGE0_REPORT.html" out:"$data/stage0-test/funasr_limits.yaml" \
    -- prepare_data "${words[@]}" "${more[@]}"
else
  stage 0 data at:"$data" "${inputs[@]}" in:"$root/conf/stage0.yaml" in:"$root/conf/telephone.yaml" \
    out:"$data/stage0/STAGE0_REPORT.html" out:"$data/stage0/funasr_limits.yaml" \
    -- prepare_data "${words[@]}" "${more[@]}"
fi
run_stages
