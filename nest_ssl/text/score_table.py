"""The page of scores, in Markdown, and the same figures for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nest_ssl.text.keywords import DEFINITION
from nest_ssl.text.scored_text import WHAT_IS_DONE
from nest_ssl.text.scoring import HEADLINE, METRICS, Gain, Rate, Row, Scores

NAMED = 5


def page(
    scores: Scores, title: str, baseline: Sequence[str], made: Sequence[str], training: Sequence[str] = ()
) -> str:
    """Give RESULTS.md: the table, gains step by step, the training, what was counted, definitions, how it
    was made.

    made: lines of Markdown on commands, code, seeds and machines.  training: a section of its own.
    """
    parts = [[f"# {title}", ""], _table(scores, baseline), _steps(scores), list(training)]
    parts += [_counted(scores)]
    parts += [_definitions(scores, baseline), ["## How it was made", "", *made, ""]]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def as_json(scores: Scores) -> dict[str, Any]:
    """Give all figures as an object for json.dumps; a rate without units is null."""
    rows = []
    for row in scores.rows:
        outputs = row.outputs
        rows.append(
            {
                "system": row.system,
                "field": row.field,
                "kind": row.kind,
                **{name: {"rate": r.rate, **asdict(r)} for name, r in row.rates.items()},
                "gain": asdict(row.gain) if row.gain else None,
                "step": asdict(row.step) if row.step else None,
                "failed": outputs.failed,
                "missing": outputs.missing,
                "absent": outputs.absent,
                "empty": row.empty,
            }
        )
    absent = [{"system": system, "field": name} for system, name in scores.absent]
    found = {"counted": scores.counted, "rows": rows, "not_decoded": absent}
    return _without_nan({**found, "bootstrap": {"rounds": scores.rounds, "seed": scores.seed}})


def summary(row: Row) -> str:
    """Give one line on a row, for the terminal."""
    rates = " ".join(f"{m.upper()} {_percent(row.rates[m].rate)}" for m in METRICS if m in row.rates)
    gain = f" gain {_percent(row.gain.gain)} against {row.gain.against}" if row.gain else ""
    return f"{row.system} ({row.kind}): {rates}{gain}"


def _table(scores: Scores, baseline: Sequence[str]) -> list[str]:
    metrics = [m for m in METRICS if any(m in row.rates for row in scores.rows)]
    heads = ["system", "output", *(m.upper() for m in metrics)]
    if baseline:
        heads += [f"CER gain over {_better(baseline)}", "p"]
    lines = [_cells(heads), "|---" * len(heads) + "|"]
    for row in scores.rows:
        mark = "**" if row.field == HEADLINE else ""
        cells = [row.system, f"{mark}{row.kind}{mark}", *(_rate(row.rates[m], mark) for m in metrics)]
        if baseline:
            cells += _gain(row.gain)
        lines.append(_cells(cells))
    lines += ["", "In per cent, with 95 % bootstrap intervals over utterances; bold: the headline output."]
    for system, name in scores.absent:
        lines.append(
            f"{system} has no {name} in its rows: that output was not decoded, or the model has none."
        )
    return [*lines, ""]


def _steps(scores: Scores) -> list[str]:
    steps = [row for row in scores.rows if row.step and row.field == HEADLINE]
    if not steps:
        return []
    lines = ["## Step by step", "", "| from | to | CER, relative gain | p |", "|---|---|---|---|"]
    for row in steps:
        assert row.step
        cell, p_value = _gain(row.step)
        lines.append(_cells([row.step.against, row.system, cell.rsplit(" over ", 1)[0], p_value]))
    return [*lines, ""]


def _counted(scores: Scores) -> list[str]:
    facts = scores.counted
    audio = f"{facts['audio_s'] / 60:.1f} min of audio"
    if facts["without_duration"]:
        audio += f" ({facts['without_duration']} utterances state no duration)"
    lines = [
        "## What was counted",
        "",
        f"{facts['utterances']} utterances, {audio}, {facts['characters']} reference characters, "
        f"{facts['words']} reference words; {facts['without_speech']} references are empty "
        "(all that is written there is an insertion).",
    ]
    if "keywords" in facts:
        lines.append(
            f"{facts['keywords']} keywords stand {facts['keyword_occurrences']} times in the references, "
            f"with {facts['keyword_characters']} characters."
        )
    lines += [
        "Nothing is left out: an utterance that failed, or that a file lacks, counts as an empty text, "
        "each character and word of it as a deletion.",
        "",
    ]
    troubled = [row for row in scores.rows if row.field == HEADLINE or row.outputs.absent]
    lines += [
        "| system | output | failed | missing | without this output | empty texts |",
        "|---|---|---|---|---|---|",
    ]
    for row in troubled:
        o = row.outputs
        counts = (len(o.failed), len(o.missing), len(o.absent), row.empty)
        lines.append(_cells([row.system, row.kind, *map(str, counts)]))
    for row in scores.rows:
        if row.field == HEADLINE and (lost := row.outputs.failed + row.outputs.missing):
            shown = ", ".join(f"`{key}`" for key in lost[:NAMED]) + (", ..." if len(lost) > NAMED else "")
            lines += ["", f"{row.system}: failed or missing: {shown}"]
    return [*lines, ""]


def _definitions(scores: Scores, baseline: Sequence[str]) -> list[str]:
    lines = [
        "## Definitions",
        "",
        f"* Text: {WHAT_IS_DONE}",
        "* CER, WER: substitutions, deletions and insertions over the characters (spaces included) or words "
        "of the references, summed over the set, counted by jiwer.",
    ]
    if "keywords" in scores.counted:
        lines.append(f"* {DEFINITION}")
    lines.append(
        f"* Intervals: {scores.rounds} draws of as many utterances, with replacement (seed {scores.seed}), "
        "the same draws for all rows; 2.5 % and 97.5 % quantiles. p: two-sided, of equal CER, from the same "
        "draws."
    )
    if baseline:
        lines.append(
            f"* Gain: 1 - CER / CER of {_better(baseline)} in the same output (the better one on this "
            "set, held fixed while drawing)."
        )
    return [*lines, ""]


def _better(baseline: Sequence[str]) -> str:
    return baseline[0] if len(baseline) == 1 else f"the better of {' and '.join(baseline)}"


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rate(rate: Rate, mark: str = "") -> str:
    if math.isnan(rate.rate):
        return "no units"
    return f"{mark}{_percent(rate.rate)}{mark} [{_percent(rate.low)}, {_percent(rate.high)}]"


def _gain(gain: Gain | None) -> list[str]:
    if gain is None:
        return ["-", "-"]
    if math.isnan(gain.gain):
        return [f"none to make over {gain.against}", "-"]
    shown = f"{_percent(gain.gain)} [{_percent(gain.low)}, {_percent(gain.high)}] over {gain.against}"
    return [shown, f"{gain.p_value:.4f}" if gain.p_value >= 0.001 else "< 0.001"]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list) else value
