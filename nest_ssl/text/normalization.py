"""Text as it is trained on and scored: lower case, without punctuation, single spaces."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nest_ssl.text.scripts import UNSPACED

APOSTROPHES = "'’ʼ"
# Marks between two words that are read as a gap; other punctuation vanishes.
GAPS = "-‐‑‒–—―/_…"


@dataclass(frozen=True)
class TextNormalizer:
    """Call it with a text to get the normalised one; picklable, and its settings can be written down.

    lower_case: as str.lower.  remove_punctuation: characters of the Unicode classes P and S go, dashes and
    slashes become a space, an apostrophe between two letters of an alphabet stays (as ').  Always: NFKC,
    single spaces.
    """

    lower_case: bool = True
    remove_punctuation: bool = True

    def __call__(self, text: str, dropped: Counter[str] | None = None) -> str:
        """Give the normalised text; `dropped` counts the characters that were left out."""
        text = unicodedata.normalize("NFKC", text)
        if self.lower_case:
            text = text.lower()
        if self.remove_punctuation:
            text = without_punctuation(text, dropped)
        return " ".join(text.split())

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_config(cls, settings: Mapping[str, Any] | None, name: str) -> TextNormalizer:
        """Build it from a section; null switches both off.  `name` is its key, for the ValueError."""
        if settings is None:
            return cls(lower_case=False, remove_punctuation=False)
        known = asdict(cls())
        for key, value in settings.items():
            if key not in known or not isinstance(value, bool):
                raise ValueError(f"{name}.{key}: {value!r}; the keys are {', '.join(known)}, true or false")
        return cls(**settings)


def without_punctuation(text: str, dropped: Counter[str] | None = None) -> str:
    """Leave out punctuation and symbols as TextNormalizer says; `dropped` counts them."""
    if dropped is None and not any(mark in text for mark in APOSTROPHES):
        return text.translate(_WITHOUT_PUNCTUATION)  # no character depends on its neighbours: 5 times as fast
    return "".join(_kept(text, i, dropped) for i in range(len(text)))


class CharacterTable(dict[int, str]):
    """A table for str.translate that asks a function about each character once."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self.function = function

    def __missing__(self, code: int) -> str:
        self[code] = self.function(chr(code))
        return self[code]


def _kept(text: str, i: int, dropped: Counter[str] | None) -> str:
    character = text[i]
    if unicodedata.category(character)[0] not in "PS":
        return character
    if character in APOSTROPHES and 0 < i < len(text) - 1 and _letter(text[i - 1]) and _letter(text[i + 1]):
        return "'"
    if dropped is not None:
        dropped[character] += 1
    return " " if character in GAPS else ""


_WITHOUT_PUNCTUATION = CharacterTable(lambda character: _kept(character, 0, None))


def _letter(character: str) -> bool:
    """True for a letter of an alphabet: beside a Chinese or Japanese character stands a quotation mark."""
    return character.isalpha() and not UNSPACED.match(character)
