"""Hesitations, which annotators write down or leave out as they like, and no answer or word is among them."""

from __future__ import annotations

import re
from functools import lru_cache

from nest_ssl.text.languages import CHINESE, ENGLISH

# By language, whole words only; "+" means the letter may be drawn out.  "ANY" holds for every language in
# Latin letters, stated or not: um and er are words elsewhere ("um" is one in Portuguese, "er" he in German).
FILLERS = {
    "ANY": ("uh+", "uh+m+", "umm+", "er+m+", "hm+", "mm+"),
    ENGLISH: ("um", "er"),
    "fr": ("euh+", "heu+"),
    "de": ("äh+", "äh+m+", "öh+"),
    "es": ("eh+m+",),
    "it": ("eh+m+",),
    "nl": ("eh+m+",),
    "pt": ("eh+m+",),
    "ru": ("э+", "э+м+", "м{2,}"),
}
# Anywhere in a text: a reference without punctuation cannot tell whether they stand alone.  啊, 哦, 额 and
# 唔 are particles or parts of words as well, and stay.
CHINESE_FILLERS = "嗯呃呣"
# These are answers, "yes", and stay.
ANSWERS = ("uh[- ]?huh", "mm+[- ]?h+m+", "m+h+m+", "hm+[- ]mm+", "mm+[- ]mm+")

_CHINESE = re.compile(f"[{CHINESE_FILLERS}]")


def without_fillers(text: str, language: str | None) -> str:
    """Leave out the fillers of a language, None for an unknown one; spaces are left as they fall."""
    if language == CHINESE:
        text = _CHINESE.sub("", text)
    begins, pattern = _patterns(language)
    return pattern.sub(lambda found: found[1] or "", text) if begins.search(text) else text


@lru_cache(maxsize=64)
def _patterns(language: str | None) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Give a pattern of how fillers begin, which most texts lack and is found sooner, and one of all."""
    fillers = FILLERS["ANY"] + FILLERS.get(language or "", ())
    begins = re.compile("|".join(one[:2].rstrip("+{") for one in fillers), re.IGNORECASE)
    # group 1: an answer, which is put back
    return begins, re.compile(
        rf"(?<![\w'])(?:({'|'.join(ANSWERS)})|{'|'.join(fillers)})(?![\w'])",
        flags=re.IGNORECASE,
    )
