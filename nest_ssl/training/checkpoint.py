"""Training checkpoints: a directory of safetensors and JSON, complete or absent, and which of them are kept.

    NAME/model.safetensors       the model's state dict, or the part that training changes (protocol.py)
    NAME/optimizer.safetensors   optimiser state, keyed PARAMETER/STATE
    NAME/state.json              where the run stands (Progress), versions
    NAME/config.yaml             the run's configuration

Nothing is pickled.  Order and augmentation are pure functions of (seed, epoch, batch), so no sampler or
RNG state is kept: (epoch, batches consumed) is enough to go on bit for bit.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nest_ssl.files.atomic import mend, remove_directory, replaced_directory
from nest_ssl.files.tensors import separate
from nest_ssl.training.options import CheckpointOptions

FORMAT = 1
LAST = "-last"


@dataclass
class Progress:
    """Where a run stands, counted in the main process."""

    step: int = 0  # optimiser steps done, skipped ones included
    epoch: int = 0
    batches: int = 0  # micro-batches of this epoch consumed by each rank
    micro_batches: int = 0  # in the whole run, per rank
    hours_seen: float = 0.0  # of audio, all ranks
    skipped_steps: int = 0  # for non-finite losses or gradients
    skipped_in_row: int = 0
    validated_at: int = -1  # micro_batches at the last validation
    metrics: dict[str, float] = field(default_factory=dict)  # of the last validation
    best: float | None = None  # of the monitored figure so far
    without_gain: int = 0  # validations in a row that were not better
    stopped_early: bool = False


class Checkpoints:
    """The checkpoints of one run: `folder` holds the best few, the last one, and nothing half-written."""

    def __init__(self, folder: Path, name: str, options: CheckpointOptions):
        self.folder = folder
        self.name = name
        self.options = options

    def prepare(self) -> None:
        """Make the folder and mend what a killed writer left; main process only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mend(self.folder)

    def last(self) -> Path | None:
        """The newest `-last` checkpoint; an older one may still lie beside it when a run was killed in
        between."""
        found = self._all_last()
        return max(found, key=lambda path: read_state(path)["progress"]["step"]) if found else None

    def save(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        config_yaml: str,
        identity: Mapping[str, Any],
        validated: bool,
    ) -> Path:
        """Write the `-last` checkpoint, and the top-k one if `validated`; main process only.  Gives the
        last's path.

        identity: what must be unchanged for an exact continuation (seed, world size, data fingerprint).
        """
        stem = self._stem(progress)
        last = self.folder / f"{stem}{LAST}"
        with replaced_directory(last) as temporary:
            _write_tensors(separate(_state_of(model)), temporary / "model.safetensors")
            _write_tensors(_optimizer_tensors(model, optimizer), temporary / "optimizer.safetensors")
            (temporary / "config.yaml").write_text(config_yaml, encoding="utf-8")
            state = {
                "format": FORMAT,
                "progress": asdict(progress),
                "identity": dict(identity),
                "param_groups": _group_options(optimizer),
                "torch": torch.__version__,
            }
            (temporary / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        if validated and self.options.save_top_k != 0:
            self._keep_if_best(last, self.folder / stem, progress)
        for older in self._all_last():
            if older != last:
                remove_directory(older)
        return last

    def _all_last(self) -> list[Path]:
        return [path for path in self.folder.glob(f"[!.]*{LAST}") if (path / "state.json").is_file()]

    def best(self) -> list[tuple[float, Path]]:
        """(monitored value, path) of the kept top-k checkpoints, best first."""
        found = []
        for path in self.folder.glob("[!.]*"):
            if (path / "state.json").is_file() and not path.name.endswith(LAST):
                value = read_state(path)["progress"]["metrics"].get(self.options.monitor)
                if value is not None:
                    found.append((value, path))
        sign = -1.0 if self.options.mode == "max" else 1.0
        return sorted(found, key=lambda pair: (math.isnan(pair[0]), sign * pair[0]))  # NaN is never the best

    def note_validation(self, progress: Progress) -> bool:
        """Count in `progress` whether its metrics are the best so far; True if they are."""
        value = progress.metrics.get(self.options.monitor, math.nan)
        sign = -1.0 if self.options.mode == "max" else 1.0
        better = not math.isnan(value) and (progress.best is None or sign * value < sign * progress.best)
        progress.best = value if better else progress.best
        progress.without_gain = 0 if better else progress.without_gain + 1
        return better

    def check_monitor(self, figures: Mapping[str, float]) -> None:
        """Raise ValueError if the best checkpoints are to be kept by what is no figure of a validation."""
        if self.options.save_top_k and self.options.monitor not in figures:
            raise ValueError(
                f"exp_manager.checkpoint_callback_params.monitor: {self.options.monitor!r} is not a "
                f"figure of the validation ({', '.join(figures)})"
            )

    def _keep_if_best(self, last: Path, path: Path, progress: Progress) -> None:
        self.check_monitor(progress.metrics)
        with replaced_directory(path) as temporary:
            for file in last.iterdir():
                _link_or_copy(file, temporary / file.name)
        if self.options.save_top_k > 0:
            for _, worse in self.best()[self.options.save_top_k :]:
                remove_directory(worse)

    def _stem(self, progress: Progress) -> str:
        template = self.options.filename or f"{self.name}--{{{self.options.monitor}:.4f}}-{{epoch}}"
        figures = {"step": progress.step, "epoch": progress.epoch, **progress.metrics}

        def fill(match: re.Match) -> str:
            key, form = match.group(1), match.group(2) or ""
            value = format(figures.get(key, float("nan")), form)
            return f"{key}={value}" if self.options.auto_insert_metric_name else value

        return re.sub(r"\{(\w+)(?::([^}]*))?\}", fill, template)


def load(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Any]]:
    """Fill `model` and `optimizer` from a checkpoint; gives (progress, identity).

    Every key and shape must agree.  Raises ValueError naming the file and the keys.
    """
    state = read_state(path)
    if state.get("format") != FORMAT:
        raise ValueError(
            f"{path}/state.json: format {state.get('format')!r}; this version reads format {FORMAT}"
        )
    try:
        fill = getattr(model, "load_checkpoint_state", model.load_state_dict)
        fill(read_tensors(path / "model.safetensors"))
    except RuntimeError as error:
        raise ValueError(
            f"{path}/model.safetensors does not fit the configured model: {error}; "
            "go on with the configuration in that folder, or start anew in another folder"
        ) from error
    _load_optimizer(path, model, optimizer, state["param_groups"])
    return Progress(**state["progress"]), state["identity"]


