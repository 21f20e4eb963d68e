"""Word and character error rates, counted by jiwer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Unit = Literal["characters", "words"]

_KINDS = {"equal": "equal", "replace": "substitute", "delete": "delete", "insert": "insert"}


class Edit(NamedTuple):
    """A stretch of an alignment: what became of units [start, end) of the reference, and by which of the
    hypothesis.

    kind: equal, substitute, delete or insert; an insertion stands before unit reference_start.
    """

    kind: str
    reference_start: int
    reference_end: int
    hypothesis_start: int
    hypothesis_end: int

    @property
    def errors(self) -> int:
        if self.kind == "equal":
            return 0
        return max(self.reference_end - self.reference_start, self.hypothesis_end - self.hypothesis_start)


@dataclass(frozen=True)
class ErrorCounts:
    """Edits (substitutions, deletions, insertions) and the units of the references."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    total: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit of the references; NaN where these have none."""
        return self.errors / self.total if self.total else float("nan")

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.total + other.total,
        )


def alignments(references: Sequence[str], hypotheses: Sequence[str], unit: Unit) -> list[list[Edit]]:
    """Align each pair of texts by characters (spaces included) or by words, as jiwer does.

    The texts come without outer or double spaces, so that the places are those of the texts as given.  It
    calls the function of rapidfuzz that jiwer calls, one pair at a time: the same alignments, sooner.
    """
    _check_alike(references, hypotheses)
    opcodes = _levenshtein().opcodes
    cut: Callable[[str], Sequence[str]] = str.split if unit == "words" else str
    found = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        said, heard = cut(reference), cut(hypothesis)
        codes = opcodes(said, heard)
        found.append([Edit(_KINDS[c.tag], c.src_start, c.src_end, c.dest_start, c.dest_end) for c in codes])
    return found


def edit_distances(references: Iterable[str], hypotheses: Iterable[str], unit: Unit) -> list[int]:
    """Give the errors of each pair, by characters (spaces included) or by words, without the alignment."""
    distance = _levenshtein().distance
    cut: Callable[[str], Sequence[str]] = str.split if unit == "words" else str
    return [distance(cut(said), cut(heard)) for said, heard in zip(references, hypotheses, strict=True)]


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Count over words (separated by spaces) of equally many references and hypotheses."""
    return _counts(references, hypotheses, "process_words")


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Count over characters, spaces included."""
    return _counts(references, hypotheses, "process_characters")


def _counts(references: Sequence[str], hypotheses: Sequence[str], function: str) -> ErrorCounts:
    _check_alike(references, hypotheses)
    process = getattr(_jiwer(), function)
    scored = [(r, h) for r, h in zip(references, hypotheses, strict=True) if r.strip()]
    # An empty reference has no alignment in jiwer: all that was said there is inserted.
    unit = str.split if function == "process_words" else list
    inserted = sum(len(unit(h.strip())) for r, h in zip(references, hypotheses, strict=True) if not r.strip())
    if not scored:
        return ErrorCounts(insertions=inserted)
    result = process([r for r, _ in scored], [h for _, h in scored])
    total = result.hits + result.substitutions + result.deletions
    return ErrorCounts(result.substitutions, result.deletions, result.insertions + inserted, total)


def _check_alike(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses cannot be compared")


def check_installed() -> None:
    """Raise ValueError, with what to install, where error rates cannot be counted."""
    _jiwer()


def _jiwer() -> Any:
    try:
        import jiwer
    except ImportError as error:
        raise ValueError("error rates need the package jiwer: pip install jiwer") from error
    return jiwer


def _levenshtein() -> Any:
    _jiwer()  # which needs rapidfuzz
    from rapidfuzz.distance import Levenshtein

    return Levenshtein
