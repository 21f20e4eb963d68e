"""Annotation errors of transcribed speech: named rules over a row, its audio, and the whole corpus.

    rules = AnnotationRules.from_config(config["annotation"], "annotation")
    corpus = CorpusCheck(rules)
    for row, facts in rows: corpus.see(row, facts)          # first pass: rates, doubles
    for row, facts in rows: found = corpus.check(row, facts)  # second pass, same order: {rule: detail}
    if found: dropped_by = next(iter(found))                # the first rule in the order of RULES

Rows are never changed here; `facts` come from audio_facts.audio_facts (None where audio was not measured:
rules that need it then find nothing).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
Facts = Mapping[str, Any] | None

# The order in which a row with several faults is counted: the first one is what dropped it.
RULES = (
    "audio_unreadable",
    "audio_shorter_than_segment",
    "empty_text",
    "bad_encoding",
    "speech_labelled_as_silence",
    "markup_left",
    "duplicate",
    "silence_labelled_as_speech",
    "impossible_rate",
    "text_duration_outlier",
    "digits",
    "foreign_script",
)


@dataclass(frozen=True)
class AnnotationRules:
    """Which rules are on, and their limits: {rule: {key: value}}; `settings[rule]["enabled"]`."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None, name: str = "annotation") -> AnnotationRules:
        """Build from {rule: {enabled: bool, limit...} | true | false}; absent keys keep their default.

        Raises ValueError naming the key (annotation.impossible_rate.han_per_s), value and choices.
        """
        raise NotImplementedError

    def enabled(self, rule: str) -> bool:
        """True if a rule is applied."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Give every rule with every limit, for a report."""
        raise NotImplementedError


def check_annotation(row: Row, audio_facts: Facts, rules: AnnotationRules) -> dict[str, str]:
    """Give {rule: what was found} of the rules that need this row alone, in the order of RULES; {} if clean.

    `list(...)` of it are the reasons.  Left to CorpusCheck: duplicate, text_duration_outlier.
    """
    raise NotImplementedError


class CorpusCheck:
    """All rules over a corpus in two passes; about 40 bytes per row are kept between them."""

    def __init__(self, rules: AnnotationRules):
        self.rules = rules

    def see(self, row: Row, facts: Facts) -> None:
        """Take note of a row (first pass, every row, in order)."""
        raise NotImplementedError

    def check(self, row: Row, facts: Facts, place: str = "") -> dict[str, str]:
        """Give {rule: detail} of a row in the order of RULES (second pass, the same rows in the same order).

        `place`, such as FILE:LINE, names the row in the detail of a later double of it.
        """
        raise NotImplementedError

    def rates(self) -> dict[str, dict[str, float]]:
        """Give per group of rows the median rate, its limits and how many rows there are, for a report."""
        raise NotImplementedError


def annotate(rows: Sequence[Row], facts: Sequence[Facts], rules: AnnotationRules) -> list[dict[str, str]]:
    """Give {rule: detail} for each row: both passes of CorpusCheck over rows that are in memory."""
    raise NotImplementedError


def find_duplicates(rows: Iterable[Row], facts: Iterable[Facts]) -> dict[int, str]:
    """Give {row number from 0: what it repeats} of rows that come again."""
    raise NotImplementedError
