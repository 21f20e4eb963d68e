"""What is known of several systems on one set once they are scored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field as default

from nest_ssl.text.bootstrap import ROUNDS
from nest_ssl.text.hypotheses import Outputs, Utterance
from nest_ssl.text.keyword_counts import FalseAlarms, KeywordCounts
from nest_ssl.text.score_counts import Counter, Counts

HEADLINE = "text"
FIELDS = (HEADLINE, "text_llm", "text_ctc")
KINDS = {"text_joint": "joint", "text_llm": "LLM only", "text_ctc": "CTC only"}
COMPARED = ("cer", "wer", "kwer")
UNITS = ("utterance", "speaker")  # what is drawn
FEW = 30  # utterances (or speakers) below which an interval says little


@dataclass(frozen=True)
class Rate:
    """Errors over units, and the 95 % interval of their ratio over resampled utterances."""

    errors: int
    total: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.errors / self.total if self.total else math.nan


@dataclass(frozen=True)
class Gain:
    """By how much CER is below that of `against`, relative; p_value of "the two are equally good"."""

    against: str
    gain: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """The rate of system `b` less that of `a`, in one field, with its interval; below 0 `b` is better.

    p: of "the two are equally good", from the draws of the interval; p_permutation: from swapping the two
    systems at random (bootstrap.permutation_p_value).
    """

    a: str
    b: str
    field: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_permutation: float


@dataclass(frozen=True)
class DomainScore:
    """The keywords of one domain."""

    kwer: Rate
    counts: KeywordCounts
    false_alarms: FalseAlarms


@dataclass(frozen=True)
class Group:
    """The utterances of one value of a condition; few: too few for the intervals to say much.

    p: of "here the CER is that of system `against`", from the draws of the intervals; NaN of few utterances,
    of such without a reference character, and where there is no other system.
    """

    utterances: int
    hours: float
    few: bool
    rates: dict[str, Rate]
    against: str = ""
    p: float = math.nan


@dataclass
class Row:
    """One system and field."""

    system: str
    field: str
    kind: str
    rates: dict[str, Rate]
    outputs: Outputs
    counts: Counts
    gain: Gain | None = None
    step: Gain | None = None
    keywords: dict[str, DomainScore] = default(default_factory=dict)
    conditions: dict[str, dict[str, Group]] = default(default_factory=dict)

    @property
    def empty(self) -> int:
        """How many texts are empty though they came out well."""
        lost = len(self.outputs.failed) + len(self.outputs.missing) + len(self.outputs.absent)
        return sum(1 for text in self.outputs.texts if not text.strip()) - lost


@dataclass
class Scores:
    """All rows, and what was counted: `counted` has the facts of the references.

    conditions: of each utterance, those that any utterance states; same_for_all: the ones that have a single
    value, by which nothing can be broken down.  units: of `unit` that were drawn from.
    """

    rows: list[Row]
    references: dict[str, Utterance]
    counter: Counter
    baseline: tuple[str, ...] = ()
    absent: list[tuple[str, str]] = default(default_factory=list)  # (system, field) that no row has
    comparisons: list[Comparison] = default(default_factory=list)
    conditions: list[dict[str, str]] = default(default_factory=list)
    same_for_all: dict[str, str] = default(default_factory=dict)
    rounds: int = ROUNDS
    condition_rounds: int = ROUNDS
    seed: int = 0
    unit: str = UNITS[0]
    units: int = 0

    @property
    def counted(self) -> dict[str, float]:
        return self.counter.facts()
