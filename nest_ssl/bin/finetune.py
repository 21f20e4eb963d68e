"""Fine-tune Fun-ASR-Nano from a model directory: one of three stages, everything, or as FunASR's words say.

Examples:
  python -m nest_ssl.bin.finetune --part encoder --model Fun-ASR-Nano-2512 \\
      --train train.jsonl --valid dev.jsonl --out exp/stage1
  python -m nest_ssl.bin.finetune --part adaptor --model exp/stage1/model \\
      --train train.jsonl --valid dev.jsonl --out exp/stage2 ++optim_conf.lr=5e-5

--part takes its settings from conf/fun_asr_nano_8k; ++KEY=VALUE words change them, and the model's own
configuration, with FunASR's names (++model=, ++init_param=, ++train_data_set_list=, ++valid_data_set_list=
and ++output_dir= may stand for the options).  Data are FunASR's messages or plain manifests.

Writes OUT/train.log, metrics.jsonl, config.yaml, checkpoints/ and OUT/model, a complete model directory with
the mean of the best weights, which the next stage, decoding and FunASR take.  The same command again goes on
from the last checkpoint.
"""

from __future__ import annotations

import sys

from nest_ssl.bin.finetune_config import check_inputs, configuration, given_keys, parse, seed_of
from nest_ssl.bin.terminal import run, share_terminal
from nest_ssl.text.error_rates import check_installed
from nest_ssl.training.funasr_options import train_options


def main(argv: list[str]) -> int:
    arguments = parse(argv, __doc__)
    config = configuration(arguments)
    options, *_ = train_options(config.get("train_conf") or {}, seed_of(config))
    check_inputs(config)
    check_installed()  # validation needs it: better missed now than after the first hundred steps

    # the words and files are right: only now torch, which takes seconds
    from nest_ssl.bin.finetune_run import finetune
    from nest_ssl.training.distributed import launch

    share_terminal()
    command = [sys.executable, *sys.orig_argv[1:]]
    given = given_keys(arguments.overrides)
    return launch(finetune, (config, arguments.part, given, command), options)


if __name__ == "__main__":
    run(main)
