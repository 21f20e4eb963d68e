"""The run directories of an experiment: what each training logged, its settings and its surroundings."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from nest_ssl.config import leaves
from nest_ssl.report.json_lines import read_json_lines

DEPTH = 4  # levels below exp/TAG where run directories are looked for
PASSED_BY = {"checkpoints", "tensorboard", "model", "decode", "log"}


@dataclass(frozen=True)
class Figures:
    """What the log of a run comes to; None where it says nothing of it.

    Losses are the finite ones of the validations; `fall` is 1 - best / first, `train_s` the seconds of
    training alone (validation, checkpoints and start-up are not in), `mem_gb` the peak in 10^9 bytes.
    """

    first_val_loss: float | None = None
    first_step: int | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    last_val_loss: float | None = None
    fall: float | None = None
    validations: int = 0
    nonfinite: int = 0  # rows of training or validation whose loss was NaN or infinite
    hours_seen: float | None = None
    train_s: float | None = None
    ms_per_step: float | None = None
    mem_gb: float | None = None


@dataclass(frozen=True)
class Run:
    """One run directory; `name` is its path below the experiment."""

    name: str
    folder: Path
    train: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    env: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    figures: Figures = Figures()
    started: datetime | None = None  # local time of the machine that trained
    ended: datetime | None = None  # of the last row that it logged
    copy_of: str | None = None  # the run of the same experiment whose files these are
    faults: list[str] = field(default_factory=list)  # what could not be read, in words

    @cached_property
    def step(self) -> int:
        """The last step that was logged; 0 before the first."""
        return max((_whole(row.get("step")) for row in (*self.train, *self.validation)), default=0)

    @cached_property
    def max_steps(self) -> int | None:
        """How many steps the run is to have, as its last row says; None before the first."""
        rows = [row for row in (*self.train, *self.validation) if _whole(row.get("max_steps")) > 0]
        return _whole(max(rows, key=lambda row: _whole(row.get("step")))["max_steps"]) if rows else None

    @property
    def on_gpu(self) -> bool | None:
        """True if it trained on a GPU, None if env.json does not say."""
        device = self.env.get("device")
        return None if device is None else device != "cpu"


def read_runs(folder: str | Path) -> list[Run]:
    """Give every run directory (one with metrics.jsonl or env.json) in or below `folder`, in order of start.

    Nothing that a run lacks is an error, nor is a line that is being written; what cannot be read is said in
    its `faults`.  Raises FileNotFoundError unless `folder` is a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of an experiment")
    runs = [read_run(found, _name(found, folder)) for found in _run_folders(folder)]
    runs.sort(key=lambda run: (run.started is None, run.started or datetime.min, run.name))
    return _with_copies(runs)


def read_run(folder: Path, name: str | None = None) -> Run:
    """Give one run directory, whatever of it is there."""
    faults: list[str] = []
    rows = _metrics(folder / "metrics.jsonl", faults)
    env = _mapping(folder / "env.json", json.loads, faults)
    settings = dict(leaves(_mapping(folder / "config.yaml", _yaml, faults)))
    train = [row for row in rows if row.get("kind") == "train"]
    validation = [row for row in rows if row.get("kind") == "validation"]
    times = [time for row in rows if (time := wall_clock(row.get("time"))) is not None]
    begun = [time for time in (wall_clock(env.get("started")), *times[:1]) if time is not None]
    return Run(
        name=name or folder.name,
        folder=folder,
        train=train,
        validation=validation,
        env=env,
        settings=settings,
        figures=_figures(train, validation),
        started=min(begun, default=None),
        ended=max(times, default=None),
        faults=faults,
    )


def _run_folders(folder: Path) -> Iterator[Path]:
    """Runs may be links to other disks; a link back to a folder above is not followed."""
    seen = set()
    for place, names, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        depth = len(Path(place).relative_to(folder).parts)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in PASSED_BY)
        if depth >= DEPTH:
            names.clear()
        if "metrics.jsonl" in files or "env.json" in files:
            yield Path(place)


def _name(folder: Path, top: Path) -> str:
    return folder.relative_to(top).as_posix() if folder != top else top.resolve().name


def _with_copies(runs: list[Run]) -> list[Run]:
    """Say which runs are the files of another: a recipe whose last part has no steps copies the one before.

    The command names the folder that it wrote to, so of two that share it the one it names is the original.
    """
    found: list[Run] = []
    for run in runs:
        same = [
            other
            for other in runs
            if other is not run and run.env and run.env == other.env and run.train == other.train
        ]
        original = next((o for o in same if _written_to(o) and not _written_to(run)), None)
        found.append(replace(run, copy_of=original.name) if original else run)
    return found


def _written_to(run: Run) -> bool:
    command = run.env.get("command")
    names = {run.folder.name}
    words = [str(word) for word in command] if isinstance(command, list) else []
    return any(Path(word.rpartition("=")[2]).name in names for word in words if "/" in word)


def _metrics(path: Path, faults: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        rows, torn = read_json_lines(path, grows=True)
    except OSError as error:
        faults.append(f"{path} cannot be read ({error.strerror})")
        return []
    if torn:
        faults.append(
            f"{path}: {len(torn)} lines are no JSON objects and are left out, the first is line {torn[0]}"
        )
    return rows


def _mapping(path: Path, parse: Any, faults: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{path} cannot be read ({error.strerror})")
    except (ValueError, yaml.YAMLError) as error:
        faults.append(f"{path} cannot be read ({str(error).splitlines()[0]})")
    else:
        if isinstance(found, dict):
            return found
        faults.append(f"{path} holds {type(found).__name__}, not keys and values")
    return {}


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _figures(train: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]]) -> Figures:
    losses = [
        (loss, _whole(row.get("step")))
        for row in validation
        if (loss := finite(row.get("val_loss"))) is not None
    ]
    nonfinite = sum("loss" in row and finite(row["loss"]) is None for row in train)
    nonfinite += sum("val_loss" in row and finite(row["val_loss"]) is None for row in validation)
    first, first_step = losses[0] if losses else (None, None)
    best, best_step = min(losses, default=(None, None))
    seconds, before = 0.0, 0.0
    for row in train:  # of each line: the audio since the one before, at the rate that it states
        seen, rate = finite(row.get("hours_seen")) or 0.0, finite(row.get("audio_s/s")) or 0.0
        seconds += 3600 * max(0.0, seen - before) / rate if rate > 0 else 0.0
        before = seen
    steps = _whole(train[-1].get("step")) if train else 0
    memory = [gb for row in train if (gb := finite(row.get("mem_gb"))) is not None]
    return Figures(
        first_val_loss=first,
        first_step=first_step,
        best_val_loss=best,
        best_step=best_step,
        last_val_loss=losses[-1][0] if losses else None,
        fall=1.0 - best / first if first and first > 0 and best is not None else None,
        validations=len(losses),
        nonfinite=nonfinite,
        hours_seen=before if train else None,
        train_s=seconds if train else None,
        ms_per_step=1000 * seconds / steps if steps and seconds else None,
        mem_gb=max(memory, default=None),
    )


def finite(value: Any) -> float | None:
    """Give a number as float; None for anything else, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: Any) -> int:
    number = finite(value)
    return int(number) if number is not None else 0


def wall_clock(value: Any) -> datetime | None:
    """The wall clock of the machine that wrote it; metrics.jsonl has no zone, env.json has one."""
    try:
        return datetime.fromisoformat(str(value)).replace(tzinfo=None)
    except ValueError:
        return None
