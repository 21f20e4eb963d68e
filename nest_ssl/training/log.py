"""What a run writes about itself: train.log to tail, metrics.jsonl to read by program, TensorBoard events."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nest_ssl.files.atomic import replaced
from nest_ssl.files.clock import clock as short_clock
from nest_ssl.files.system import resident_bytes

# How the figures are printed in train.log; metrics.jsonl has them in full.
FORMATS = {
    "loss": ".4f",
    "lr": ".2e",
    "grad_norm": ".3g",
    "hours_seen": ".2f",
    "audio_s/s": ".0f",
    "mem_gb": ".2f",
}
TENSORBOARD_TAGS = {"loss": "train_loss", "lr": "learning_rate", "step": "global_step"}  # NeMo's names
NOT_PLOTTED = {"time", "kind", "max_steps", "epoch_batches", "eta"}


class RunLog:
    """The three logs of a run in `folder`, appended to when it resumes; main process only."""

    def __init__(self, folder: Path, resumed_step: int, tensorboard: bool):
        """resumed_step: figures of later steps, from a run that was killed, are taken out of
        metrics.jsonl."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _drop_after(folder / "metrics.jsonl", resumed_step)
        self._train_log = (folder / "train.log").open("a", encoding="utf-8", buffering=1)
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)
        self._events = None
        if tensorboard:
            from torch.utils.tensorboard import (
                SummaryWriter,  # a second of imports that a run without it is spared
            )

            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)

    def message(self, text: str) -> None:
        """One dated line in train.log and on standard output."""
        self._line(text)

    def training(self, figures: Mapping[str, Any]) -> None:
        """One line of training figures; the keys are the caller's, in its order."""
        head = (
            f"step {figures['step']}/{figures['max_steps']} epoch {figures['epoch']} "
            f"batch {figures['batch']}/{figures['epoch_batches']}"
        )
        rest = [k for k in figures if k not in ("step", "max_steps", "epoch", "batch", "epoch_batches")]
        self._record("train", head, rest, figures)

    def validation(self, figures: Mapping[str, Any]) -> None:
        """One line of validation figures."""
        rest = [k for k in figures if k not in ("step", "max_steps", "epoch")]
        self._record(
            "validation",
            f"validation step {figures['step']}/{figures['max_steps']} epoch {figures['epoch']}",
            rest,
            figures,
        )

    def close(self) -> None:
        self._train_log.close()
        self._metrics.close()
        if self._events:
            self._events.close()

    def _record(self, kind: str, head: str, keys: list[str], figures: Mapping[str, Any]) -> None:
        self._line(" ".join([head, *(f"{key} {_shown(key, figures[key])}" for key in keys)]))
        self._metrics.write(json.dumps({"time": _now(), "kind": kind, **_jsonable(figures)}) + "\n")
        if self._events:
            for key, value in figures.items():
                if key not in NOT_PLOTTED and isinstance(value, int | float):
                    self._events.add_scalar(TENSORBOARD_TAGS.get(key, key), value, figures["step"])

    def _line(self, text: str) -> None:
        line = f"{_now()} {text}"
        try:
            self._train_log.write(line + "\n")
        except OSError as error:
            raise OSError(
                f"{self._train_log.name} cannot be written ({error.strerror}); the last checkpoint is whole: "
                "make room and start the same command again"
            ) from error
        print(line, flush=True)


def clock(seconds: float) -> str:
    """Seconds as HH:MM:SS; unknown times as --:--:--."""
    if not math.isfinite(seconds):
        return "--:--:--"
    return short_clock(seconds).zfill(8)


def _shown(key: str, value: Any) -> str:
    if isinstance(value, float):
        return format(value, FORMATS.get(key, ".4f"))
    return str(value)


def _jsonable(figures: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN or infinity: they are written as null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}


def _now() -> str:
    return datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")


def _drop_after(path: Path, step: int) -> None:
    """Keep the rows of `path` up to `step`; a torn last line goes as well."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that a kill tore
        if row.get("step", 0) <= step:
            kept.append(line + "\n")
    with replaced(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def memory_gb(device: torch.device) -> float:
    """Peak memory of the device's allocator, or resident memory of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resident_bytes() / 1e9
