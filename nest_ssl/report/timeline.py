"""The stages of an experiment as bars on one line of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nest_ssl.report.stages import StageState
from nest_ssl.report.words import spelled

LEAST_PERCENT = 0.6  # of the width, so that the shortest stage is seen
MOSTLY_WAITING = 3.0  # times the work: from here on the bars are put one after another


@dataclass(frozen=True)
class StageBar:
    """One stage: its bar from `left` on, `width` wide, in per cent of the whole; width 0: no known time."""

    stage: StageState
    took: str
    left: float
    width: float


@dataclass(frozen=True)
class Timeline:
    """All bars; `note` says what their axis is, `total` is the time of all stages in words."""

    bars: list[StageBar]
    note: str
    total: str


def timeline(stages: Sequence[StageState], now: datetime | None = None) -> Timeline:
    """Give the bars of the stages, by the clock, or one after another where most of the time nothing ran.

    now: up to when a running stage is drawn; without it, up to its start.
    """
    spans = [_span(stage, now) for stage in stages]
    known = [span for span in spans if span]
    work = sum((end - begin).total_seconds() for begin, end in known)
    if not known:
        return Timeline([StageBar(stage, "", 0.0, 0.0) for stage in stages], "", "")
    first, last = min(begin for begin, _ in known), max(end for _, end in known)
    whole = (last - first).total_seconds()
    by_clock = whole <= MOSTLY_WAITING * work
    whole = (whole if by_clock else work) or 1.0
    bars, before = [], 0.0
    for stage, span in zip(stages, spans, strict=True):
        if span is None:
            bars.append(StageBar(stage, "", 0.0, 0.0))
            continue
        seconds = (span[1] - span[0]).total_seconds()
        left = (span[0] - first).total_seconds() if by_clock else before
        before += seconds
        width = max(LEAST_PERCENT, 100 * seconds / whole)
        bars.append(StageBar(stage, spelled(seconds), min(100 * left / whole, 100 - width), width))
    note = f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    if not by_clock:
        note += "; the time between stages is left out of the bars"
    return Timeline(bars, note, spelled(work))


def _span(stage: StageState, now: datetime | None) -> tuple[datetime, datetime] | None:
    if stage.started is None:
        return None
    end = stage.ended or (now if stage.state == "running" else None) or stage.started
    return stage.started, max(stage.started, end)
