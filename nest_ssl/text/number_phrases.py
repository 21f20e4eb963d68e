"""Fractions, amounts of money and times of day in one spelling: ½ as one half, $5.50 as five dollars fifty.

Only what has one reading is rewritten.  Each pair of functions is a rule of scoring: what has marks is read
before punctuation goes, what has words once numbers are in one spelling.
"""

from __future__ import annotations

import re

from nest_ssl.text.languages import CHINESE, ENGLISH
from nest_ssl.text.spoken_numbers import ORDINALS, SMALL

_CHINESE_DIGITS = "零一二三四五六七八九"
# Written with an ordinary slash only these are fractions: 5/6 may be a date, and 24/7 neither.
_WITH_SLASH = {(1, 2), (1, 3), (2, 3), (1, 4), (3, 4)}
_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_FRACTION = re.compile(
    r"(?<![A-Za-z\d/⁄.,:-])(?:(\d{1,3}) )?([1-9])([/⁄])([2-9]|10)(?![A-Za-z\d/⁄])(?![.,:-]\d)( ?%)?"
)
_MONEY = re.compile(
    r"([$€£]) ?(\d{1,3}(?:,\d{3})+|\d*)\.(\d\d)(?![\d%])(?!,\d)(?! ?(?:hundred|thousand|[mbt]r?illion)\b)",
    re.IGNORECASE,
)
_UNITS = {"$": ("dollar", "cents"), "€": ("euro", "cents"), "£": ("pound", "pence")}
_ONE = {"cents": "cent", "pence": "penny"}
_SMALL = SMALL[ENGLISH]
_N = rf"[0-9]+|{'|'.join(_SMALL)}"
_CENTS = re.compile(
    rf"(?<![\w'])((?:{_N}) (?:dollars?|euros?|pounds?)) (?:and )?([0-9]{{1,2}}|{'|'.join(_SMALL)}) "
    rf"(?:cents?|pence)(?![\w'])(?! (?:{_N})(?![\w']))",
    re.IGNORECASE,
)
_PAST = re.compile(
    rf"(?<![\w'])(?:({_N}) )?(half|(?:a )?quarter) past ({_N})(?![\w'])(?! (?:{_N})(?![\w']))", re.IGNORECASE
)
_HOUR = "(?<![第点0-9零一二三四五六七八九十百千万亿])([零一二三四五六七八九十]|1[0-9]|2[0-4])点"
# 一点 is also "a bit" (一点半点, 差一点半夜, 一点半信半疑), so that there what follows must be of a time.
_CHINESE_TIME = re.compile(
    f"{_HOUR}(?:(半|[一三]刻)(?=钟|左右|了|到|开|$)|(?<!一点)(半|[一三]刻)(?!导体|径|小时|[夜天点个]))"
)
_MINUTES = {"半": 30, "一刻": 15, "三刻": 45}


def apart(text: str) -> str:
    """Put a space between a number and the fraction beside it, before NFKC makes 21⁄2 of 2½."""
    return text if text.isascii() else _VULGAR.sub(" ", text)


def read_fractions(text: str, language: str | None) -> str:
    """Write fractions as words: 1/2 as "one half", 二分之一; 2½ as "2 and a half", 2又二分之一.

    text: NFKC.  With a slash only halves, thirds and quarters are fractions, with the sign of ¾ all are.
    A % after one is a word, too.
    """
    if language not in (ENGLISH, CHINESE) or not ("/" in text or "⁄" in text):
        return text
    return _FRACTION.sub(_english_fraction if language == ENGLISH else _chinese_fraction, text)


def read_money(text: str, language: str | None) -> str:
    """Write $5.50 as "5 dollars 50", $0.50 as "50 cents"; in English texts only."""
    if language != ENGLISH or "." not in text:
        return text
    return _MONEY.sub(_money, text)


def one_way_to_say_money(text: str, language: str | None) -> str:
    """Write "five dollars and 50 cents" as "five dollars 50"; text: scored, with numbers in one spelling."""
    return _CENTS.sub(r"\1 \2", text) if language == ENGLISH else text


def one_way_to_say_times(text: str, language: str | None) -> str:
    """Write "half past three" as 330 (3:30), "a quarter past ten" as 1015; 三点半 and 三点一刻 with minutes.

    text: scored, with numbers in one spelling.  A time beside another number stays as it is.
    """
    if language == CHINESE and "点" in text:
        return _CHINESE_TIME.sub(lambda found: f"{found[1]}点{_MINUTES[found[2] or found[3]]}分", text)
    return _PAST.sub(_past, text) if language == ENGLISH and " past " in text.lower() else text


def _parts(found: re.Match[str]) -> tuple[str | None, int, int] | None:
    over, under = int(found[2]), int(found[4])
    if over >= under or (found[3] == "/" and (over, under) not in _WITH_SLASH):
        return None
    return found[1], over, under


def _english_fraction(found: re.Match[str]) -> str:
    parts = _parts(found)
    if parts is None:
        return found.group()
    whole, over, under = parts
    name = {2: "half", 4: "quarter"}.get(under) or ORDINALS[under]
    if over > 1:
        name += "s"
    name += " percent" if found[5] else ""
    if whole is None:
        return f"{_SMALL[over]} {name}"
    article = "an" if under == 8 else "a"
    return f"{whole} and {article if over == 1 else _SMALL[over]} {name}"


def _chinese_fraction(found: re.Match[str]) -> str:
    parts = _parts(found)
    if parts is None:
        return found.group()
    whole, over, under = parts
    below = "十" if under == 10 else _CHINESE_DIGITS[under]
    percent = "百分之" if found[5] else ""
    return percent + ("" if whole is None else f"{whole}又") + f"{below}分之{_CHINESE_DIGITS[over]}"


def _money(found: re.Match[str]) -> str:
    one, part = _UNITS[found[1]]
    whole, cents = int(found[2].replace(",", "") or 0), int(found[3])
    if not whole and cents:
        return f"{cents} {part if cents > 1 else _ONE[part]}"
    return f"{whole} {one if whole == 1 else one + 's'}" + (f" {cents}" if cents else "")


def _past(found: re.Match[str]) -> str:
    hour = int(found[3]) if found[3].isdigit() else _SMALL.index(found[3].lower())
    if found[1] or not 1 <= hour <= 12:
        return found.group()
    return f"{hour}{30 if found[2].lower() == 'half' else 15}"