def read_state(path: Path) -> dict[str, Any]:
    """state.json of the checkpoint `path`; raises ValueError where it cannot be read."""
    try:
        return json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"checkpoint {path}: state.json is not readable ({error}); remove this folder"
        ) from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; raises ValueError where it cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path} is not readable ({error}); remove its folder to go on without it"
        ) from error


def _state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return getattr(model, "checkpoint_state", model.state_dict)()


def _write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # how safetensors speaks of a full disk
        raise OSError(str(error)) from error


def _names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Parameter names in the optimiser's order."""
    by_identity = {id(parameter): name for name, parameter in model.named_parameters()}
    return [by_identity[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = _names(model, optimizer)
    state = optimizer.state_dict()["state"]
    tensors = {f"{names[index]}/{key}": value for index, kept in state.items() for key, value in kept.items()}
    return {
        key: value.detach().cpu().contiguous() for key, value in tensors.items() if torch.is_tensor(value)
    }


def _group_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def _load_optimizer(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, saved_groups: list[dict[str, Any]]
) -> None:
    """Fill the optimiser's state; its options (betas, weight decay) are the configured ones, as its rate
    is."""
    index = {name: number for number, name in enumerate(_names(model, optimizer))}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in read_tensors(path / "optimizer.safetensors").items():
        name, _, kind = key.rpartition("/")
        if name not in index:
            raise ValueError(f"{path}/optimizer.safetensors: the configured model has no parameter {name}")
        # A copy: what was read is a view of the file, which Windows would not let us remove while it is used.
        state.setdefault(index[name], {})[kind] = tensor.clone()
    if len(saved_groups) != len(optimizer.param_groups):
        raise ValueError(
            f"{path}: the checkpoint has {len(saved_groups)} parameter groups, the configuration "
            f"{len(optimizer.param_groups)} (model.optim_param_groups)"
        )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
