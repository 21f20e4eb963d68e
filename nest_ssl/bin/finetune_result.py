"""The end of a fine-tuning: which weights are kept, and OUT/model."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nest_ssl.checkpoints.safetensors_dir import read_safetensors
from nest_ssl.models.fun_asr_files import average, save_pretrained
from nest_ssl.models.fun_asr_training import FunASRNanoForTraining
from nest_ssl.training.loop import Trainer
from nest_ssl.training.options import CheckpointOptions

log = logging.getLogger(__name__)

MODEL = "model"  # folder of the result in that of the run
WEIGHTS = "model.safetensors"


def result_is_written(folder: Path, trainer: Trainer) -> bool:
    """True if OUT/model has the weights of the run as it stands."""
    return (_record(folder).get("weights") or {}).get("trained_to") == trainer.progress.step


def warnings_of(folder: Path, options: CheckpointOptions, base: str) -> list[str]:
    """Give the last line about a training that did not help, by the figures in OUT/model; else nothing.

    OUT/model has the trained weights all the same: a loss is not an error rate, which may have fallen.  base:
    the model that the training started from.
    """
    record = _record(folder).get("weights") or {}
    value, start = record.get("value"), record.get("start")
    sign = -1.0 if options.mode == "max" else 1.0
    if value is None or start is None or sign * value < sign * start:
        return []
    return [
        f"WARNING {options.monitor} is {value:.4f}, and was {start:.4f} before the first step: by it the "
        f"training has not helped; {folder / MODEL} has the trained weights all the same: lower "
        f"optim_conf.lr, or go on from the model before, {base}"
    ]


def write_result(
    model: FunASRNanoForTraining, trainer: Trainer, folder: Path, num_averaged: int
) -> list[str]:
    """Fill `model` with the best weights and write them as OUT/model; gives lines for the log.

    The mean of the best checkpoints is taken if it is at least as good by the monitored figure as the best of
    them alone, which is measured here.  Without validation data these are the last weights.  To be called on
    all ranks.
    """
    options = trainer.checkpoints.options
    figures: dict[str, Any] = {}
    best = trainer.checkpoints.best()[:num_averaged]
    lines: list[str] = []
    chosen: Sequence[tuple[float, Path]] = best
    if best:
        value = best[0][0]
        sign = -1.0 if options.mode == "max" else 1.0
        # `average` takes counters from the last state: that of the best one
        paths = [path / WEIGHTS for _, path in reversed(best)]
        model.load_checkpoint_state(average([read_safetensors(path) for path in paths]))
        if len(best) > 1:
            mean = trainer.validate()[options.monitor]
            lines.append(
                f"mean of {len(best)} checkpoints {options.monitor} {mean:.4f}, best alone {value:.4f}"
            )
            if sign * mean <= sign * value:
                value = mean
            else:
                chosen = best[:1]
                model.load_checkpoint_state(read_safetensors(best[0][1] / WEIGHTS))
        start = figure_of_start(folder, options.monitor)
        figures = {"monitor": options.monitor, "value": value, "start": start}
    names = [path.name for _, path in chosen] or [f"step-{trainer.progress.step}"]
    if trainer.ranks.is_main:
        _save(model, trainer, folder, names, figures)
    trainer.ranks.wait()
    return [*lines, f"model {folder / MODEL}: {'mean of ' if len(names) > 1 else ''}{', '.join(names)}"]


def figure_of_start(folder: Path, monitor: str) -> float | None:
    """Give the monitored figure of the weights the run in `folder` began with, from its metrics.jsonl."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("kind") == "validation":
                return record.get(monitor) if record["step"] == 0 else None
    return None


def _record(folder: Path) -> dict[str, Any]:
    """What the configuration of OUT/model says of its making; empty where there is none."""
    config = folder / MODEL / "config.yaml"
    if not config.is_file():
        return {}
    return (yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("nest_ssl") or {}


def _save(
    model: FunASRNanoForTraining, trainer: Trainer, folder: Path, names: list[str], figures: dict[str, Any]
) -> None:
    path = folder / MODEL
    section: dict[str, Any] = dict(model.config["nest_ssl"])
    section["weights"] = {"checkpoints": names, "trained_to": trainer.progress.step, **figures}
    model.config["nest_ssl"] = section
    try:
        save_pretrained(
            model, path, stage=section["stage"], base=section["base"]["directory"], step=trainer.progress.step
        )
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error}); the training is complete and saved: make room and start "
            "the same command again"
        ) from error
