"""report.html: an experiment on one page that opens anywhere, without a network and without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nest_ssl.files.rows import resolve_audio_path
from nest_ssl.report.audio_clips import Clip, ClipBox
from nest_ssl.report.experiment import Experiment
from nest_ssl.report.plots import styles_of
from nest_ssl.report.runs import finite
from nest_ssl.report.score_figures import (
    NAMES,
    condition_figures,
    conditions_of,
    headline_rows,
    keyword_rows,
    other_outputs,
    rate_figures,
    rate_text,
)
from nest_ssl.report.spectrograms import Example, channel_facts, channel_sides
from nest_ssl.report.timeline import duration_text, timeline
from nest_ssl.report.training_figures import run_figures, shared_figures
from nest_ssl.report.utterance_views import Utterance, worst_utterances
from nest_ssl.text.scoring import HEADLINE

TEMPLATES = Path(__file__).parent / "templates"
OPEN_RUNS = 8  # runs whose curves are unfolded; those of control runs are folded

# Nothing is loaded and nothing runs, whatever a text of the experiment holds.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:; "
    "base-uri 'none'; form-action 'none'"
)


def html_page(
    experiment: Experiment, channel_example: Example | None = None, now: datetime | None = None
) -> str:
    """Give the page of an experiment, whole or half finished: sections without facts are left out and named.

    channel_example: (source row, simulated row) with absolute audio_filepath, as spectrograms.choose_example
    gives; now: up to when the bar of a running stage is drawn. Audio that is gone is said beside its text.
    """
    scores = experiment.scores or {}
    runs = [run for run in experiment.runs if run.copy_of is None]
    systems = [str(row["system"]) for row in headline_rows(scores)]
    styles = styles_of([run.name for run in runs] + systems)
    clips = ClipBox()
    sides = channel_sides(channel_example, clips) if channel_example else []
    system, by_errors, by_rate = worst_utterances(experiment.utterances)
    sounds = _clips(experiment.folder, [*by_errors, *by_rate], clips)
    context: dict[str, Any] = {
        "policy": POLICY,
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "experiment": experiment,
        "glance": _glance(experiment),
        "timeline": timeline(experiment.stages, now),
        "runs": [run_figures(run, styles[run.name]) for run in runs],
        "copies": [run for run in experiment.runs if run.copy_of is not None],
        "open_runs": OPEN_RUNS,
        "shared": shared_figures(runs, styles),
        "run_styles": {run.name: styles[run.name] for run in runs},
        "system_styles": {name: styles[name] for name in systems},
        "scores": scores,
        "headline": HEADLINE,
        "metrics": [m for m in NAMES if any(row.get(m) for row in scores.get("rows", []))],
        "metric_names": NAMES,
        "rate_figures": rate_figures(scores, styles),
        "other_outputs": other_outputs(scores, styles),
        "condition_figures": condition_figures(scores, styles),
        "conditions": conditions_of(scores),
        "keyword_rows": keyword_rows(scores),
        "worst_system": system,
        "worst": [("Most errors", by_errors), ("Highest error rate of the others", by_rate)],
        "sounds": sounds,
        "sides": sides,
        "channel_text": str(channel_example[1].get("text") or "") if channel_example else "",
        "channel_id": str(channel_example[1].get("id") or "") if channel_example else "",
        "facts": channel_facts(channel_example[1].get("channel") or {}) if channel_example else [],
        "changes": _changes(experiment.setting_changes, [run.name for run in experiment.runs]),
    }
    return _environment().get_template("report.html.j2").render(context)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        svg=Markup,  # made by plots.py and spectrograms.py, which escape
        rate=rate_text,
        number=_number,
        percent=lambda value: "–" if finite(value) is None else f"{100 * value:.1f} %",
        took=lambda value: "–" if finite(value) is None else duration_text(value),
        arrows=lambda text: text.replace(" -> ", " → "),
        visible=lambda text: text.replace(" ", "␣"),
    )
    return environment


def _glance(experiment: Experiment) -> list[tuple[str, str]]:
    """Give the line below the title: what of the experiment is there."""
    found = []
    stages = experiment.stages
    if stages:
        found.append(("Stages done", f"{sum(s.state == 'done' for s in stages)} of {len(stages)}"))
        for state in ("running", "failed", "stopped"):
            named = ", ".join(f"{s.number} {s.name}" for s in stages if s.state == state)
            if named:
                found.append((state.capitalize(), named))
    if experiment.runs:
        found.append(("Training runs", str(sum(run.copy_of is None for run in experiment.runs))))
    counted = (experiment.scores or {}).get("counted") or {}
    if counted.get("utterances"):
        minutes = (finite(counted.get("audio_s")) or 0.0) / 60
        found.append(("Test set", f"{counted['utterances']} utterances, {minutes:.1f} min"))
    times = [run.ended for run in experiment.runs if run.ended] + [s.ended for s in stages if s.ended]
    if times:
        found.append(("Last change", f"{max(times):%Y-%m-%d %H:%M}"))
    return found


def _clips(folder: Path, utterances: Sequence[Utterance], clips: ClipBox) -> dict[str, Clip]:
    """Give the player of each utterance by its key; longest lists first, until the page has enough."""
    found = {}
    for utterance in utterances:
        if utterance.audio_filepath:
            path = resolve_audio_path(utterance.audio_filepath, folder / "utterances.jsonl")
            found[utterance.key] = clips.clip(path)
        else:
            found[utterance.key] = Clip("", note="the row names no audio file")
    return found


def _changes(changes: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """Give {runs, rows}: of each setting its value in each run, and if it differs from the run before."""
    runs = [name for name in order if any(name in values for values in changes.values())]
    rows = []
    for key, values in changes.items():
        cells, before = [], None
        for name in runs:
            value = _setting(values[name]) if name in values else "–"
            cells.append((value, before is not None and value != before))
            before = value
        rows.append((key, cells))
    return {"runs": runs, "rows": rows}


def _setting(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: Any, digits: int = 0) -> str:
    number = finite(value)
    return "–" if number is None else f"{number:,.{digits}f}"
