"""Keyword error rate (KWER), recall and precision of keywords, and the rest of CER; keywords.DEFINITION."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from nest_ssl.text.error_rates import Edit
from nest_ssl.text.keywords import Keywords, Occurrence, covered

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class KeywordCounts:
    """What was counted in one utterance, or in several added up; each rate is None where it has no units.

    errors: on keyword characters and characters of false keywords, over `characters` of keywords in the
    references.  expected, heard: keywords in references and hypotheses; recalled: those in both; false: heard
    and not said.  outside_errors: of CER's errors those not on keyword characters, over outside_characters.
    """

    errors: int = 0
    characters: int = 0
    expected: int = 0
    heard: int = 0
    recalled: int = 0
    false: int = 0
    outside_errors: int = 0
    outside_characters: int = 0

    @property
    def kwer(self) -> float | None:
        return _ratio(self.errors, self.characters)

    @property
    def recall(self) -> float | None:
        return _ratio(self.recalled, self.expected)

    @property
    def precision(self) -> float | None:
        return _ratio(self.recalled, self.heard)

    @property
    def f1(self) -> float | None:
        """Twice `recalled` over expected + heard: 0 where there are keywords and none is recalled."""
        return _ratio(2 * self.recalled, self.expected + self.heard)

    @property
    def cer_outside(self) -> float | None:
        return _ratio(self.outside_errors, self.outside_characters)

    @classmethod
    def total(cls, table: np.ndarray) -> KeywordCounts:
        """Add up the utterances of a keyword_table."""
        return cls(*table.sum(axis=0).tolist())


COLUMNS = tuple(f.name for f in fields(KeywordCounts))


def keyword_counts(
    keywords: Keywords, reference: str, hypothesis: str, edits: Sequence[Edit]
) -> KeywordCounts:
    """Count the keywords of one utterance, by keywords.DEFINITION.

    reference, hypothesis: as scored by characters, without outer spaces.  edits: an alignment of the two by
    characters with the fewest errors.  There may be several such (of "打打电话" and "打电话", either 打 may
    be the deleted one); the counts are those of the one that is kindest to keywords, whichever was given.
    """
    return KeywordCounts(*_counted(keywords, reference, hypothesis, edits))


def keyword_table(
    keywords: Keywords,
    references: Sequence[str],
    hypotheses: Sequence[str],
    errors: Sequence[int],
    edits: Sequence[Sequence[Edit]],
    expected: Sequence[Sequence[Occurrence]],
) -> np.ndarray:
    """Give (N, 8) int64: the KeywordCounts of N utterances, in the order of its fields.

    errors: of each alignment; edits: those may be left empty where a reference has no keyword.  expected:
    what Keywords.find gave for each reference.
    """
    rows = zip(references, hypotheses, edits, errors, expected, strict=True)
    return np.array([_counted(keywords, *row) for row in rows], np.int64).reshape(-1, len(COLUMNS))


def _counted(
    keywords: Keywords,
    reference: str,
    hypothesis: str,
    edits: Sequence[Edit],
    all_errors: int | None = None,
    expected: Sequence[Occurrence] | None = None,
) -> tuple[int, ...]:
    found = keywords.compare(reference, hypothesis, expected)
    if all_errors is None:
        all_errors = sum(edit.errors for edit in edits)
    if not found.expected and not found.heard:
        return 0, 0, 0, 0, 0, 0, all_errors, len(reference)
    on_keywords = _errors_on(found.expected, edits)
    if on_keywords:  # another alignment may have fewer
        on_keywords = _fewest_errors_on(found.expected, reference, hypothesis)
    characters = len(covered(found.expected))
    return (
        max(on_keywords, 1 if found.missed else 0) + len(covered(found.false)),
        characters,
        len(found.expected),
        len(found.heard),
        len(found.heard) - len(found.false),
        len(found.false),
        all_errors - on_keywords,
        len(reference) - characters,
    )


@dataclass(frozen=True)
class FalseKeywords:
    """False keywords in `hours` of audio; utterances that state no duration are not in, but counted."""

    false: int = 0
    hours: float = 0.0
    without_duration: int = 0

    @property
    def per_hour(self) -> float | None:
        """False keywords per hour; None where there are no hours."""
        return _ratio(self.false, self.hours)


class FalseAlarms(NamedTuple):
    """speech: utterances whose reference has words, but no keyword; silence: with an empty reference."""

    speech: FalseKeywords
    silence: FalseKeywords


def false_alarms(
    references: Sequence[str], table: np.ndarray, durations_s: Sequence[float | None]
) -> FalseAlarms:
    """Count the false keywords of utterances in which no keyword was said, per hour of their audio.

    references: as scored by characters; table: keyword_table of the same utterances; durations_s: None where
    not known.
    """
    unsaid = table[:, COLUMNS.index("expected")] == 0
    silent = np.array([not reference for reference in references], dtype=bool)
    false = table[:, COLUMNS.index("false")]
    speech, silence = np.flatnonzero(unsaid & ~silent), np.flatnonzero(unsaid & silent)
    return FalseAlarms(_per_hour(speech, false, durations_s), _per_hour(silence, false, durations_s))


def _per_hour(places: np.ndarray, false: np.ndarray, durations_s: Sequence[float | None]) -> FalseKeywords:
    timed = [(int(false[i]), duration_s) for i in places if (duration_s := durations_s[i]) is not None]
    seconds = sum(duration_s for _, duration_s in timed)
    return FalseKeywords(
        sum(number for number, _ in timed), seconds / SECONDS_PER_HOUR, len(places) - len(timed)
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _errors_on(occurrences: Sequence[Occurrence], edits: Sequence[Edit]) -> int:
    """Errors on keyword characters in the given alignment."""
    if not occurrences:
        return 0
    places, inner = covered(occurrences), _inner_gaps(occurrences)
    errors = 0
    for edit in edits:
        if edit.kind == "insert":
            errors += edit.errors if edit.reference_start in inner else 0
        elif edit.kind != "equal":
            errors += sum(place in places for place in range(edit.reference_start, edit.reference_end))
    return errors


def _inner_gaps(occurrences: Sequence[Occurrence]) -> set[int]:
    """The places in front of which an insertion is inside a keyword."""
    return {place for o in occurrences for place in range(o.start + 1, o.end)}


def _fewest_errors_on(occurrences: Sequence[Occurrence], reference: str, hypothesis: str) -> int:
    """The fewest errors on keyword characters of all alignments with the fewest errors.

    Dynamic programming over the reference, a row for all prefixes of the hypothesis: an error costs `unit`,
    and 1 more on a keyword.  Insertions along a row cost the same, so that a running minimum finds them.
    """
    unit = len(reference) + len(hypothesis) + 1  # more than there can be errors
    on_keyword = np.zeros(len(reference), np.int64)
    on_keyword[list(covered(occurrences))] = 1
    inside = np.zeros(len(reference) + 1, np.int64)
    inside[list(_inner_gaps(occurrences))] = 1
    heard = np.fromiter(map(ord, hypothesis), np.int64, len(hypothesis))
    steps = np.arange(len(hypothesis) + 1)
    costs = steps * unit
    for i, character in enumerate(reference):
        change = unit + on_keyword[i]
        best = costs + change
        np.minimum(best[1:], costs[:-1] + change * (heard != ord(character)), out=best[1:])
        inserted = steps * (unit + inside[i + 1])
        costs = np.minimum.accumulate(best - inserted) + inserted
    return int(costs[-1]) % unit
