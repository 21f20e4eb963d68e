"""Pre-train a NEST model from a NeMo YAML.

Example:
  python -m nest_ssl.bin.pretrain --config conf/nest_fast-conformer.yaml \\
      model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl \\
      trainer.max_steps=1000 trainer.accelerator=cpu

Settings are changed by KEY=VALUE words as in Hydra (+KEY= adds, ~KEY removes), many of them by a second
--config, which is laid over the first.  The same command again goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.terminal import run, share_terminal
from nest_ssl.config import apply_overrides, load_config, resolved, suggestion
from nest_ssl.models.initialisation import INIT_KEYS, check_init_keys
from nest_ssl.training.options import (
    CHECKPOINT_ADDITIONS,
    EXP_MANAGER_ADDITIONS,
    TRAINER_ADDITIONS,
    ExperimentOptions,
    TrainerOptions,
)
from nest_ssl.training.run_directory import log_directory

SECTIONS = ("name", "model", "trainer", "exp_manager", "hydra", *INIT_KEYS)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    config = configuration(arguments.config, arguments.overrides)
    options = TrainerOptions.from_config(resolved(config.trainer, "trainer"))
    experiment = ExperimentOptions.from_config(resolved(config.exp_manager, "exp_manager"))
    folder = log_directory(experiment, datetime.datetime.now())

    # the words are right: only now torch, which takes seconds
    from nest_ssl.bin.pretrain_run import pretrain
    from nest_ssl.training.distributed import launch

    share_terminal()
    command = [sys.executable, *sys.orig_argv[1:]]
    return launch(pretrain, (OmegaConf.to_yaml(config), str(folder), options, experiment, command), options)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "pretrain",
        usage="%(prog)s --config FILE [options] [KEY=VALUE...]",
        description=__doc__,
        epilog="docs/training_data.md and docs/cluster.md explain the settings of data and of several GPUs.",
    )
    add = parser.add_argument
    what = "YAML with the sections model, trainer, exp_manager; repeatable, later ones over earlier ones"
    add("--config", type=Path, action="append", metavar="FILE", help=what)
    add("--config-path", type=Path, metavar="DIR", help="folder of the YAML file, as for NeMo's scripts")
    add("--config-name", metavar="NAME", help="name of the YAML file in it, with or without .yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.config is None:
        if arguments.config_name is None:
            parser.error("give --config FILE, or --config-path DIR with --config-name NAME")
        name = arguments.config_name
        name = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
        arguments.config = [(arguments.config_path or Path()) / name]
    elif arguments.config_path or arguments.config_name:
        parser.error("--config excludes --config-path and --config-name")
    return arguments


def configuration(paths: Sequence[Path], overrides: Sequence[str]) -> DictConfig:
    """The YAML files, later ones over earlier ones, our additions at their defaults, then the overrides."""
    files = [load_config(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        _check_sections(file, str(path))
        OmegaConf.set_struct(file, False)
    plain = OmegaConf.merge(*files)
    for section in ("model", "trainer"):
        if section not in plain:
            raise ValueError(f"{paths[0]}: the section {section!r} is missing")
    additions = OmegaConf.create(
        {
            "name": "default",
            "trainer": TRAINER_ADDITIONS,
            "exp_manager": {**EXP_MANAGER_ADDITIONS, "checkpoint_callback_params": CHECKPOINT_ADDITIONS},
        }
    )
    config = cast(DictConfig, OmegaConf.merge(additions, plain))
    OmegaConf.set_struct(config, False)
    apply_overrides(config, overrides)
    OmegaConf.set_struct(config, True)
    _check_sections(config, "overrides")
    check_init_keys(config)
    return config


def _check_sections(config: DictConfig, where: str) -> None:
    for key in map(str, config):
        if key not in SECTIONS:
            raise ValueError(
                f"{where}: the top-level key {key!r} is not supported; {suggestion(key, SECTIONS)}"
            )


if __name__ == "__main__":
    run(main)
