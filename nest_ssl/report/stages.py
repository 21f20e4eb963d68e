"""Stages of an experiment folder: what the recipe layer left about them in .done/, log/ and .lock."""

from __future__ import annotations

import datetime
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nest_ssl.files.system import process_is_alive
from nest_ssl.report.markers import changes_since, places_of

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
STATES = ("done", "stale", "running", "failed", "stopped", "missing")
LIST = ".stages"  # NUMBER NAME FOLDER LOG, separated by tabs; paths relative to the experiment or absolute
QUIET_S = 600.0  # without a line in its log, of a stage on another machine, is worth a word
CALLS = ".command"  # for every run a comment with time and machine, then its call

_UNITS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class StageState:
    """One stage as it is on the disk.

    state: done (a marker is there), stale (done, but files that it was made from have changed since, see
    markers.py), running (the run that holds the lock is at it), failed, stopped (by a signal, or with the
    whole run), missing (not run yet).  detail: more in words; changes: which files.  took_s is None until it
    has ended.
    """

    number: int
    name: str
    state: str
    started: datetime.datetime | None
    ended: datetime.datetime | None
    took_s: float | None
    log: Path
    detail: str
    folder: Path  # whose .done, log and .lock the stage uses: the experiment's, or that of the shared data
    changes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """One call of a recipe, as it can be pasted into a shell in the folder where it was given."""

    started: datetime.datetime | None
    machine: str
    folder: str
    command: str


@dataclass(frozen=True)
class Holder:
    """The run that writes in a folder, or did until it was killed."""

    pid: int
    host: str
    since: str
    stage: str  # "stage 3 (pretrain)"
    alive: bool


