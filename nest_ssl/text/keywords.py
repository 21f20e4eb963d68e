"""Keyword error rate (KWER): how well the words that matter are recognised."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from nest_ssl.files.manifest import check_is_file
from nest_ssl.text.error_rates import Edit
from nest_ssl.text.scored_text import scored_characters
from nest_ssl.text.scripts import UNSPACED

DEFINITION = (
    "KWER = (errors on keyword characters + characters of falsely inserted keywords) / keyword characters of "
    "the references. A keyword counts where it stands as a whole word (in Chinese and Japanese: anywhere), "
    "longer keywords before shorter ones, without overlap. Errors on keyword characters are the "
    "substitutions and deletions of these, and the insertions inside a keyword, in jiwer's character "
    "alignment; falsely inserted is a keyword as often as the hypothesis has it beyond the reference of the "
    "same utterance."
)

# No letter, digit or apostrophe stands beside a whole word, except characters of scripts without spaces.
_BEGINS = f"(?:(?<![\\w'])|(?<={UNSPACED.pattern}))"
_ENDS = f"(?:(?![\\w'])|(?={UNSPACED.pattern}))"


class Occurrence(NamedTuple):
    """A keyword in a text: characters [start, end)."""

    start: int
    end: int
    keyword: str


class Keywords:
    """A list of keywords to be found in texts as they are scored (scored_text.scored_characters).

    Keywords are normalised as the texts are, and equal ones are one; ValueError for one of which nothing is
    left, and for none at all.
    """

    def __init__(self, words: Iterable[str]) -> None:
        found: dict[str, None] = {}
        for word in words:
            normalized = scored_characters(word)
            if not normalized:
                raise ValueError(f"keyword {word!r}: nothing is left of it without punctuation")
            found[normalized] = None
        if not found:
            raise ValueError("the list of keywords is empty")
        self.words = tuple(found)
        longest_first = sorted(self.words, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(_as_whole_word, longest_first)))

    def find(self, text: str) -> list[Occurrence]:
        """Give the keywords in a scored text, leftmost first, at each place the longest, without overlap."""
        return [Occurrence(m.start(), m.end(), m.group()) for m in self._pattern.finditer(text)]

    def errors(self, reference: str, hypothesis: str, edits: Sequence[Edit]) -> tuple[int, int]:
        """Give (errors, keyword characters of the reference), by DEFINITION.

        edits: the alignment of the two scored texts by characters.
        """
        expected, heard = self.find(reference), self.find(hypothesis)
        errors = sum(_errors_within(occurrence, edits) for occurrence in expected)
        extra = Counter(o.keyword for o in heard) - Counter(o.keyword for o in expected)
        errors += sum(len(keyword) * count for keyword, count in extra.items())
        return errors, sum(occurrence.end - occurrence.start for occurrence in expected)


def read_keywords(path: Path) -> Keywords:
    """Read keywords, one a line; blank lines and lines that begin with # are left out."""
    check_is_file(path)
    words = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if not scored_characters(word):
            raise ValueError(f"{path}:{number}: {word!r} is no keyword: nothing is left without punctuation")
        words.append(word)
    if not words:
        raise ValueError(f"{path} has no keyword; write one a line")
    return Keywords(words)


def _as_whole_word(word: str) -> str:
    before = "" if UNSPACED.match(word) else _BEGINS
    after = "" if UNSPACED.match(word[-1]) else _ENDS
    return before + re.escape(word) + after


def _errors_within(occurrence: Occurrence, edits: Sequence[Edit]) -> int:
    errors = 0
    for edit in edits:
        if edit.kind == "insert":
            inside = occurrence.start < edit.reference_start < occurrence.end
            errors += edit.errors if inside else 0
        elif edit.kind != "equal":
            overlap = min(edit.reference_end, occurrence.end) - max(edit.reference_start, occurrence.start)
            errors += max(0, overlap)
    return errors
