"""Numbers in one spelling, whoever wrote them: in digits or in words, with marks or without."""

from __future__ import annotations

import re
import unicodedata

from nest_ssl.text.chinese_numbers import chinese_numbers
from nest_ssl.text.languages import CHINESE, ENGLISH
from nest_ssl.text.normalization import CharacterTable
from nest_ssl.text.scripts import UNSPACED_RANGES
from nest_ssl.text.spoken_numbers import PERCENT, POINT, digits_of_words, spoken_numbers

# Singular and plural in English, and in Chinese.
CURRENCIES = {
    "$": ("dollar", "dollars", "美元"),
    "€": ("euro", "euros", "欧元"),
    "£": ("pound", "pounds", "英镑"),
    "¥": ("yuan", "yuan", "元"),
}
SMALL_IN_LATIN = 11  # in a Chinese text "five" stays a word and "twelve" is 12

_THOUSANDS = {
    mark: re.compile(rf"(?<![A-Za-z\d.,])\d{{1,3}}(?:[{mark}]\d{{3}})+(?![\d{mark}])") for mark in ",."
}
_AMOUNT = r"(\d+(?:[.,]\d+)?(?: (?:hundred|thousand|million|billion|trillion)\b| ?[万亿])?)"
_CURRENCY = re.compile(rf"([$€£¥]) ?{_AMOUNT}", re.IGNORECASE)
_NEGATIVE = re.compile(r"(?<!\S)[-\u2212](?=\d)")
_BARE_DECIMAL = re.compile(r"(?<!\S)\.(?=\d)")
_PERCENT = re.compile(r"(\d) ?%")
_PER_CENT = re.compile(r"\bper cent\b", re.IGNORECASE)
_DECIMAL = re.compile(r"(?<![\w.,])(\d+)([.,])(\d+)(?!\w)(?![.,]\d)")
_CHINESE_DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?![\d.])")
_CHINESE_PERCENT = re.compile(
    r"(?<![\d零一二三四五六七八九十百千两点])"
    r"([\d零一二三四五六七八九十百千两]+(?:点[\d零一二三四五六七八九]+)?) ?%"
)
# In a text without spaces a dash may join as well; before degrees and percents it does not.
_CHINESE_NEGATIVE = re.compile(r"(?<![A-Za-z\d])[-\u2212](?=\d+(?:\.\d+)? ?(?:度|°|%))")
_CHINESE_DATE = re.compile(r"(?<!\d)(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)")
_CHINESE_TIME = re.compile(r"(?<![\d:])(\d{1,2}):([0-5]\d)(?![\d:])分?")
_DEGREES = re.compile(r"(?<=\d) ?°c?", re.IGNORECASE)
_LATIN_WORDS = re.compile(r"[A-Za-z]+(?:[ '-][A-Za-z]+)*")
_SPACE_BY_CHINESE = re.compile(rf" (?:(?<=[\d{UNSPACED_RANGES}] )|(?=[\d{UNSPACED_RANGES}]))")
_ENGLISH_POINT = re.compile(r"(?<=\d) point (?=\d)")
_BESIDE = re.compile(r"(?<![A-Za-z\d])\d+(?: +\d+)+(?![A-Za-z\d])")


_DECIMAL_DIGITS = CharacterTable(lambda character: str(unicodedata.decimal(character, character)))


def read_marks(text: str, language: str | None) -> str:
    """Write the marks that belong to numbers as words (%, $, a decimal point), before punctuation goes.

    text: NFKC.  Digits of every script become 0 to 9, and marks between thousands go.
    """
    if not text.isascii():
        text = text.translate(_DECIMAL_DIGITS)
    if not any(map(str.isdigit, text)) and "%" not in text:
        return text
    group = "," if language in (CHINESE, ENGLISH, None) else "."
    text = _THOUSANDS[group].sub(lambda found: found.group().replace(group, ""), text)
    if language == CHINESE:
        return _chinese_marks(text)
    if language == ENGLISH:
        text = _NEGATIVE.sub("minus ", text)
        text = _BARE_DECIMAL.sub("point ", text)
        text = _CURRENCY.sub(_english_money, text)
    if language in PERCENT:
        text = _PERCENT.sub(rf"\1 {PERCENT[language]}", text)
        point = POINT[language]
        text = _DECIMAL.sub(
            lambda f: f.group() if language == ENGLISH and f[2] == "," else f"{f[1]} {point} {f[3]}", text
        )
    return text


def one_spelling(text: str, language: str | None) -> str:
    """Write every number in one way; text: after `read_marks`, without punctuation, with single spaces.

    Chinese texts: see chinese_numbers; their spaces beside digits go, and their English numbers of more
    than ten are digits too.  The languages of text2num: see spoken_numbers.  Elsewhere digits beside each
    other are one number, and words stay words.
    """
    if language == CHINESE:
        text = _LATIN_WORDS.sub(lambda found: digits_of_words(found.group(), ENGLISH, SMALL_IN_LATIN), text)
        text = _ENGLISH_POINT.sub("点", text)
        return chinese_numbers(_SPACE_BY_CHINESE.sub("", text))
    if language == ENGLISH:
        text = _PER_CENT.sub("percent", text)
    if language in PERCENT:
        return spoken_numbers(text, language)
    return _BESIDE.sub(lambda found: found.group().replace(" ", ""), text)


def _english_money(found: re.Match[str]) -> str:
    one, many, _ = CURRENCIES[found[1]]
    return f"{found[2]} {one if found[2] == '1' else many}"


def _chinese_marks(text: str) -> str:
    text = _CHINESE_NEGATIVE.sub("负", text)
    text = _CHINESE_DATE.sub(lambda f: f"{f[1]}年{int(f[3])}月{int(f[4])}日", text)
    text = _CHINESE_TIME.sub(lambda f: f"{int(f[1])}点" + ("" if f[2] == "00" else f"{int(f[2])}分"), text)
    text = _CURRENCY.sub(lambda f: f[2].replace(" ", "") + CURRENCIES[f[1]][2], text)
    text = _CHINESE_DECIMAL.sub(r"\1点\2", text)
    text = _CHINESE_PERCENT.sub(lambda f: "百分之" + ("百" if f[1] == "100" else f[1]), text)
    return _DEGREES.sub("度", text)