def read_stages(folder: Path) -> list[StageState]:
    """Give the stages of an experiment, in their order; without the recipe's list, those that left a trace.

    folder: exp/TAG.  Raises FileNotFoundError if it is no folder.  Nothing of a recipe in it gives no stages.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder; it is exp/TAG of a recipe")
    folder = folder.resolve()
    listed = list(_listed(folder)) or list(_found(folder))
    data = next((at for _, _, at, _ in listed if at != folder), _data_beside(folder))
    places = places_of(folder, data)
    return [_state_of(number, name, at, log, places) for number, name, at, log in listed]


def read_calls(folder: Path) -> list[Call]:
    """Give the calls of the recipe that ran stages of this experiment, the first one first."""
    try:
        lines = (folder / ".done" / CALLS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    calls = []
    started, machine, where = None, "", ""
    for line in lines:
        head = re.fullmatch(rf"# ({TIME}) on (\S+) in (.*)", line)
        if head:
            started, machine, where = _time(head[1]), head[2], head[3]
        elif line.strip():
            calls.append(Call(started, machine, where, line.strip()))
    return calls


def read_holder(folder: Path) -> Holder | None:
    """Give the run that the lock of `folder` names, None where there is no lock."""
    try:
        lines = (folder / ".lock").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    facts = dict(line.split(" ", 1) for line in lines if " " in line)
    pid = facts.get("pid", "")
    if not pid.isdigit():
        return None
    host = facts.get("host", "")
    # of another machine nothing can be asked, and a lock there is most likely a run
    alive = host != socket.gethostname() or process_is_alive(int(pid), facts.get("start", ""))
    return Holder(int(pid), host, facts.get("since", ""), facts.get("stage", ""), alive)


def seconds_of(words: str) -> float | None:
    """Give the seconds of "2 h 10 min 5 s", "5 min 22 s" or "12 s"; None for other words."""
    if not re.fullmatch(r"\d+ (h|min|s)( \d+ (min|s))*", words):
        return None
    parts = words.split()
    return float(sum(int(n) * _UNITS[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True)))


def _listed(folder: Path) -> Iterator[tuple[int, str, Path, Path]]:
    try:
        text = (folder / ".done" / LIST).read_text(encoding="utf-8")
    except OSError:
        return
    for line in text.splitlines():
        words = line.split("\t")
        if len(words) == 4 and words[0].isdigit():
            yield int(words[0]), words[1], (folder / words[2]).resolve(), (folder / words[3]).resolve()


def _found(folder: Path) -> Iterator[tuple[int, str, Path, Path]]:
    """Stages that left a marker or an attempt here, or in the data folder where recipes have it."""
    seen: dict[int, tuple[str, Path]] = {}
    for at in (folder, _data_beside(folder)):
        for path in (at / ".done").glob("*") if (at / ".done").is_dir() else ():
            name = re.fullmatch(r"\.?(\d+)-([a-z][a-z0-9_-]*)(\.attempt)?", path.name)
            if name:
                seen.setdefault(int(name[1]), (name[2], at))
    for number, (stage, at) in sorted(seen.items()):
        yield number, stage, at, at / "log" / f"{number}-{stage}.log"


def _data_beside(folder: Path) -> Path:
    """The data folder of exp/TAG where a recipe has it unless told otherwise."""
    return folder.parent.parent / "data"


def _state_of(number: int, name: str, at: Path, log: Path, places: Mapping[str, Path]) -> StageState:
    started = ended = took = None
    marker = _last_line(at / ".done" / f"{number}-{name}")
    attempt = _last_line(at / ".done" / f".{number}-{name}.attempt")
    holder = read_holder(at)
    here = holder is not None and holder.stage.removeprefix("stage ") == f"{number} ({name})"
    if holder is not None and here and holder.alive:
        begin = re.search(rf"started ({TIME})", attempt)
        started = _time(begin[1]) if begin else None
        return StageState(number, name, "running", started, None, None, log, _whose(holder, log), at)
    words = re.fullmatch(rf"# ({TIME}), took (.*)", marker)
    if marker:
        if words:
            ended, took = _time(words[1]), seconds_of(words[2])
            started = _before(ended, took)
        why, changes = changes_since(_text(at / ".done" / f"{number}-{name}", "surrogateescape"), at, places)
        state = "stale" if why else "done"
        return StageState(number, name, state, started, ended, took, log, why, at, changes)
    if not attempt:
        detail = "" if at.is_dir() else f"{at} is not here"
        return StageState(number, name, "missing", None, None, None, log, detail, at)
    begin = re.search(rf"it started ({TIME})", attempt)
    words = re.search(rf", ({TIME})(?:, after (.*))?$", attempt)
    if begin:
        started = _time(begin[1])
    elif words:
        ended, took = _time(words[1]), seconds_of(words[2] or "")
        started = _before(ended, took)
    stopped = attempt.startswith(("interrupted", "stopped"))
    detail = attempt[: words.start()] if words else attempt
    if here:
        detail = "the run was killed"
    elif begin:
        detail = "interrupted"
    return StageState(number, name, "stopped" if stopped else "failed", started, ended, took, log, detail, at)


def _whose(holder: Holder, log: Path) -> str:
    """The process, and of another machine's, which cannot be asked for, how long it has said nothing."""
    text = f"pid {holder.pid} on {holder.host}"
    quiet_s = time.time() - log.stat().st_mtime if log.is_file() else 0.0
    if holder.host == socket.gethostname() or quiet_s < QUIET_S:
        return text
    return f"{text}; no line in its log for {quiet_s / 60:.0f} min: was it killed?"


def _before(ended: datetime.datetime | None, took_s: float | None) -> datetime.datetime | None:
    return ended - datetime.timedelta(seconds=took_s) if ended and took_s is not None else None


def _time(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(text, TIME_FORMAT)
    except ValueError:
        return None


def _last_line(path: Path) -> str:
    text = _text(path)
    return text.splitlines()[-1] if text else "(empty)" if path.is_file() else ""


def _text(path: Path, errors: str = "replace") -> str:
    try:
        return path.read_text(encoding="utf-8", errors=errors)
    except OSError:
        return ""
