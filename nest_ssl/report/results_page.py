"""RESULTS.md: what an experiment found, as Markdown that is read in a terminal as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nest_ssl.report.answer import Answer
from nest_ssl.report.data_reports import DataSet
from nest_ssl.report.data_use import used_sets
from nest_ssl.report.experiment import Experiment
from nest_ssl.report.runs import Run
from nest_ssl.report.scores_file import ScoredSet
from nest_ssl.report.setting_changes import path_today
from nest_ssl.report.tables import table
from nest_ssl.report.words import counted, hours, percent, spelled
from nest_ssl.text.score_table import (
    comparison_lines,
    condition_lines,
    headline_lines,
    keyword_lines,
    score_lines,
)

LINKS = {
    "report.html": "the same with curves, spectrograms and utterances to listen to",
    "SCORES.md": "all outputs, definitions and counts",
    "alignments.txt": "every utterance, reference above hypothesis",
    "scores.json": "the figures for programs",
    "utterances.jsonl": "errors of each utterance, for programs",
}
TIME = "%Y-%m-%d %H:%M"


def results_page(experiment: Experiment, above: tuple[Path, ...] = ()) -> str:
    """Give RESULTS.md.  above: folders that are left out of the paths in commands."""
    parts = [
        [f"# {experiment.title}", "", *_links(experiment), ""],
        ["## Questions and answers", "", *_answers(experiment.answers)],
        _scores(experiment.scores),
        *(_further(each) for each in experiment.further),
        _training(experiment.runs),
        _data(experiment),
        _stages(experiment),
        _weights(experiment.weights),
        _setting_changes(experiment.setting_changes),
        _made(experiment),
        _missing(experiment.missing),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _links(experiment: Experiment) -> Iterator[str]:
    named = dict(LINKS)
    for each in experiment.further:
        for name in list(LINKS)[1:]:
            stem, dot, suffix = name.partition(".")
            named[f"{stem}_{each.name}{dot}{suffix}"] = f"{LINKS[name]}, of the test set {each.name}"
    for name, what in named.items():
        # report.html is written together with this page
        if name == "report.html" or (experiment.folder / name).exists():
            yield f"* [{name}]({name}): {what}"


def _answers(answers: list[Answer]) -> Iterator[str]:
    for answer in answers:
        yield f"### {answer.question}{f' {answer.verdict.capitalize()}.' if answer.verdict else ''}"
        yield ""
        yield answer.answer
        yield ""
        if answer.details:
            yield from (f"* {detail}" for detail in answer.details)
            yield ""


def _scores(scores: dict[str, Any] | None) -> list[str]:
    if not scores:
        return ["## Scores", "", "Nothing has been scored yet.", ""]
    return ["## Scores", "", *score_lines(scores)]


def _further(each: ScoredSet) -> list[str]:
    """A further test set: its tables, headings one level lower; definitions are those of the main one."""
    scores = each.scores or {}
    counted = scores["counted"]
    lines = [
        f"## Test set {each.name}",
        "",
        f"{counted['utterances']} utterances, {counted['audio_s'] / 60:.1f} min of audio, "
        f"{counted['characters']} reference characters; scored as the main set is.",
        "",
    ]
    for section in (headline_lines, comparison_lines, condition_lines, keyword_lines):
        lines += [f"#{line}" if line.startswith("##") else line for line in section(scores)]
    return lines


def _training(runs: list[Run]) -> list[str]:
    """Did the loss fall, how long did it take, how much memory: a row for each run."""
    if not runs:
        return ["## Training", "", "No training has begun yet.", ""]
    heads = [
        "run",
        "steps",
        "val_loss: first",
        "best",
        "fall",
        "hours of audio",
        "time",
        "ms a step",
        "memory",
    ]
    rows = [[run.name, _steps(run), *_figures(run)] for run in runs]
    lines = ["## Training", "", *table(heads, rows, right=range(1, len(heads))), ""]
    lines.append("Time and ms a step are of training alone: validation, checkpoints and start-up are not in.")
    for run in runs:
        if run.copy_of:
            lines.append(f"{run.name} is the run {run.copy_of}: the recipe copied it.")
    return [*lines, ""]


def _steps(run: Run) -> str:
    if not run.train and not run.validation:
        return "nothing logged"
    return f"{run.step} of {run.max_steps}" if run.max_steps and run.step < run.max_steps else str(run.step)


def _figures(run: Run) -> list[str]:
    f = run.figures
    return [
        "-" if f.first_val_loss is None else f"{f.first_val_loss:.4f}",
        "-" if f.best_val_loss is None else f"{f.best_val_loss:.4f}",
        "-" if f.fall is None or f.validations < 2 else percent(f.fall),
        "-" if f.hours_seen is None else hours(f.hours_seen),
        "-" if f.train_s is None else spelled(f.train_s),
        "-" if f.ms_per_step is None else f"{f.ms_per_step:.0f}",
        "-" if f.mem_gb is None else f"{f.mem_gb:.2f} GB",
    ]


def _data(experiment: Experiment) -> list[str]:
    """What trainings read; every set of the reports below, folded where a reader of Markdown can fold."""
    if not experiment.data:
        return []
    used = used_sets(experiment.data, experiment.runs, path_today(experiment.runs, experiment.folder))
    lines = ["## Data", ""]
    if used:
        rows = [
            [each.name, _number(each.utterances), _hours(each), _number(each.characters), words]
            for each, words in used
        ]
        heads = ["set", "utterances", "hours", "characters", "used for"]
        lines += [*table(heads, rows, right=range(1, 4)), ""]
        told = counted(len(experiment.data), "set")
        lines += [
            "<details>",
            f"<summary>All {told} that the reports name, and what was dropped</summary>",
            "",
        ]
    for source in dict.fromkeys(each.source for each in experiment.data):
        sets = [each for each in experiment.data if each.source == source]
        with_characters = any(each.characters is not None for each in sets)
        heads = ["set", "utterances", "hours", *["characters"] * with_characters, "dropped", "because"]
        rows = []
        for each in sets:
            row = [each.name, _number(each.utterances), _hours(each)]
            row += [_number(each.characters)] * with_characters
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in each.dropped.items())
            rows.append([*row, str(sum(each.dropped.values())) if each.dropped else "-", reasons])
        figures = range(1, len(heads) - 1)
        lines += [*table(heads, rows, right=figures), "", f"From {source}", ""]
    return [*lines, "</details>", ""] if used else lines


def _hours(each: DataSet) -> str:
    return "-" if each.hours is None else hours(each.hours)


def _stages(experiment: Experiment) -> list[str]:
    if not experiment.stages:
        return []
    rows = []
    for stage in experiment.stages:
        times = [time.strftime(TIME) if time else "-" for time in (stage.started, stage.ended)]
        took = "-" if stage.took_s is None else spelled(stage.took_s)
        rows.append([str(stage.number), stage.name, stage.state, *times, took])
    return ["## Stages", "", *table(["", "stage", "state", "began", "ended", "took"], rows, right=[0, 5]), ""]


def _weights(weights: dict[str, dict[str, Any]]) -> list[str]:
    if not weights:
        return []
    keys = [key for key in next(iter(weights.values())) if key != "cer_by_ctc_weight"]
    rows = [[name, *(_value(chosen.get(key)) for key in keys)] for name, chosen in weights.items()]
    heads = ["system", *keys]
    lines = table(heads, rows, right=range(1, len(heads)))
    return ["## Weight of CTC in the joint output, chosen on the dev set", "", *lines, ""]


def _setting_changes(changes: dict[str, dict[str, Any]]) -> list[str]:
    """One line for each key: values with the runs that have them; far narrower than a column for each run."""
    if not changes:
        return []
    lines = ["## In what the configurations differ", ""]
    for key, values in changes.items():
        runs: dict[str, list[str]] = {}
        for run, value in values.items():
            runs.setdefault(_value(value), []).append(run)
        told = "; ".join(f"{value} ({', '.join(names)})" for value, names in runs.items())
        lines.append(f"* `{key}`: {told}")
    return [*lines, "", "EXP is the folder of the experiment, THIS_RUN that of the run.", ""]


def _made(experiment: Experiment) -> list[str]:
    lines = ["## How it was made", ""]
    for call in experiment.calls:
        when = call.started.strftime(TIME) if call.started else "?"
        lines += [f"* {when} on {call.machine}, in {call.folder}:", "", f"      {call.command}", ""]
    for command in experiment.commands:
        facts = [
            f"commit {command.commit or 'not known'}",
            f"on {command.machine}" if command.machine else "",
        ]
        facts.append(f"started {command.started}" if command.started else "")
        lines += [f"* {command.name}: {', '.join(fact for fact in facts if fact)}", ""]
        lines += [f"      {command.command}", ""] if command.command else []
    if experiment.environment:
        rows = [[key, value] for key, value in experiment.environment.items()]
        lines += [*table(["surroundings", ""], rows), ""]
    seeds = {key: values for key, values in _seeds(experiment.runs).items() if values}
    if seeds:
        lines += [f"Seeds: {', '.join(f'{seed} ({_names(names)})' for seed, names in seeds.items())}.", ""]
    return lines if len(lines) > 2 else []


def _seeds(runs: list[Run]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for run in runs:
        for key in ("trainer.seed", "seed"):
            if run.settings.get(key) is not None:
                found.setdefault(str(run.settings[key]), []).append(run.name)
                break
    return found


def _names(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else counted(len(names), "run")


def _missing(missing: list[str]) -> list[str]:
    return ["## What is not here", "", *(f"* {each}" for each in missing), ""] if missing else []


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
