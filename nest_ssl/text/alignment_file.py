"""What was said above what was recognised, word by word, for people to read.

call-7: 3 errors in 9 words (1 substituted, 1 deleted, 1 inserted); missed: 信用卡
REF: 我要办理信用卡 please * hold
HYP: 我要办理信用** please i told
                 D         I S
KEY:         ^^^^^^
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from nest_ssl.text.error_rates import Edit
from nest_ssl.text.keywords import Comparison, Keywords, Occurrence, covered
from nest_ssl.text.readable_alignment import readable_edits
from nest_ssl.text.scripts import UNSPACED

WIDTH = 100
LEGEND = (
    "REF: the reference, HYP: the hypothesis, as they are scored; below: S substituted, D deleted,",
    "I inserted; * stands where a text has no word.  A Chinese or Japanese character is a word of its own.",
    "KEY: ^ a keyword of the reference, ! a keyword that only the hypothesis has.",
)

_MARKS = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
_JOINERS = "\u200c\u200d"  # spelling needs them; they take no room


class _Cell(NamedTuple):
    """One column: a word of each text ("" where there is none), its mark, and that of a keyword.

    width: in columns; unspaced: whether it is of Chinese or Japanese characters, which stand without spaces.
    """

    reference: str
    hypothesis: str
    mark: str
    keyword: str
    width: int
    unspaced: bool


def aligned_lines(
    key: str,
    reference: str,
    hypothesis: str,
    edits: Sequence[Edit] | None = None,
    keywords: Keywords | None = None,
    notes: Sequence[str] = (),
    width: int = WIDTH,
) -> list[str]:
    """Give the lines of one utterance: key and counts, then REF, HYP and marks, wrapped at `width` columns.

    reference, hypothesis: as scored by words (ScoringRules.words).  edits: their alignment by words, by
    default readable_edits, with as many errors as WER counts.  notes follow the counts.  A line of marks or
    keywords is left out where it would be empty.  Chinese, Japanese and other wide characters take two
    columns, combining marks none (Unicode's East Asian Width); a word wider than `width` makes its line
    longer.  Controls and lone surrogates are shown as \\u escapes.
    """
    said, heard = reference.split(), hypothesis.split()
    if edits is None:
        edits = readable_edits(reference, hypothesis)
    flags, found = _keyword_flags(said, heard, edits, keywords)
    cells = _cells(said, heard, edits, *flags)
    counts = {mark: sum(cell.mark == mark for cell in cells) for mark in "SDI"}
    errors, of = sum(counts.values()), len(said)
    head = (
        f"{_shown(key)}: {errors} error{'s' * (errors != 1)} in {of} word{'s' * (of != 1)} "
        f"({counts['S']} substituted, {counts['D']} deleted, {counts['I']} inserted)"
    )
    lines = ["; ".join([head, *map(_shown, notes), *found])]
    for block in _wrapped(cells, max(1, width - len("REF: "))):
        lines += _block(block)
    return lines


def display_width(text: str) -> int:
    """Give the columns that a text takes where Chinese characters take two; ambiguous ones take one."""
    return len(text) if text.isascii() else sum(map(_columns, text))


@lru_cache(maxsize=1 << 16)
def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _keyword_flags(
    said: Sequence[str], heard: Sequence[str], edits: Sequence[Edit], keywords: Keywords | None
) -> tuple[tuple[list[bool], list[bool]], list[str]]:
    """Say of each word whether it is in a keyword of the reference, or in a false one; and what to note."""
    if keywords is None:
        return ([False] * len(said), [False] * len(heard)), []
    (reference, places), (hypothesis, heard_places) = _unspaced(said), _unspaced(heard)
    found = keywords.compare(reference, hypothesis)
    right = {
        heard_places[word][0]
        for edit in edits
        if edit.kind == "equal"
        for word in range(edit.hypothesis_start, edit.hypothesis_end)
    }
    starts = [start for start, _ in heard_places]
    false = _false(found, lambda o: all(start in right for start in starts if o.start <= start < o.end))
    flags = (_within(places, found.expected), _within(heard_places, false))
    notes = [
        f"{name}: {', '.join(o.keyword for o in occurrences)}"
        for name, occurrences in (("missed", found.missed), ("false", found.false))
        if occurrences
    ]
    return flags, notes


def _false(found: Comparison, right: Callable[[Occurrence], bool]) -> list[Occurrence]:
    """Give as many of each false keyword as there are, those first that were not said there."""
    left = Counter(o.keyword for o in found.false)
    false = []
    for occurrence in sorted(found.heard, key=right):
        if left[occurrence.keyword]:
            left[occurrence.keyword] -= 1
            false.append(occurrence)
    return false


def _unspaced(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Give the text as scored by characters (no space beside a Chinese one), and each word's [start, end)."""
    parts: list[str] = []
    places = []
    size, before = 0, True  # whether no space follows what stands before
    for word in words:
        if not before and not UNSPACED.match(word):
            parts.append(" ")
            size += 1
        parts.append(word)
        places.append((size, size + len(word)))
        size += len(word)
        before = UNSPACED.match(word[-1]) is not None
    return "".join(parts), places


def _within(places: Sequence[tuple[int, int]], occurrences: Sequence[Occurrence]) -> list[bool]:
    inside = covered(occurrences)
    return [start in inside for start, _ in places]


def _cells(
    said: Sequence[str],
    heard: Sequence[str],
    edits: Sequence[Edit],
    is_keyword: Sequence[bool],
    is_false: Sequence[bool],
) -> list[_Cell]:
    cells = []
    for edit in edits:
        mark = _MARKS[edit.kind]
        for step in range(
            max(edit.reference_end - edit.reference_start, edit.hypothesis_end - edit.hypothesis_start)
        ):
            i, j = edit.reference_start + step, edit.hypothesis_start + step
            has_reference, has_hypothesis = i < edit.reference_end, j < edit.hypothesis_end
            keyword = "^" if has_reference and is_keyword[i] else ""
            if not keyword and has_hypothesis and is_false[j]:
                keyword = "!"
            reference, width, unspaced = _looks(said[i]) if has_reference else ("", 1, True)
            hypothesis, other, alike = reference, width, unspaced
            if edit.kind != "equal":
                hypothesis, other, alike = _looks(heard[j]) if has_hypothesis else ("", 1, True)
            cells.append(_Cell(reference, hypothesis, mark, keyword, max(width, other), unspaced and alike))
    return cells


@lru_cache(maxsize=1 << 14)
def _looks(word: str) -> tuple[str, int, bool]:
    """Give a word as it is shown, its columns, and whether it stands without spaces."""
    shown = _shown(word)
    return shown, max(display_width(shown), 1), UNSPACED.match(shown) is not None


def _wrapped(cells: Sequence[_Cell], width: int) -> list[list[_Cell]]:
    blocks: list[list[_Cell]] = [[]]
    used = 0
    for cell in cells:
        gap = len(_gap(blocks[-1][-1], cell)) if blocks[-1] else 0
        if blocks[-1] and used + gap + cell.width > width:
            blocks.append([])
            used = gap = 0
        blocks[-1].append(cell)
        used += gap + cell.width
    return blocks


def _gap(before: _Cell, cell: _Cell) -> str:
    return "" if before.unspaced and cell.unspaced else " "


def _block(cells: Sequence[_Cell]) -> list[str]:
    reference, hypothesis, marks, keys = ["REF: "], ["HYP: "], ["     "], ["KEY: "]
    before = None
    for cell in cells:
        gap, width = "" if before is None else _gap(before, cell), cell.width
        before = cell
        said = gap + _padded(cell.reference, width)
        reference.append(said)
        hypothesis.append(gap + _padded(cell.hypothesis, width) if cell.mark else said)
        marks.append(gap + cell.mark.ljust(width))
        keys.append(gap + (cell.keyword * width).ljust(width))
    lines = ["".join(reference).rstrip(), "".join(hypothesis).rstrip()]
    if any(cell.mark for cell in cells):
        lines.append("".join(marks).rstrip())
    if any(cell.keyword for cell in cells):
        lines.append("".join(keys).rstrip())
    return lines


def _padded(shown: str, width: int) -> str:
    return shown + " " * (width - display_width(shown)) if shown else "*" * width


def _shown(text: str) -> str:
    """Give the text with what would break a line, or cannot be written, as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else f"\\u{ord(c):04x}" for c in text)
