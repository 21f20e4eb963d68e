"""report.html: an experiment on one page that opens anywhere, without a network and without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nest_ssl.files.rows import resolve_audio_path
from nest_ssl.report.audio_clips import Clip, ClipBox
from nest_ssl.report.data_use import used_sets
from nest_ssl.report.experiment import Experiment
from nest_ssl.report.plots import styles_of
from nest_ssl.report.runs import finite
from nest_ssl.report.score_figures import rate_text
from nest_ssl.report.score_view import score_view
from nest_ssl.report.scores_file import MAIN, ScoredSet, headline_rows
from nest_ssl.report.setting_changes import path_today
from nest_ssl.report.spectrograms import Example, channel_facts, channel_sides
from nest_ssl.report.timeline import timeline
from nest_ssl.report.training_figures import run_figures, shared_figures
from nest_ssl.report.utterance_views import Utterance, worst_utterances
from nest_ssl.report.words import p_value, spelled
from nest_ssl.text.keywords import DEFINITION

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
    main = ScoredSet(MAIN, experiment.scores, experiment.utterances)
    runs = [run for run in experiment.runs if run.copy_of is None]
    systems = [
        str(row["system"]) for e in (main, *experiment.further) for row in headline_rows(e.scores or {})
    ]
    styles = styles_of(list(dict.fromkeys([run.name for run in runs] + systems)))
    clips = ClipBox()
    sides = channel_sides(channel_example, clips) if channel_example else []
    system, by_errors, by_rate = worst_utterances(experiment.utterances)
    today = path_today(experiment.runs, experiment.folder)
    sounds = _clips(experiment.folder, [*by_errors, *by_rate], clips, today)
    context: dict[str, Any] = {
        "policy": POLICY,
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "experiment": experiment,
        "glance": _glance(experiment),
        "timeline": timeline(experiment.stages, now),
        "used": used_sets(experiment.data, experiment.runs, today),
        "runs": [run_figures(run, styles[run.name]) for run in runs],
        "copies": [run for run in experiment.runs if run.copy_of is not None],
        "open_runs": [run.name for run in runs if not run.name.startswith("control_")][:OPEN_RUNS],
        "shared": shared_figures(runs, styles),
        "run_styles": {run.name: styles[run.name] for run in runs},
        "main": score_view(main, styles, "scores"),
        "further": [score_view(e, styles, f"set-{i}") for i, e in enumerate(experiment.further, start=1)],
        "keyword_definition": DEFINITION,
        "worst_system": system,
        "worst": [("Most errors", by_errors), ("Highest error rate of the others", by_rate)],
        "sounds": sounds,
        "sides": sides,
        "channel_text": str(channel_example[1].get("text") or "") if channel_example else "",
        "channel_id": str(channel_example[1].get("id") or "") if channel_example else "",
        "facts": channel_facts(channel_example[1].get("channel") or {}) if channel_example else [],
        "changes": _changes(experiment.setting_changes, [run.name for run in experiment.runs]),
        "weight_keys": _weight_keys(experiment.weights),
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
        chance=_chance,
        percent=lambda value: "–" if finite(value) is None else f"{100 * value:.1f} %",
        took=lambda value: "–" if finite(value) is None else spelled(value),
        typeset=_typeset,
        breaks=_breaks,
        visible=lambda text: text.replace(" ", "␣"),
    )
    return environment


def _glance(experiment: Experiment) -> list[tuple[str, str]]:
    """Give the line below the title: what of the experiment is there."""
    found = []
    stages = experiment.stages
    if stages:
        found.append(("Stages done", f"{sum(s.state == 'done' for s in stages)} of {len(stages)}"))
        for state in ("running", "failed", "stopped", "stale"):
            named = ", ".join(f"{s.number} {s.name}" for s in stages if s.state == state)
            if named:
                found.append((state.capitalize(), named))
    if experiment.runs:
        found.append(("Training runs", str(sum(run.copy_of is None for run in experiment.runs))))
    sets = {"Test set": experiment.scores, **{f"Set {each.name}": each.scores for each in experiment.further}}
    for name, scores in sets.items():
        counted = (scores or {}).get("counted") or {}
        if counted.get("utterances"):
            minutes = (finite(counted.get("audio_s")) or 0.0) / 60
            found.append((name, f"{counted['utterances']} utterances, {minutes:.1f} min"))
    times = [run.ended for run in experiment.runs if run.ended] + [s.ended for s in stages if s.ended]
    if times:
        found.append(("Last change", f"{max(times):%Y-%m-%d %H:%M}"))
    return found


def _clips(
    folder: Path, utterances: Sequence[Utterance], clips: ClipBox, today: Callable[[str | Path], Path]
) -> dict[str, Clip]:
    """Give the player of each utterance by its key; longest lists first, until the page has enough."""
    found = {}
    for utterance in utterances:
        if utterance.audio_filepath:
            path = resolve_audio_path(utterance.audio_filepath, folder / "utterances.jsonl")
            found[utterance.key] = clips.clip(today(path), utterance.offset_s, utterance.duration_s)
        else:
            found[utterance.key] = Clip("", note="the row names no audio file")
    return found


def _changes(changes: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """Give {runs, rows}: of each setting its value in each run, and if it differs from the run it is held to.

    That is the run to its left; control_X, in columns of their own at the right, are held to X.
    """
    named = [name for name in order if any(name in values for values in changes.values())]
    controls = [name for name in named if name.startswith("control_")]
    runs = [name for name in named if name not in controls] + controls
    rows = []
    for key, values in changes.items():
        cells, before = [], None
        for name in runs:
            value = _setting(values[name]) if name in values else "–"
            twin = name.removeprefix("control_")
            if name in controls and twin in runs:
                before = _setting(values[twin]) if twin in values else "–"
            cells.append((value, before is not None and value != before))
            before = value
        rows.append((key, cells))
    return {"runs": runs, "rows": rows, "controls": controls}


def _weight_keys(weights: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Give the single figures of the choices of joint decoding, in the order of the first."""
    first: Mapping[str, Any] = next(iter(weights.values()), {})
    return [key for key, value in first.items() if isinstance(value, int | float)]


def _typeset(text: str) -> str:
    """Draw arrows, and keep figures with their signs on one line."""
    for plain, nicer in ((" -> ", " → "), (" %", "\u00a0%"), ("p < ", "p\u00a0<\u00a0")):
        text = text.replace(plain, nicer)
    return text


def _breaks(text: str) -> Markup:
    """Let a line end within a path or a dotted key."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/=])(?=\w)", text))


def _setting(value: Any) -> str:
    """As YAML has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chance(p: Any) -> str:
    number = finite(p)
    return "–" if number is None else p_value(number).removeprefix("p ")


def _number(value: Any, digits: int = 0) -> str:
    number = finite(value)
    return "–" if number is None else f"{number:,.{digits}f}"
