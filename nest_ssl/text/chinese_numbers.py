"""Chinese numbers in one spelling, however they are written: 二十五 as 25, 幺三八 as 138, 1000000 as 100万.

cn2an reads numbers well too, but its wheels put folders named build, example and src beside it;
WeTextProcessing (wetext) brings 50 MB, needs 20 ms a text and leaves some texts empty.
"""

from __future__ import annotations

import re

DIGITS = {character: str(i % 10) for i, character in enumerate("零一二三四五六七八九〇壹贰叁肆伍陆柒捌玖")}
DIGITS |= {"两": "2", "兩": "2", "貳": "2", "參": "3", "陸": "6"}
UNITS = {"拾": "十", "佰": "百", "仟": "千", "萬": "万", "億": "亿"}
TELEPHONE_ONE = "幺"
SMALL = "零一二三四五六七八九十"
LONGEST = 16  # more digits are a string of digits, and no quantity

_RUN = re.compile(f"[0-9{TELEPHONE_ONE}十百千万亿{''.join([*DIGITS, *UNITS])}]+")
_PLAIN = str.maketrans(DIGITS | UNITS)
_SECTIONS = re.compile("(?:(.+)亿)?(?:([^万]+)万)?([^万亿]*)", re.DOTALL)
_BELOW = re.compile("(?:([1-9])千)?(?:0?([1-9])百)?(?:0?([1-9]?)十)?(?:(0?)([1-9]))?")
_DECIMAL_SECTION = re.compile(  # 三点五万; from the first numeral on, or a long run takes quadratic time
    f"(?<![0-9十百千{''.join(DIGITS)}])([0-9十百千{''.join(DIGITS)}]+)点([0-9{''.join(DIGITS)}]+)([万萬亿億])"
)
_FIGURES = re.compile("[0-9]+")
_SPELT_DIGITS = str.maketrans("0123456789", SMALL[:10])


def chinese_numbers(text: str) -> str:
    """Write every number of a text without spaces in one way.

    0 to 10 as 零..十, larger ones in digits, whole 万 and 亿 with these: 100万.  Leading zeros stay, and a
    run of numerals that is no number (千万, 五六十) stays as it is.
    """
    if "点" in text:
        text = _DECIMAL_SECTION.sub(_whole, text)
    text = _RUN.sub(lambda found: _in_digits(found.group()), text)
    return _FIGURES.sub(lambda found: _spelt(found.group()), text)


def _in_digits(run: str) -> str:
    """Give a run of numerals as digits; where it is no number, as it is, with Chinese digits only."""
    if TELEPHONE_ONE in run:
        if len(run) < 3:  # 老幺 is no number
            return run.translate(_SPELT_DIGITS)
        run = run.replace(TELEPHONE_ONE, "一")
    plain = run.translate(_PLAIN)
    if plain.isdigit():
        return plain
    value = _value(plain)
    return run.translate(_SPELT_DIGITS) if value is None else str(value)


def _value(plain: str) -> int | None:
    """Give the value of digits with units: 3百05, 3万5 (35000), 100万; None where it is no number."""
    found = _SECTIONS.fullmatch(plain)
    if found is None or len(plain) > 2 * LONGEST:
        return None
    total, last = 0, 0  # last: the unit that a digit at the end follows
    for part, unit in zip(found.groups(), (10**8, 10**4, 1), strict=True):
        if not part:
            continue
        if unit == 10**8 and "万" in part:
            amount = _value(part)
        elif part.isdigit():
            amount = int(part) * (last // 10 if last and len(part) == 1 else 1)
        else:
            amount = _below(part, after=bool(last))
        if amount is None:
            return None
        total, last = total + amount * unit, unit
    return total


def _below(part: str, after: bool) -> int | None:
    """Give the value below 10 000 of a part with 十, 百, 千; after: whether a 万 or 亿 stands before it."""
    found = _BELOW.fullmatch(part)
    if found is None or (part[0] == "0" and not after):
        return None
    thousands, hundreds, tens, zero, ones = found.groups()
    total = 1000 * int(thousands or 0) + 100 * int(hundreds or 0)
    if tens is not None:
        total += 10 * int(tens or 1)
    elif ones and not zero and total:  # 三百五 is 350, 两千二 is 2200
        return total + int(ones) * (10 if hundreds else 100)
    return total + int(ones or 0)


def _whole(found: re.Match[str]) -> str:
    whole, decimals = (_in_digits(part) for part in found.groups()[:2])
    if not (whole.isdigit() and decimals.isdigit() and len(whole + decimals) <= LONGEST):
        return found.group()
    unit = 10**8 if found[3] in "亿億" else 10**4
    return str(int(whole) * unit + int(decimals) * unit // 10 ** len(decimals))


def _spelt(digits: str) -> str:
    if len(digits) > LONGEST or (len(digits) > 1 and digits[0] == "0"):
        return digits
    value = int(digits)
    if value % 10**8 == 0 and 0 < value < 10**12:
        return _spelt(str(value // 10**8)) + "亿"
    if value % 10**4 == 0 and 0 < value < 10**8:
        return _spelt(str(value // 10**4)) + "万"
    return SMALL[value] if value <= 10 else digits
