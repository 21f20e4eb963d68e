"""What an answer of the report is, and what an experiment aims at."""

from __future__ import annotations

from dataclasses import dataclass, field

MET, NOT_MET, UNKNOWN, CHANCE = "met", "not met", "unknown", "within chance"
P_LIMIT = 0.05  # from which a difference is taken for chance


@dataclass(frozen=True)
class Answer:
    """One question and its answer.

    verdict: "met", "not met", "within chance", "unknown", or "" where nothing was aimed at.
    """

    question: str
    answer: str
    verdict: str = ""
    details: list[str] = field(default_factory=list)  # a sentence for each run, system or condition


@dataclass(frozen=True)
class Aims:
    """What an experiment is to reach, as shares; None: no aim.

    loss_fall: of val_loss, from the first validation of a stage to its best.  cer_gain: of CER against the
    baseline, relative.  cer, wer, kwer: of the last system, at most.
    """

    loss_fall: float | None = 0.30
    cer_gain: float | None = None
    cer: float | None = None
    wer: float | None = None
    kwer: float | None = None
