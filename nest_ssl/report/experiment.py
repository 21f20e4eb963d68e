"""An experiment, exp/TAG, as its pages show it: everything that its files tell, and what they do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nest_ssl.report.answer import Aims, Answer
from nest_ssl.report.answers import answers
from nest_ssl.report.data_reports import DataSet, data_reports_near, read_data_report
from nest_ssl.report.runs import Run, read_runs
from nest_ssl.report.scores_file import ScoredSet, read_further_sets, read_scores, read_utterances
from nest_ssl.report.setting_changes import setting_changes
from nest_ssl.report.stages import Call, StageState, read_calls, read_stages
from nest_ssl.report.surroundings import Command, commands_of, environment_of

__all__ = ["Aims", "Answer", "Command", "DataSet", "Experiment", "Run", "StageState", "read_experiment"]


@dataclass(frozen=True)
class Experiment:
    """exp/TAG; every list may be empty, and `missing` says in words what was not found or not readable."""

    folder: Path
    title: str
    stages: list[StageState] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    scores: dict[str, Any] | None = None
    utterances: list[dict[str, Any]] = field(default_factory=list)
    further: list[ScoredSet] = field(default_factory=list)  # test sets beside the one of `scores`
    data: list[DataSet] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    setting_changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # key: {run: value}
    environment: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)  # of the recipe
    weights: dict[str, dict[str, Any]] = field(default_factory=dict)  # system: choice of the joint decoding
    missing: list[str] = field(default_factory=list)


def read_experiment(
    folder: str | Path,
    data_reports: Sequence[Path] = (),
    title: str | None = None,
    aims: Aims | None = None,
    environment: Mapping[str, str] | None = None,
    above: Sequence[Path] = (),
) -> Experiment:
    """Give what the files of `folder` tell; an experiment that is half done, or running, is read as it is.

    data_reports: of data preparation; without any, those in the data folders of the recipe's stages.
    environment: more facts, of the machine that writes the report.  above: folders whose paths are shortened.
    Raises FileNotFoundError if `folder` or a data report does not exist, ValueError if a named data report
    holds no set.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; it is exp/TAG of a recipe")
    missing: list[str] = []
    # a recipe's stage that writes the page is running while it is written, and would be for ever on it
    stages = [s for s in read_stages(folder) if (s.name, s.state) != ("report", "running")]
    runs = _copies_behind(read_runs(folder), {stage.name for stage in stages})
    if not stages:
        missing.append(
            "no stage of a recipe has run here: .done/ has no marker, so there are no times of stages"
        )
    if not runs:
        missing.append("no run directory: no folder with metrics.jsonl or env.json, so no training has begun")
    for run in runs:
        missing += run.faults
        absent = [n for n in ("metrics.jsonl", "env.json", "config.yaml") if not (run.folder / n).is_file()]
        if absent:
            missing.append(f"run {run.name} has no {' and no '.join(absent)}")
    scores = read_scores(folder / "scores.json", missing)
    read = Experiment(
        folder=folder,
        title=title or f"Experiment {folder.resolve().name}",
        stages=stages,
        runs=runs,
        scores=scores,
        utterances=read_utterances(folder / "utterances.jsonl", missing if scores else []),
        further=read_further_sets(folder, missing),
        data=_data(data_reports, [stage.folder for stage in stages], folder, missing),
        setting_changes=setting_changes(runs, folder, above),
        environment={**environment_of(runs), **(environment or {})},
        commands=commands_of(runs),
        calls=read_calls(folder),
        weights=_weights(folder / "decode"),
        missing=missing,
    )
    return replace(read, answers=answers(read, aims or Aims()))


def _copies_behind(runs: list[Run], names: set[str]) -> list[Run]:
    """Of two runs that are the same, the one named after a stage counts as the run, the other as its copy."""
    for run in runs:
        original = run.copy_of
        if original and run.name in names and original not in names:
            copies = {run.name: None, original: run.name}
            runs = [replace(r, copy_of=copies[r.name]) if r.name in copies else r for r in runs]
    return runs


def _data(
    reports: Sequence[Path], stage_folders: Sequence[Path], folder: Path, missing: list[str]
) -> list[DataSet]:
    found = [each for path in reports for each in read_data_report(path)]
    if reports:
        return found
    top = folder.resolve()
    for path in data_reports_near([at for at in dict.fromkeys(stage_folders) if at.resolve() != top]):
        try:
            found += read_data_report(path)
        except (OSError, ValueError):
            continue  # nobody named it: a report.json of something else
    if not found:
        missing.append("no report of data preparation was found; --data-report FILE names one")
    return found


def _weights(folder: Path) -> dict[str, dict[str, Any]]:
    """What decode --weight-out wrote beside the hypotheses of each system."""
    found = {}
    for path in sorted(folder.glob("*.weight.json")):
        try:
            chosen = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(chosen, dict):
            found[path.name.removesuffix(".weight.json")] = chosen
    return found
