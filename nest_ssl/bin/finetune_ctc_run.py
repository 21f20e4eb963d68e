"""The work of the verb finetune_ctc, on one rank."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.arguments import ROOT
from nest_ssl.bin.terminal import start_logging
from nest_ssl.bin.training_run import end_run, resume, start_log, trainer_of
from nest_ssl.checkpoints.safetensors_dir import read_safetensors
from nest_ssl.checkpoints.state import load_state
from nest_ssl.data.speech_to_text import SpeechToTextDataset, SpeechToTextLoader
from nest_ssl.data.speech_to_text_config import speech_to_text_from_config
from nest_ssl.models.ctc_models import EncDecCTCModelBPE
from nest_ssl.models.initialisation import initialise_from_config
from nest_ssl.text.ctc_labels import frames_needed
from nest_ssl.training.checkpoint import Checkpoints
from nest_ssl.training.distributed import Ranks
from nest_ssl.training.loop import Stopped
from nest_ssl.training.run_directory import RunLock, write_environment

TAKEN = ("preprocessor.", "encoder.")  # of a model to start from, where no include says otherwise


def finetune(ranks: Ranks, argument: Any) -> int:
    """Train on one rank; gives the exit status."""
    start_logging(logging.INFO if ranks.is_main else logging.WARNING)
    config_yaml, folder_name, options, experiment, command = argument
    config = OmegaConf.create(config_yaml)
    OmegaConf.set_struct(config, True)
    folder = Path(folder_name)
    lock = RunLock(folder) if ranks.is_main else None  # held until this function returns
    torch.backends.cudnn.benchmark = options.benchmark

    torch.manual_seed(options.seed)
    model = EncDecCTCModelBPE(cfg=config.model)
    train_data, validation_data = datasets(config.model, model, options.seed, ranks)
    model = model.to(ranks.device)
    if options.sync_batchnorm and ranks.world_size > 1 and ranks.device.type == "cuda":
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)

    data_sets = (train_data, validation_data)
    trainer = trainer_of(
        config, config_yaml, model, data_sets, folder, options, experiment, ranks, "finetune"
    )
    resumed = resume(trainer, ranks, experiment)
    started_from = [] if resumed else initialise_from_config(model, config, TAKEN)
    if ranks.is_main:
        write_environment(folder, ranks, ROOT, command)
    run_log = start_log(trainer, folder, config_yaml, ranks, experiment, resumed) if ranks.is_main else None
    if run_log and not resumed:
        for line in started_from or [f"random, seed {options.seed}"]:
            run_log.message(f"initial weights: {line}")
    try:
        trainer.fit(run_log)
        if run_log:
            made = write_final(model, trainer.checkpoints, folder)
            figures = "".join(f" {key} {value:.4f}" for key, value in trainer.progress.metrics.items())
            run_log.message(f"finished at step {trainer.progress.step}{figures} models {made}")
    except Stopped as stopped:
        return stopped.status
    finally:
        end_run(trainer, run_log, lock)
    return 0


def datasets(
    section: DictConfig, model: EncDecCTCModelBPE, seed: int, ranks: Ranks
) -> tuple[SpeechToTextLoader, SpeechToTextLoader | None]:
    """Training and validation data; the main rank comes first and leaves the manifests' index for others."""

    def frames_short(dataset: SpeechToTextDataset) -> np.ndarray:
        """(N,) bool, True where an utterance has fewer encoder frames than its text needs."""
        samples = torch.from_numpy(np.round(dataset.lengths().astype(np.float64) * dataset.sample_rate))
        frames = model.frames_of(samples.to(torch.int64)).numpy()
        needed = np.array([frames_needed(dataset.tokens[i].tolist()) for i in dataset.items])
        return frames < needed

    def data(name: str) -> SpeechToTextLoader:
        return speech_to_text_from_config(
            section[name],
            model.tokenizer,
            seed=seed,
            frames_short=frames_short,
            rank=ranks.rank,
            world_size=ranks.world_size,
            name=f"model.{name}",
        )

    with ranks.main_first():
        train = data("train_ds")
        validation = data("validation_ds") if section.get("validation_ds") else None
    return train, validation


def write_final(model: EncDecCTCModelBPE, checkpoints: Checkpoints, folder: Path) -> str:
    """Write final.nemo, and best.nemo from the best checkpoint that was kept; gives their names."""
    final, best = folder / "final.nemo", folder / "best.nemo"
    try:
        model.save_to(final)
        kept = checkpoints.best()
        if not kept:
            return os.path.relpath(final)
        chosen = EncDecCTCModelBPE(model.cfg, tokenizer=model.tokenizer)
        source = kept[0][1] / "model.safetensors"
        load_state(chosen, read_safetensors(source), str(source))
        chosen.save_to(best)
    except OSError as error:
        raise OSError(
            f"{final} could not be written ({error}); the training is complete and saved: make room and "
            "start the same command again"
        ) from error
    return f"{os.path.relpath(final)} {os.path.relpath(best)}"
