"""Which language's rules a text is read by: the one that its row states, else what its script tells."""

from __future__ import annotations

import re
from functools import lru_cache

from nest_ssl.text.scripts import text_length

CHINESE = "zh"
ENGLISH = "en"
_NAMES = {
    CHINESE: ("zh", "zho", "chi", "cmn", "yue", "wuu", "cn", "chinese", "mandarin", "cantonese", "中文"),
    ENGLISH: ("en", "eng", "english", "us", "uk"),
}
_BY_NAME = {name: code for code, names in _NAMES.items() for name in names}
_UNKNOWN = frozenset({"", "auto", "mixed", "mul", "multi", "none", "und", "unknown"})
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_PARTS = re.compile(r"[-_,/ ]+")


@lru_cache(maxsize=256)
def known_language(stated: str | None) -> str | None:
    """Give the two-letter code of a stated language: zh of zh-CN, cmn, Mandarin or zh-en; None of unknown.

    A language that has no name here is given in lower case, without its region.
    """
    if stated is None:
        return None
    parts = [part for part in _PARTS.split(stated.strip().lower()) if part]
    codes = [_BY_NAME.get(part, part) for part in parts]
    if CHINESE in codes:  # Chinese mixed with another language has the rules of both
        return CHINESE
    return codes[0] if codes and codes[0] not in _UNKNOWN else None


def language_of(*texts: str) -> str | None:
    """Tell a language by the first text that has letters: zh with any Chinese character, en for Latin ones.

    None without letters, and for Japanese, Korean and other scripts.

    Call it with the reference first and the hypothesis after it: both are then read by the same rules.
    """
    for text in texts:
        length = text_length(text)
        if length.kana or length.hangul:
            return None
        if length.han:
            return CHINESE
        if length.letters:
            return ENGLISH if _LATIN.search(text) else None
    return None
