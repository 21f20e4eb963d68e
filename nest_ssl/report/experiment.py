"""An experiment, exp/TAG, as its pages show it: everything that its files tell, and what they do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nest_ssl.report.runs import Run

if TYPE_CHECKING:
    from nest_ssl.report.stages import StageState


@dataclass(frozen=True)
class DataSet:
    """What a data report says of one set; None where it does not."""

    name: str
    source: Path  # the report
    utterances: int | None = None
    hours: float | None = None
    characters: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)  # reason: utterances


@dataclass(frozen=True)
class Answer:
    """One question of the experiment.  verdict: "met", "not met", "unknown" or "" (nothing was aimed at)."""

    question: str
    answer: str
    verdict: str = ""
    details: list[str] = field(default_factory=list)  # a sentence for each stage, system or condition


@dataclass(frozen=True)
class Command:
    """How a run was made, from its env.json; "" where that does not say."""

    name: str
    command: str  # as for a shell
    commit: str
    machine: str
    started: str


@dataclass(frozen=True)
class Experiment:
    """exp/TAG; every list may be empty, and `missing` says in words what was not found."""

    folder: Path
    title: str
    stages: list[StageState] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    scores: dict[str, Any] | None = None
    utterances: list[dict[str, Any]] = field(default_factory=list)
    data: list[DataSet] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    setting_changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # key: {run: value}
    environment: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
