"""The curves of trainings: what each logged of its loss and metrics, and all of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nest_ssl.report.plots import Series, Style, line_plot, smoothed
from nest_ssl.report.runs import Run, finite

# What a row of metrics.jsonl holds besides metrics.
NOT_METRICS = {
    *("time", "kind", "step", "max_steps", "epoch", "batch", "epoch_batches", "eta", "seconds"),
    *("loss", "lr", "grad_norm", "hours_seen", "audio_s/s", "mem_gb"),
}
FIRST_METRICS = (
    "cer",
    "ctc_cer",
    "wer",
    "masked_acc",
    "acc",
    "gain_nats",
)  # shown beside the loss, two of them
SHARES = {"cer", "ctc_cer", "wer", "acc", "masked_acc"}  # drawn in per cent, as they are told elsewhere
WORDS = {
    "cer": "CER, %",
    "ctc_cer": "CER of CTC, %",
    "wer": "WER, %",
    "acc": "accuracy of the next token, %",
    "masked_acc": "accuracy on masked frames, %",
    "gain_nats": "gain over guessing by frequency, nats",
    "llm_loss": "loss of the LLM",
    "ctc_loss": "loss of CTC",
}
SHARED = (  # of all runs in one figure: key, title, logarithmic or by the values
    ("lr", "Learning rate", None),
    ("grad_norm", "Gradient norm", None),
    ("mem_gb", "Memory, GB", False),
    ("audio_s/s", "Speed, seconds of audio a second", None),
)


@dataclass(frozen=True)
class Figure:
    """An SVG and its caption; `note` is said after it, softer."""

    caption: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class RunFigures:
    """The figures of one run: the loss and the metrics that matter most, and the rest."""

    run: Run
    style: Style
    first: list[Figure] = field(default_factory=list)
    rest: list[Figure] = field(default_factory=list)


def run_figures(run: Run, style: Style) -> RunFigures:
    """Draw one run: loss, then at most two of FIRST_METRICS; every other metric that was logged in `rest`."""
    keys = dict.fromkeys(_bare(key) for row in (*run.train, *run.validation) for key in row)
    metrics = [key for key in keys if key not in NOT_METRICS]
    ahead = [key for key in FIRST_METRICS if key in metrics][:2]
    return RunFigures(
        run,
        style,
        [figure for key in ("loss", *ahead) if (figure := _metric(run, key, style))],
        [figure for key in metrics if key not in ahead and (figure := _metric(run, key, style))],
    )


def shared_figures(runs: Sequence[Run], styles: Mapping[str, Style]) -> list[Figure]:
    """Draw learning rate, gradient norm, memory and speed of all runs over the part of their steps."""
    figures = []
    for key, title, log_y in SHARED:
        series, widest = [], 1
        for run in runs:
            x, y = _points(run.train, key)
            whole = run.max_steps or run.step or 1
            if np.isfinite(y).any():
                mean, window = smoothed(y) if key in ("grad_norm", "audio_s/s") else (y, 1)
                widest = max(widest, window)
                kind = "marks" if len(y) < 3 else "line"
                series.append(Series(run.name, 100 * x / whole, mean, styles[run.name], kind))
        if series:
            alt = f"{title} of {', '.join(one.name for one in series)} over the share of steps"
            svg = line_plot(series, alt, "% of the planned steps", log_y=log_y, x_range=(0.0, 100.0))
            note = f"means of {widest} logged values, of fewer in shorter runs" if widest > 1 else ""
            figures.append(Figure(title, svg, note))
    return figures


def _metric(run: Run, key: str, style: Style) -> Figure | None:
    """Draw what was logged in training, faint, its mean, and validation as points; None without a number."""
    title = "loss" if key == "loss" else WORDS.get(key, key.replace("_", " "))
    x, y = _points(run.train, key)
    val_x, val_y = _points(run.validation, f"val_{key}")
    if key in SHARES:
        y, val_y = 100 * y, 100 * val_y
    series, notes = [], []
    if len(y):
        mean, window = smoothed(y)
        if window > 1:
            series.append(Series("training, as logged", x, y, style, "faint"))
            notes.append(f"mean of {window} logged values")
        series.append(Series("training", x, mean, style, "line"))
    if len(val_y):
        series.append(Series("validation", val_x, val_y, VALIDATION, "marks"))
    if not series:
        return None
    bad = int(np.isnan(y).sum() + np.isnan(val_y).sum())
    if bad:
        notes.append(f"gaps: {bad} values are not finite")
    last = f", last training value {y[-1]:.4g}" if len(y) else ""
    last += f", last validation value {val_y[-1]:.4g}" if len(val_y) else ""
    alt = f"{run.name}: {title} over steps{last}"
    steps = (0.0, float(run.max_steps or run.step or 1))  # of the whole run: an unfinished one ends before
    log_y = None if key.endswith(("loss", "ppl")) else False  # shares and gains are read as they are
    return Figure(title, line_plot(series, alt, log_y=log_y, x_range=steps), "; ".join(notes))


VALIDATION = Style(-1)  # c-1: the colour of text, in every run


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Give steps and values of the rows that have the key; a value that is no finite number is NaN."""
    having = [row for row in rows if key in row and finite(row.get("step")) is not None]
    return _numbers([row["step"] for row in having]), _numbers([row[key] for row in having])


def _numbers(values: Sequence[Any]) -> np.ndarray:
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):  # a word among them
        found = np.array([finite(value) for value in values], dtype=np.float64)
    found[~np.isfinite(found)] = np.nan
    return found


def _bare(key: str) -> str:
    return key.removeprefix("val_")
