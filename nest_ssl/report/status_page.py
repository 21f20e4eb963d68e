"""A status as text: aligned columns that fit the terminal's width, coloured where a person looks on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from nest_ssl.files.clock import clock
from nest_ssl.report.live import LiveRun, Shards, Status
from nest_ssl.report.stages import StageState
from nest_ssl.report.words import spelled
from nest_ssl.text.alignment_file import display_width

COLOURS = {
    "done": "32",
    "running": "1;36",
    "trains": "1;36",
    "starts": "36",
    "failed": "1;31",
    "stopped": "33",
    "stale": "33",
}
DIM, WARNING = "2", "1;33"
INDENT = " " * 6
FULL_WIDTH = 100
CHANGES = 8  # lines about what has changed, of one stage; run.sh --status shows as many


class Column(NamedTuple):
    """A column of the table of trainings; those with the highest `rank` go first when it is too wide."""

    title: str
    rank: int
    cells: list[str]

    @property
    def width(self) -> int:
        """The widest of title and cells, in columns of the terminal."""
        return max(map(display_width, (self.title, *self.cells)))


def status_lines(
    status: Status, width: int = FULL_WIDTH, colour: bool = False, above: Path | None = None
) -> list[str]:
    """Give the page, every line at most `width` columns wide (colour codes not counted).

    Paths below the folder `above` are given as from there.
    """
    lines = [(f"exp  {status.folder}", "")]
    lines += [(_from(above, text), code) for text, code in _stage_lines(status, width)]
    live = [run for run in status.runs if run.state in ("trains", "starts")]
    if status.runs:
        lines.append(("", ""))
        lines += _run_table(status.runs, width)
    for run in live:
        if run.metrics:
            figures = "  ".join(f"{key} {_figure(value)}" for key, value in run.metrics.items())
            lines.append((f"    {run.name}: {figures}", ""))
        if run.quiet_s is not None:
            lines.append((f"    {run.name}: no line for {spelled(run.quiet_s)}; has it hung?", WARNING))
    lines.append(("", ""))
    words = _sum(status)
    long, short = f"{status.now:%Y-%m-%d %H:%M:%S}  {words}", f"{status.now:%H:%M:%S}  {words}"
    lines.append((long if display_width(long) <= width else short, ""))
    cut = [(_cut(text, width), code) for text, code in lines]
    return [_painted(text, code) if colour and code else text for text, code in cut]


def _from(above: Path | None, text: str) -> str:
    """Take the folder `above` from the paths that begin with it, not from within others."""
    return text if above is None else re.sub(rf"(?<!\S){re.escape(str(above))}/", "", text)


def _cut(text: str, width: int) -> str:
    """A line wider than the terminal would be two: the next look would be drawn at the wrong place."""
    if display_width(text) <= width:
        return text
    while text and display_width(text) > width - 3:
        text = text[:-1]
    return text + "..."


def _painted(text: str, code: str) -> str:
    """The state in its colour, or all of a line that has none."""
    word = next((word for word, of_state in COLOURS.items() if of_state == code and f" {word}" in text), text)
    return text.replace(word, f"\033[{code}m{word}\033[m", 1) if text else text


def _stage_lines(status: Status, width: int) -> list[tuple[str, str]]:
    if not status.stages:
        return []
    widest = max(12, *(len(stage.name) for stage in status.stages))
    lines = [(f"    {'stage':<{widest}} {'state':<8} {'ended':<20} {'took':>14}", DIM)]
    for stage in status.stages:
        when, took = _times(stage, status.now)
        detail = stage.detail.removeprefix(f"{stage.state} ").removeprefix("with ")
        text = f"{stage.number:>3} {stage.name:<{widest}} {stage.state:<8} {when:<20} {took:>14}  "
        note = detail if display_width(text + detail) <= width else ""
        lines.append(((text + note).rstrip(), COLOURS.get(stage.state, DIM)))
        if detail and not note:
            lines.append((INDENT + detail, ""))
        lines += [(INDENT + change, "") for change in stage.changes[:CHANGES]]
        if len(stage.changes) > CHANGES:
            lines.append((f"{INDENT}... and {len(stage.changes) - CHANGES} more", ""))
        if stage.state in ("failed", "stopped"):
            lines.append((f"{INDENT}log {stage.log}", ""))
        if stage.state == "running" and status.shards:
            lines.append((INDENT + _shards(status.shards), ""))
    return lines


def _times(stage: StageState, now: datetime) -> tuple[str, str]:
    if stage.state == "running" and stage.started:
        passed_s = max(0.0, (now - stage.started).total_seconds())
        return f"since {stage.started:%m-%d %H:%M:%S}", spelled(passed_s)
    when = f"{stage.ended:%Y-%m-%d %H:%M:%S}" if stage.ended else ""
    return when, "" if stage.took_s is None else spelled(stage.took_s)


def _shards(shards: Shards) -> str:
    text = f"shards {shards.done} of {shards.total} done, {shards.running} running"
    if shards.failed:
        text += f", {shards.failed} failed"
    if shards.made is not None:
        text += f"; these at {shards.unit} {shards.made} of {shards.planned}, eta {shards.eta}"
    return text


def _run_table(runs: Sequence[LiveRun], width: int) -> list[tuple[str, str]]:
    columns = [
        Column("training", 0, [run.name for run in runs]),
        Column("state", 6, [run.state for run in runs]),
        Column("step", 0, [f"{run.step}/{run.max_steps or '?'}" for run in runs]),
        Column("", 5, [f"{100 * run.step // run.max_steps} %" if run.max_steps else "" for run in runs]),
        Column("loss", 1, [_figure(run.loss) for run in runs]),
        Column("val_loss", 2, [_figure(run.val_loss) for run in runs]),
        Column("best", 4, [_figure(run.best_val_loss) for run in runs]),
        Column("lr", 7, ["" if run.lr is None else f"{run.lr:.1e}" for run in runs]),
        Column(
            "audio_s/s", 8, ["" if run.audio_s_per_s is None else f"{run.audio_s_per_s:.0f}" for run in runs]
        ),
        Column("mem_gb", 9, ["" if run.mem_gb is None else f"{run.mem_gb:.2f}" for run in runs]),
        Column("eta", 3, ["" if run.eta_s is None else clock(run.eta_s) for run in runs]),
    ]
    while len(columns) > 2 and 4 + sum(column.width + 2 for column in columns) - 2 > width:
        columns.remove(max(columns, key=lambda column: column.rank))
    left = [column.title in ("training", "state") for column in columns]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell + room if to_the_left else room + cell
            for cell, column, to_the_left in zip(cells, columns, left, strict=True)
            for room in [" " * (column.width - display_width(cell))]
        ]
        return ("    " + "  ".join(padded)).rstrip()

    table = [(line([column.title for column in columns]), DIM)]
    for number, run in enumerate(runs):
        table.append((line([column.cells[number] for column in columns]), COLOURS.get(run.state, DIM)))
    return table


def _sum(status: Status) -> str:
    """The last line: how many stages are done, and what is next."""
    done = [stage for stage in status.stages if stage.state == "done"]
    current = status.current
    words = []
    if status.stages:
        took = sum(stage.took_s or 0.0 for stage in done)
        words.append(
            f"{len(done)} of {len(status.stages)} stages done" + (f", {spelled(took)}" if done else "")
        )
    if current:
        words.append(f"running: {current.number} ({current.name})")
    elif status.running:
        words.append("running")
    elif len(done) < len(status.stages):
        waiting = next(stage for stage in status.stages if stage.state != "done")
        words.append(f"nothing runs; next: {waiting.number} ({waiting.name})")
    elif not status.stages:
        words.append("nothing runs")
    return "; ".join(words)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < 10000 else f"{value:.3g}"
