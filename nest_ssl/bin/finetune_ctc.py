"""Fine-tune an encoder with CTC: from a pre-trained NEST model, or from random weights.

Example:
  python -m nest_ssl.bin.tokenizer --manifest train.jsonl --kind char --out exp/tokenizer
  python -m nest_ssl.bin.finetune_ctc --config conf/ctc_fast-conformer.yaml \\
      init_from_nemo_model=exp/small/pretrain/final.nemo model.tokenizer.dir=exp/tokenizer \\
      model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl \\
      exp_manager.explicit_log_dir=exp/ctc trainer.max_steps=1500 trainer.accelerator=cpu

Writes final.nemo (the last weights) and best.nemo (lowest word error rate on the validation data).  Settings
are changed by KEY=VALUE words as in Hydra (+KEY= adds, ~KEY removes).  The same command again goes on from
the last checkpoint.
"""

from __future__ import annotations

import argparse
import datetime
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.arguments import ROOT, Parser
from nest_ssl.bin.terminal import run, share_terminal
from nest_ssl.config import apply_overrides, load_config, resolved
from nest_ssl.models.initialisation import INIT_KEYS, initial_sections, initial_sources
from nest_ssl.text.error_rates import check_installed
from nest_ssl.training.options import (
    CHECKPOINT_ADDITIONS,
    EXP_MANAGER_ADDITIONS,
    TRAINER_ADDITIONS,
    ExperimentOptions,
    TrainerOptions,
)
from nest_ssl.training.run_directory import log_directory

SECTIONS = ("name", *INIT_KEYS, "init_config_from", "model", "trainer", "exp_manager", "hydra")
MODEL_ADDITIONS: dict[str, Any] = {
    "encoder_lr_factor": 1.0,
    "layer_lr_decay": 1.0,
    "freeze": [],
    "freeze_encoder_steps": 0,
    "text_normalization": None,
}


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    config = configuration(arguments.config, arguments.overrides)
    options = TrainerOptions.from_config(resolved(config.trainer, "trainer"))
    experiment = ExperimentOptions.from_config(resolved(config.exp_manager, "exp_manager"))
    folder = log_directory(experiment, datetime.datetime.now())
    check_installed()  # validation needs it: better missed now than after the first hundred steps

    # the words are right: only now torch, which takes seconds
    from nest_ssl.bin.finetune_ctc_run import finetune
    from nest_ssl.training.distributed import launch

    share_terminal()
    command = [sys.executable, *sys.orig_argv[1:]]
    return launch(finetune, (OmegaConf.to_yaml(config), str(folder), options, experiment, command), options)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("finetune_ctc", description=__doc__, epilog="docs/ctc.md is the manual.")
    ours = ROOT / "conf" / "ctc_fast-conformer.yaml"
    config = "sections model, trainer, exp_manager [conf/ctc_fast-conformer.yaml]"
    parser.add_argument("--config", type=Path, default=ours, metavar="FILE", help=config)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change")
    return parser.parse_intermixed_args(argv)


def configuration(path: Path, overrides: Sequence[str]) -> DictConfig:
    """The YAML with our additions to NeMo's keys, the sections of the model to start from, the overrides."""
    for key in load_config(path):
        if key not in SECTIONS:
            close = difflib.get_close_matches(str(key), SECTIONS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(SECTIONS)}"
            raise ValueError(f"{path}: the top-level key {key!r} is not supported; {hint}")
    additions = OmegaConf.create(
        {
            "name": "default",
            **dict.fromkeys(INIT_KEYS),
            "init_config_from": None,
            "model": MODEL_ADDITIONS,
            "trainer": TRAINER_ADDITIONS,
            "exp_manager": {**EXP_MANAGER_ADDITIONS, "checkpoint_callback_params": CHECKPOINT_ADDITIONS},
        }
    )
    config = load_config(path, overrides, defaults=additions)
    source = config.init_config_from or next(iter(initial_sources(config)), None)
    if source:
        # The file's sections stand in for the YAML's; what the command line says is said of them.
        config = load_config(path, defaults=additions)
        OmegaConf.set_struct(config, False)
        for key, section in initial_sections(str(source)).items():
            config.model[key] = section
        config.model.sample_rate = config.model.preprocessor.sample_rate
        apply_overrides(config, overrides)
        OmegaConf.set_struct(config, True)
    return config


if __name__ == "__main__":
    run(main)
