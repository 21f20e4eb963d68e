"""How far an experiment is at this moment: its stages, the shards of the one that runs, and its trainings."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from nest_ssl.files.system import process_is_alive
from nest_ssl.report.runs import Run, finite, read_runs, wall_clock
from nest_ssl.report.stages import StageState, read_holder, read_stages

QUIET_S = 60.0  # a training that logs more often than that is not called quiet before
QUIET_INTERVALS = 5  # ... and any only after so many times its usual distance between two lines
TAIL_BYTES = 8192
# Figures that say most of whichever kind of training it is; the first five that are present are shown.
KEY_METRICS = (
    *("cer", "wer", "ctc_cer", "acc", "masked_acc", "gain_nats"),
    *("llm_loss", "ctc_loss", "blank_share", "infeasible", "target_coverage"),
)


@dataclass(frozen=True)
class Shards:
    """Processes of a stage that run side by side, counted by their logs.

    made of planned: what the running ones say of themselves, in `unit`; None where they say nothing.
    """

    total: int
    done: int
    running: int
    failed: int
    unit: str = ""
    made: int | None = None
    planned: int | None = None
    eta: str = ""


@dataclass(frozen=True)
class LiveRun:
    """One training as it is now.

    state: starts (nothing logged yet), trains, done, stopped (before its last step).  eta_s: seconds left by
    its last line, less what has passed since.  quiet_s: time since that line where it is worth a word.
    """

    name: str
    state: str
    step: int
    max_steps: int | None
    loss: float | None
    val_loss: float | None
    best_val_loss: float | None
    best_step: int | None
    lr: float | None
    audio_s_per_s: float | None
    mem_gb: float | None
    eta_s: float | None
    quiet_s: float | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Status:
    """An experiment at the time `now`; running says whether a run of the recipe or a training is at work."""

    folder: Path
    now: datetime
    running: bool
    stages: list[StageState]
    shards: Shards | None
    runs: list[LiveRun]

    @property
    def current(self) -> StageState | None:
        """The stage that runs now."""
        return next((stage for stage in self.stages if stage.state == "running"), None)


def read_status(folder: Path, now: datetime) -> Status:
    """Read exp/TAG, or the directory of one training.  Raises FileNotFoundError if it is no folder."""
    stages = read_stages(folder)
    runs = [live_run(run, now) for run in read_runs(folder) if run.copy_of is None]
    holders = [read_holder(at) for at in {stage.folder for stage in stages} | {folder.resolve()}]
    at_work = any(holder is not None and holder.alive for holder in holders)
    current = next((stage for stage in stages if stage.state == "running"), None)
    return Status(
        folder=folder,
        now=now,
        running=at_work or any(run.state in ("trains", "starts") for run in runs),
        stages=stages,
        shards=read_shards(current) if current else None,
        runs=runs,
    )


def live_run(run: Run, now: datetime) -> LiveRun:
    """Judge a training by its process and its last lines."""
    last = run.train[-1] if run.train else {}
    checked = run.validation[-1] if run.validation else {}
    age = max(0.0, (now - run.ended).total_seconds()) if run.ended else None
    usual = _usual_interval(run)
    alive = _writer_is_alive(run.folder, age)
    if run.max_steps is not None and run.step >= run.max_steps:
        state = "done"
    elif alive:
        state = "trains" if run.train else "starts"
    else:
        state = "stopped" if run.train or run.validation else "nothing logged"
    eta = _seconds(str(last.get("eta", ""))) if state == "trains" else None
    logged = wall_clock(last.get("time"))
    if eta is not None and logged is not None:
        eta = max(0.0, eta - max(0.0, (now - logged).total_seconds()))
    quiet = state == "trains" and age is not None and age > max(QUIET_S, QUIET_INTERVALS * usual)
    return LiveRun(
        name=run.name,
        state=state,
        step=run.step,
        max_steps=run.max_steps,
        loss=finite(last.get("loss")),
        val_loss=finite(checked.get("val_loss")),
        best_val_loss=run.figures.best_val_loss,
        best_step=run.figures.best_step,
        lr=finite(last.get("lr")),
        audio_s_per_s=finite(last.get("audio_s/s")),
        mem_gb=finite(last.get("mem_gb")),
        eta_s=eta,
        quiet_s=age if quiet else None,
        metrics=_key_metrics(last, checked),
    )


def read_shards(stage: StageState) -> Shards | None:
    """Count the shards that submit.py runs for a stage now; None where it runs none."""
    total, pattern = 0, ""
    for line in _tail(stage.log).splitlines():
        started = re.match(r"submit\.py: (\d+) shards, .* logs (.*JOB.*)$", line)
        if started:
            total, pattern = int(started[1]), started[2]
        elif re.match(r"submit\.py: \d+ of \d+ shards done in ", line):
            total = 0
    if not total:
        return None
    done = failed = running = made = planned = 0
    unit = eta = ""
    began = stage.started.timestamp() if stage.started else 0.0
    for number in range(1, total + 1):
        path = Path(pattern.replace("JOB", str(number)))
        try:
            if path.stat().st_mtime < began:  # of an earlier attempt
                continue
        except OSError:
            continue
        text = _tail(path)
        ended = re.search(r"^# Finished at .* with status (\d+)", text, re.M)
        if ended:
            done, failed = done + (ended[1] == "0"), failed + (ended[1] != "0")
            continue
        running += 1
        lines = re.findall(r" ([a-z]+) (\d+)/(\d+) \([^\n]* eta ([\d:]+)", text)
        if lines:
            unit, some, of, left = lines[-1]
            made, planned = made + int(some), planned + int(of)
            eta = max(eta, left, key=lambda text: _seconds(text) or 0.0)
    if not unit:
        return Shards(total, done, running, failed)
    return Shards(total, done, running, failed, unit, made, planned, eta)


def _key_metrics(last: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, float]:
    """The figures that say most: of the last validation, or else of training."""
    found: dict[str, float] = {}
    for name in KEY_METRICS:
        for row, key in ((checked, f"val_{name}"), (last, name)):
            value = finite(row.get(key))
            if value is not None:
                found[key] = value
                break
    return dict(list(found.items())[:5])


def _usual_interval(run: Run) -> float:
    rows = (*run.train[-20:], *run.validation[-5:])
    times = sorted(time for row in rows if (time := wall_clock(row.get("time"))))
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    return median(gaps) if gaps else QUIET_S


def _writer_is_alive(folder: Path, age_s: float | None) -> bool:
    """By .lock of the run directory; of another machine only the age of the last line can tell."""
    try:
        found = re.match(r"process (\d+) on (\S+)", (folder / ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not found:
        return False
    if found[2] == socket.gethostname():
        return process_is_alive(int(found[1]))
    return age_s is None or age_s < timedelta(hours=1).total_seconds()


def _seconds(clock: str) -> float | None:
    """Seconds of 1:02:03 or 26:02:03; None for --:--:-- and other words."""
    if not re.fullmatch(r"\d+:\d\d:\d\d", clock):
        return None
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600.0 * hours + 60 * minutes + seconds


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
