"""The utterances that went wrong most: which ones, and their texts in aligned pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nest_ssl.report.runs import finite

LONGEST_PIECE = 16  # characters that stay on one line
MOST_CHARACTERS = 1500  # of an aligned text


@dataclass(frozen=True)
class Piece:
    """A stretch of the alignment. kind: "same", "sub", "del" (only in the reference), "ins" (only heard)."""

    kind: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class SystemText:
    """What one system heard of an utterance; `error`: why it failed; a line may end after each of `words`."""

    system: str
    reference: str
    hypothesis: str
    words: list[list[Piece]]
    errors: int
    characters: int
    error: str
    missed: list[str]
    false: list[str]
    cut: bool  # the words end before the texts do

    @property
    def rate(self) -> float | None:
        """Errors over reference characters; None for an empty reference."""
        return self.errors / self.characters if self.characters else None


@dataclass(frozen=True)
class Utterance:
    """One of the worst: `texts` begins with the system that it was chosen by, the last one, and goes back."""

    key: str
    audio_filepath: str
    offset_s: float  # of the utterance in its file
    duration_s: float | None
    conditions: dict[str, str]
    texts: list[SystemText]


def worst_utterances(
    rows: Sequence[Mapping[str, Any]], most: int = 8
) -> tuple[str, list[Utterance], list[Utterance]]:
    """Give (system, most errors, highest rate) of the last system in `rows`; no utterance is in both lists.

    rows: of `score --utterances`. An utterance without errors is not among them; of an empty reference any
    text is wrong, it counts as the highest rate there is. Ties keep the order of the rows.
    """
    systems = list(dict.fromkeys(str(row.get("system")) for row in rows))
    if not systems:
        return "", [], []
    last = systems[-1]
    wrong = [row for row in rows if str(row.get("system")) == last and _errors(row) > 0]
    by_errors = sorted(wrong, key=lambda row: -_errors(row))[:most]
    chosen = {row.get("key") for row in by_errors}
    rest = [row for row in wrong if row.get("key") not in chosen]
    by_rate = sorted(rest, key=lambda row: (-_sort_rate(row), -_errors(row)))[:most]
    wanted = chosen | {row.get("key") for row in by_rate}
    texts: dict[Any, dict[str, SystemText]] = {}
    for row in rows:
        if row.get("key") in wanted:
            texts.setdefault(row.get("key"), {})[str(row.get("system"))] = system_text(row)
    order = list(reversed(systems))

    def utterance(row: Mapping[str, Any]) -> Utterance:
        found = texts[row.get("key")]
        return Utterance(
            str(row.get("key")),
            str(row.get("audio_filepath") or ""),
            finite(row.get("offset")) or 0.0,
            finite(row.get("duration")),
            {str(name): str(value) for name, value in (row.get("conditions") or {}).items()},
            [found[system] for system in order if system in found],
        )

    return last, [utterance(row) for row in by_errors], [utterance(row) for row in by_rate]


def system_text(row: Mapping[str, Any]) -> SystemText:
    """Give the view of one row of `score --utterances`."""
    keywords = row.get("keywords") or {}
    pieces = [piece for edit in row.get("edits") or [] for piece in _pieces(*_parts(edit))]
    shown, used = [], 0
    for piece in pieces:
        used += _length(piece)
        if used > MOST_CHARACTERS:
            break
        shown.append(piece)
    return SystemText(
        str(row.get("system")),
        str(row.get("reference") or ""),
        str(row.get("hypothesis") or ""),
        _words(shown),
        _errors(row),
        int(finite(row.get("characters")) or 0),
        str(row.get("error") or ""),
        [str(word) for word in keywords.get("missed") or []],
        [str(word) for word in keywords.get("false") or []],
        len(shown) < len(pieces),
    )


def _parts(edit: Any) -> tuple[str, str]:
    _, reference, hypothesis = edit
    return str(reference or ""), str(hypothesis or "")


def _pieces(reference: str, hypothesis: str) -> list[Piece]:
    """Cut a stretch where a line may end: after a space, a Chinese character, LONGEST_PIECE others."""
    kind = (
        "same" if reference == hypothesis else "del" if not hypothesis else "ins" if not reference else "sub"
    )
    longer = max(reference, hypothesis, key=len)
    if kind == "sub" and len(reference) != len(hypothesis):
        ends = [len(longer)]  # nothing says which characters stand for which
    else:
        told = reference or hypothesis
        ends, begin = [], 0
        for place, character in enumerate(told, start=1):
            if _ends_word(character) or place - begin >= LONGEST_PIECE or place == len(told):
                ends.append(place)
                begin = place
    return [Piece(kind, reference[a:b], hypothesis[a:b]) for a, b in pairwise([0, *ends])]


def _words(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Put pieces together that stay on one line: up to a space or a Chinese character of the reference."""
    words: list[list[Piece]] = [[]]
    for piece in pieces:
        words[-1].append(piece)
        if (
            _ends_word((piece.reference or piece.hypothesis)[-1:])
            or sum(map(_length, words[-1])) >= LONGEST_PIECE
        ):
            words.append([])
    return [word for word in words if word]


def _ends_word(character: str) -> bool:
    return character == " " or character >= "\u2e80"


def _length(piece: Piece) -> int:
    return max(len(piece.reference), len(piece.hypothesis))


def _errors(row: Mapping[str, Any]) -> int:
    return int(finite(row.get("errors")) or 0)


def _sort_rate(row: Mapping[str, Any]) -> float:
    characters = finite(row.get("characters")) or 0
    return _errors(row) / characters if characters else float("inf")
