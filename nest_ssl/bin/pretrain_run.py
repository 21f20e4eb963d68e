"""The work of the verb pretrain, on one rank."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.arguments import ROOT
from nest_ssl.bin.terminal import start_logging
from nest_ssl.bin.training_run import end_run, resume, start_log, trainer_of
from nest_ssl.config import build, resolved
from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.data.loader import SSLDataLoader
from nest_ssl.files.atomic import replaced
from nest_ssl.models.initialisation import initialise_from_config
from nest_ssl.models.parity import Parity
from nest_ssl.models.registry import model_class_of
from nest_ssl.modules.targets import TARGETS
from nest_ssl.training.distributed import Ranks
from nest_ssl.training.log import RunLog
from nest_ssl.training.loop import Stopped, Trainer
from nest_ssl.training.run_directory import RunLock, write_environment

log = logging.getLogger(__name__)

GAIN_GATE_NATS = 1.0  # below it a pre-training has not got off the ground


def pretrain(ranks: Ranks, argument: Any) -> int:
    """Train on one rank; gives the exit status."""
    start_logging(logging.INFO if ranks.is_main else logging.WARNING)
    config_yaml, folder_name, options, experiment, command = argument
    config = OmegaConf.create(config_yaml)
    OmegaConf.set_struct(config, True)
    folder = Path(folder_name)
    lock = RunLock(folder) if ranks.is_main else None  # held until this function returns
    torch.backends.cudnn.benchmark = options.benchmark

    train_data, validation_data = datasets(config.model, options.seed, ranks)
    torch.manual_seed(options.seed)
    model = model_class_of(config.model)(cfg=config.model).to(ranks.device)
    if options.sync_batchnorm and ranks.world_size > 1:
        if model.parity.batch_norm == "valid":
            raise ValueError(
                "trainer.sync_batchnorm: statistics over valid frames (model.parity.batch_norm) are those of "
                "each rank; set trainer.sync_batchnorm=false"
            )
        if ranks.device.type == "cuda":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        elif ranks.is_main:
            log.info(
                "trainer.sync_batchnorm: PyTorch has it on GPUs only; every rank uses its own batch "
                "statistics"
            )

    data_sets = (train_data, validation_data)
    trainer = trainer_of(
        config, config_yaml, model, data_sets, folder, options, experiment, ranks, "pretrain"
    )
    resumed = resume(trainer, ranks, experiment)
    started_from = [] if resumed else initialise_from_config(model, config)
    if ranks.is_main:
        write_environment(folder, ranks, ROOT, command)
    run_log = start_log(trainer, folder, config_yaml, ranks, experiment, resumed) if ranks.is_main else None
    if run_log:
        for line in started_from:
            run_log.message(line)
    try:
        trainer.fit(run_log)
        if run_log:
            made = None
            if experiment.checkpoint.save_nemo_on_train_end:
                made = write_final(trainer, trainer.checkpoints.folder / f"{experiment.name}.nemo", folder)
            say_the_end(run_log, trainer, made)
    except Stopped as stopped:
        return stopped.status
    finally:
        end_run(trainer, run_log, lock)
    return 0


def write_final(trainer: Trainer, nemo: Path, folder: Path) -> Path:
    """Write the trained model as NeMo names it and as final.nemo; gives the latter."""
    final = folder / "final.nemo"
    try:
        if not trainer.nemo_is_current:
            trainer.model.save_to(nemo)
        with replaced(final) as temporary:
            shutil.copyfile(nemo, temporary)
    except OSError as error:
        raise OSError(
            f"{final} could not be written ({error}); the training is complete and saved: make room and "
            "start the same command again"
        ) from error
    return final


def datasets(model: DictConfig, seed: int, ranks: Ranks) -> tuple[SSLDataLoader, SSLDataLoader | None]:
    """Training and validation data; the main rank comes first and leaves the manifests' index for the
    others."""
    with ranks.main_first():
        train = data(model, "train_ds", seed, ranks)
        validation = data(model, "validation_ds", seed, ranks) if model.get("validation_ds") else None
    return train, validation


def data(model: DictConfig, section: str, seed: int, ranks: Ranks) -> SSLDataLoader:
    name = f"model.{section}"
    settings = resolved(model[section], name)
    if model.get("sample_rate") is not None:
        settings.setdefault("sample_rate", model.sample_rate)  # as NeMo does
    augmentor = settings.pop("batch_augmentor", None)
    parity = Parity.from_config(model.get("parity"))
    settings.setdefault("noise_failure", parity.noise_failure)
    return ssl_data_from_config(
        settings,
        seed=seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
        name=name,
        batch_augmentor=batch_augmentor(augmentor, parity, f"{name}.batch_augmentor") if augmentor else None,
    )


def batch_augmentor(section: Mapping[str, Any], parity: Parity, name: str) -> Any:
    """The augmentor that a section describes, told what `model.parity` says about it."""
    return build({**parity.of_section("batch_augmentor"), **section}, TARGETS, name)


def say_the_end(run_log: RunLog, trainer: Trainer, made: Path | None) -> None:
    metrics: Mapping[str, float] = trainer.progress.metrics
    figures = "".join(f" {key} {value:.4f}" for key, value in metrics.items())
    model = f" model {os.path.relpath(made)}" if made else ""
    run_log.message(f"finished at step {trainer.progress.step}{figures}{model}")
    gain = metrics.get("val_gain_nats")
    if gain is not None and gain < GAIN_GATE_NATS:
        run_log.message(
            f"WARNING val_gain_nats {gain:.2f}: the loss is that far below guessing by frequency. Under "
            f"{GAIN_GATE_NATS:g} nat an encoder can be a worse start for fine-tuning than random weights: "
            "train longer"
        )
