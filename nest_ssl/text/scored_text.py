"""Text as it is scored: normalised, and cut into the characters and words that error rates count."""

from __future__ import annotations

from nest_ssl.text.normalization import TextNormalizer
from nest_ssl.text.scripts import UNSPACED

NORMALIZER = TextNormalizer()

# What is written into every table, beside the figures.
WHAT_IS_DONE = (
    "References and hypotheses alike: Unicode NFKC (full width becomes half width), lower case, punctuation "
    "and symbols off (dashes and slashes become a space, an apostrophe inside a word stays), single spaces. "
    "Spaces beside a Chinese or Japanese character are no characters; such a character is a word of its own. "
    "Numbers stay as they are written, and simplified and traditional characters differ."
)


def scored_characters(text: str) -> str:
    """Give the text whose characters CER counts: normalised, no space beside a Chinese or Japanese one."""
    return _unspaced(NORMALIZER(text), "")


def scored_words(text: str) -> str:
    """Give the text whose words, between spaces, WER counts: a Chinese or Japanese character is a word."""
    return _unspaced(NORMALIZER(text), " ")


def _unspaced(text: str, around: str) -> str:
    if text.isascii():
        return text
    pieces = []
    for word in text.split():
        pieces.append(UNSPACED.sub(lambda found: f"\0{found.group()}\0", word))
    # \0 marks both sides of a character that stands alone: the space beside it, if any, goes with it
    marked = " ".join(pieces).replace("\0 ", "\0").replace(" \0", "\0")
    return " ".join(marked.replace("\0", around).split())
