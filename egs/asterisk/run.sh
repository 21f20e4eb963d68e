#!/usr/bin/env bash
# From real telephone prompts to an adapted LLM recogniser and its table, from nothing, on a CPU.
#
# Fetches the Asterisk prompts (five languages, two hours, Debian packages or the upstream releases), sends
# them through simulated telephone channels, pre-trains a small NEST FastConformer on all of them, trains a
# small Fun-ASR-Nano with that encoder on wideband English, adapts it to the telephone in three stages, and
# scores each stage on real 8 kHz GSM prompts that no training has heard.
#
#   bash egs/asterisk/run.sh --preset quick          # all of it in some 7 minutes
#   bash egs/asterisk/run.sh --stop-stage pretrain   # NEST alone
#   tail -f egs/asterisk/exp/small/*/train.log       # to follow a run

set -euo pipefail
recipe=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=${recipe%/egs/*}
# shellcheck source=utils/recipe.sh
. "$root/utils/recipe.sh"

tag=small         # name of the experiment: its folder is EXP_DIR/TAG
preset=default    # default (20 minutes on two idle cores) or quick (7, without NEST)
encoder=conformer # conformer (NEST's) or sanm (that of Fun-ASR-Nano, from random weights)
nj=2              # processes of the data stages and of the decoding
deb_dir=          # folder with the Debian packages, for a machine without network
tarball_dir=      # folder with the upstream releases (.tar.gz), without network and apt
accelerator=cpu   # cpu, or gpu: then take --devices -1 and a longer batch
devices=2         # ranks of the pre-training: one process each; -1 means all GPUs
# --help-all shows these as well
seed=17           # of the simulated channels, the split and the training
dev=0.08          # share of the prompts held out for every choice
test=0.2          # share of the prompts held out for the end
min_duration=0.5  # seconds; shorter prompts are dropped
max_duration=20   # seconds; longer prompts are dropped
max_steps=        # optimiser steps of the pre-training; empty: the preset's
batch_duration=10 # seconds of audio in a batch, for each rank
pretrain_conf=    # more KEY=VALUE settings of the pre-training, separated by spaces
start=            # of the conformer: nest or random weights; empty: the preset's
base_steps=       # optimiser steps of the three parts of stage base, at most; empty: the preset's
adapt_steps=      # optimiser steps of the stages encoder, adaptor and lora, three words; empty: the preset's
base_conf=        # more ++KEY=VALUE settings of stage base, separated by spaces
adapt_conf=       # more ++KEY=VALUE settings of the stages encoder, adaptor and lora
beam=             # hypotheses of the language model in decoding; empty: the preset's
parse_options "$@"

case $preset in # the values of the options that are left empty
default)
  : "${max_steps:=2000}" "${start:=nest}" "${beam:=8}"
  : "${base_steps:=800 600 300}" "${adapt_steps:=300 200 150}"
  ;;
quick)
  : "${max_steps:=20}" "${start:=random}" "${beam:=4}"
  : "${base_steps:=250 140 0}" "${adapt_steps:=60 20 20}"
  ;;
*) usage_error "--preset $preset is neither default nor quick" ;;
esac
# shellcheck source=egs/asterisk/local/stages.sh
. "$recipe/local/stages.sh" # the functions behind each --

# The data, which all tags share.
stage 0 data at:"$data" out:"$data"/{prompts,prompts_gsm,prompts_wav8k,noise}.jsonl \
  out:"$data/local/report.json" -- fetch_and_prepare
stage 1 simulate at:"$data" in:"$data"/{prompts,noise}.jsonl in:"$root/conf/telephone.yaml" \
  out:"$data"/{telephone,telephone_gsm} out:"$data"/{prompts_en,telephone,telephone_gsm}.jsonl -- simulate
stage 2 manifests at:"$data" in:"$data"/{prompts,telephone,prompts_gsm,telephone_gsm}.jsonl \
  out:"$data"/manifests/{train,dev,test}.jsonl \
  out:"$data"/finetune/{report.json,{train,dev}_{wideband,gsm}.jsonl,adapt.jsonl,adapt_dev.jsonl} \
  out:"$data"/finetune/test_{gsm,simulated}.jsonl -- make_manifests

# The trainings. adapt PART CONFIG MODEL CONTROL_MODEL STEPS TRAIN DEV has a control beside it, which hears
# wideband speech.
stage 3 pretrain in:"$data"/manifests/{train,dev}.jsonl in:"$recipe/conf/pretrain.yaml" \
  in:"$root/conf/nest_fast-conformer.yaml" out:"$exp/pretrain" out:"$exp/pretrain/final.nemo" \
  -- pretrain "${pretrain_settings[@]}"
stage 4 base in:"$exp/pretrain/final.nemo" in:"$data"/finetune/{train,dev}_wideband.jsonl \
  in:"$recipe"/conf/{model,base_heads,base}.yaml in:"$root/conf/ctc_fast-conformer.yaml" \
  out:"$exp/base/model/model.pt" -- train_base "${base_parts[@]}"
stage 5 encoder in:"$exp/base/model/model.pt" in:"$data"/finetune/{adapt,adapt_dev}.jsonl \
  in:"$recipe/conf/stage1_encoder.yaml" out:"$exp"/{,control_}encoder/model/model.pt \
  -- adapt encoder stage1_encoder.yaml base base "${adapt_parts[0]}" adapt.jsonl adapt_dev.jsonl
stage 6 adaptor in:"$exp"/{,control_}encoder/model/model.pt in:"$data"/finetune/{adapt,adapt_dev}.jsonl \
  in:"$recipe/conf/stage2_adaptor.yaml" out:"$exp"/{,control_}adaptor/model/model.pt \
  -- adapt adaptor stage2_adaptor.yaml encoder control_encoder "${adapt_parts[1]}" adapt.jsonl adapt_dev.jsonl
stage 7 lora in:"$exp"/{,control_}adaptor/model/model.pt in:"$data"/finetune/{train,dev}_gsm.jsonl \
  in:"$recipe/conf/stage3_lora.yaml" out:"$exp"/{,control_}lora/model/model.pt \
  -- adapt lora stage3_lora.yaml adaptor control_adaptor "${adapt_parts[2]}" train_gsm.jsonl dev_gsm.jsonl

# The results, on prompts that no training has heard.
stage 8 decode in:"$exp"/{base,control_lora,encoder,adaptor,lora}/model/model.pt \
  in:"$data"/finetune/{dev_gsm,test_gsm,test_simulated}.jsonl \
  out:"$exp"/decode/{base,control,encoder,adaptor,lora,base_simulated,lora_simulated}.jsonl -- decode
stage 9 score in:"$exp"/decode/{base,control,encoder,adaptor,lora,base_simulated,lora_simulated}.jsonl \
  in:"$recipe/local/keywords.txt" \
  out:"$exp"/{scores,scores_simulated}.json out:"$exp"/{utterances,utterances_simulated}.jsonl \
  out:"$exp"/{SCORES,SCORES_simulated}.md out:"$exp"/{alignments,alignments_simulated}.txt -- score
stage 10 report in:"$exp"/{scores.json,utterances.jsonl,scores_simulated.json,utterances_simulated.jsonl} \
  in:"$data/finetune/report.json" out:"$exp"/{RESULTS.md,report.html} -- report
run_stages
