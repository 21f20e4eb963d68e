"""Keywords, the words that matter, and where they stand in texts."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from nest_ssl.text.scored_text import scored_characters
from nest_ssl.text.scripts import UNSPACED, UNSPACED_RANGES

DEFINITION = (
    "KWER = (errors on keyword characters + characters of falsely inserted keywords) / keyword characters of "
    "the references. A keyword stands in a text wherever its characters stand as whole words (in Chinese and "
    "Japanese: anywhere), also inside or across another keyword; a character in two keywords is one keyword "
    "character. Errors on keyword characters are the substitutions and deletions of these and the insertions "
    "between two characters of a keyword, in that alignment with the fewest errors (those of CER) which has "
    "the fewest of them on keywords; in an utterance with a missed keyword they are at least 1 (*art* heard "
    "as *party*). A keyword is recalled as often as reference and hypothesis of an utterance both have it, "
    "wherever they do; missed is what the reference has beyond that, false what the hypothesis has. Recall = "
    "recalled / (recalled + missed), precision = recalled / (recalled + false), F1 = their harmonic mean."
)

ALL = "all"  # the domain of a list without domains, and all domains together


class Occurrence(NamedTuple):
    """A keyword in a text, in any of its spellings: characters [start, end)."""

    start: int
    end: int
    keyword: str


class Comparison(NamedTuple):
    """The keywords of a reference and of a hypothesis, each in the order of its text.

    missed: those of `expected` that the hypothesis lacks; false: those of `heard` beyond the reference.  Of a
    keyword that stands more often in one text than in the other, the last ones are missed or false.
    """

    expected: Sequence[Occurrence]
    heard: Sequence[Occurrence]
    missed: list[Occurrence]
    false: list[Occurrence]


class Keywords:
    """A list of keywords, to be found in texts as they are scored.

    words: each a text, or several spellings of one keyword: "5" is "five" in English texts, 五 in Chinese.
    characters: the rules of scoring, text -> scored text; keywords are normalised by it as the texts are, and
    equal ones are one.  ValueError for a keyword of which nothing is left, and for none at all.
    spellings: by keyword, its first spelling as scored, all of them.
    """

    def __init__(
        self, words: Iterable[str | Sequence[str]], characters: Callable[[str], str] = scored_characters
    ) -> None:
        self.spellings: dict[str, tuple[str, ...]] = {}
        self._keywords: dict[str, str] = {}  # of each spelling
        for word in words:
            spelt = tuple(map(characters, (word,) if isinstance(word, str) else word))
            if not spelt or not all(spelt):
                raise ValueError(f"keyword {word!r}: nothing is left of it by the rules of scoring")
            name = next((self._keywords[one] for one in spelt if one in self._keywords), spelt[0])
            self.spellings[name] = tuple(dict.fromkeys(self.spellings.get(name, ()) + spelt))
            for one in spelt:
                self._keywords.setdefault(one, name)
        if not self._keywords:
            raise ValueError("the list of keywords is empty")
        self.words = tuple(self.spellings)
        lengths: dict[str, set[int]] = {}
        for one in self._keywords:
            lengths.setdefault(one[0], set()).add(len(one))
        self._lengths = {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}
        self._starts = _starts(lengths)

    def find(self, text: str) -> list[Occurrence]:
        """Give every place of a keyword in a scored text, by start, at one start the longest first.

        Keywords inside and across others are all found ("credit card" has "card" as well), so that what is
        counted of one keyword does not depend on which others are in the list.  A place is a whole word: no
        letter, digit, apostrophe or combining mark of the same word stands beside it, characters of scripts
        without spaces excepted.
        """
        found = []
        for place in self._starts.finditer(text):
            start = place.start()
            for length in self._lengths[text[start]]:
                end = start + length
                keyword = self._keywords.get(text[start:end])
                if keyword is None or end > len(text):
                    continue  # as most are: the costlier tests come after
                if not _within_word(text, start) and not _within_word(text, end):
                    found.append(Occurrence(start, end, keyword))
        return found

    def compare(
        self, reference: str, hypothesis: str, expected: Sequence[Occurrence] | None = None
    ) -> Comparison:
        """Find the keywords of two scored texts, and those that only one of them has (see Comparison).

        expected: what `find` gave for the reference, where it is known.
        """
        expected = self.find(reference) if expected is None else expected
        heard = expected if hypothesis == reference else self.find(hypothesis)
        return Comparison(expected, heard, _beyond(expected, heard), _beyond(heard, expected))


class KeywordLists:
    """Keywords by domain, such as billing and greetings.

    A keyword may be in several domains; in `all`, the domains together, it is one.
    """

    def __init__(self, domains: Mapping[str, Keywords]) -> None:
        if not domains:
            raise ValueError("there is no list of keywords")
        self.domains = dict(domains)
        together = (spelt for keywords in domains.values() for spelt in keywords.spellings.values())
        self.all = Keywords(together, str)  # they are normalised

    def __iter__(self) -> Iterator[tuple[str, Keywords]]:
        """Give (name, keywords): first `all`, then each domain; a single domain comes alone."""
        if len(self.domains) > 1:
            yield ALL, self.all
        yield from self.domains.items()

    @property
    def names(self) -> list[str]:
        """Give the names in the order of iteration."""
        return [name for name, _ in self]


def covered(occurrences: Iterable[Occurrence]) -> set[int]:
    """Give the places of the characters that are in a keyword; those of overlapping ones count once."""
    return {place for o in occurrences for place in range(o.start, o.end)}


def _starts(firsts: Iterable[str]) -> re.Pattern[str]:
    """Give a pattern of the places where a text has one of `firsts`, but few of those within a word."""
    within = [first for first in firsts if _of_word(first) and not _is_mark(first)]
    anywhere = [first for first in firsts if first not in within]
    parts = [f"(?<![^\\W{UNSPACED_RANGES}])[{re.escape(''.join(within))}]"] if within else []
    return re.compile("|".join(parts + ([f"[{re.escape(''.join(anywhere))}]"] if anywhere else [])))


def _beyond(these: Sequence[Occurrence], others: Sequence[Occurrence]) -> list[Occurrence]:
    if not these or these is others:
        return []
    matched = Counter(o.keyword for o in others)
    rest = []
    for occurrence in these:
        if matched[occurrence.keyword] > 0:
            matched[occurrence.keyword] -= 1
        else:
            rest.append(occurrence)
    return rest


def _within_word(text: str, place: int) -> bool:
    """True where the characters before and at `place` belong to one word, or to one letter with its marks."""
    if not 0 < place < len(text):
        return False
    return _is_mark(text[place]) or (_of_word(text[place - 1]) and _of_word(text[place]))


def _of_word(character: str) -> bool:
    joins = character.isalnum() or character in "_'" or _is_mark(character)
    return joins and not UNSPACED.match(character)


def _is_mark(character: str) -> bool:
    """True for a combining mark; variation selectors change no letter."""
    if not unicodedata.category(character).startswith("M"):
        return False
    return not ("\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef")
