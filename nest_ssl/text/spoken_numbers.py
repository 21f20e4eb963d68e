"""Number words of seven languages with spaces as digits, by text2num: twenty five is 25."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from nest_ssl.text.languages import ENGLISH

# What 0 to 10 are called; the word between the two sides of a decimal number.  All languages of text2num.
SMALL = {
    ENGLISH: ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "de": ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"],
    "es": ["cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez"],
    "fr": ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"],
    "it": ["zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove", "dieci"],
    "nl": ["nul", "een", "twee", "drie", "vier", "vijf", "zes", "zeven", "acht", "negen", "tien"],
    "pt": ["zero", "um", "dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove", "dez"],
}
POINT = {
    ENGLISH: "point",
    "de": "komma",
    "es": "coma",
    "fr": "virgule",
    "it": "virgola",
    "nl": "komma",
    "pt": "vírgula",
}
PERCENT = {
    ENGLISH: "percent",
    "de": "prozent",
    "es": "por ciento",
    "fr": "pour cent",
    "it": "per cento",
    "nl": "procent",
    "pt": "por cento",
}
_NTH = "first second third fourth fifth sixth seventh eighth ninth tenth"
ORDINALS = dict(enumerate(_NTH.split(), start=1))
REPEATED = {"double": 2, "triple": 3}
# Articles and pronouns are numbers in these languages (una casa), so only numbers that stand alone and are
# above ten are read; English has "one" alone, which comes back as a word.
ALONE = 11

_DIGIT = re.compile("[0-9]")
_LARGE = re.compile("hundred|thousand|[mbt]r?illion", re.IGNORECASE)
_MULTIPLE = {
    language: re.compile(rf"(?<!\S)([0-9]{{1,12}})(?: {point} ([0-9]{{1,12}}))? 1(0{{2,12}})(?!\S)")
    for language, point in POINT.items()
}
_DECIMAL = re.compile(r"(?<![\w.,])([0-9]+)[.,]([0-9]+)(?![\w])(?![.,][0-9])")
_BESIDE = re.compile(r"(?<!\S)[0-9]+(?: +[0-9]+)+(?!\S)")
_LONE = re.compile(r"(?<![\w'])([0-9]|10)(st|nd|rd|th)?(?![\w'])(?![.,:][0-9])")
_PLURALS = re.compile(r"(?<![\w'])((?:hundred|thousand|million|billion|trillion)s)(?![\w'])", re.IGNORECASE)
_ARTICLE = re.compile(r"(?<![\w'])an? (?=(?:hundred|thousand|million|billion|trillion)(?![\w']))", re.I)
_OH = re.compile(r"(?<![\w'])((?:[0-9]+|point) )(?:oh|o) (?=[0-9])", re.IGNORECASE)
_REPEATED = re.compile(r"(?<![\w'])(double|triple) ([0-9])(?![\w'])", re.IGNORECASE)


def spoken_numbers(text: str, language: str) -> str:
    """Write number words as digits, but 0 to 10 that stand alone as words.

    A text of a language that text2num lacks is given back.
    Numbers beside each other are one: "one two three", "1 2 3" and "123"; "nineteen ninety nine" and "1999".
    A decimal number has its point as a word.  text: normalised, with single spaces.
    Raises ModuleNotFoundError where text2num is not installed.
    """
    if language not in SMALL:
        return text
    text = digits_of_words(text, language)
    if not _DIGIT.search(text):
        return text
    text = _BESIDE.sub(lambda found: found.group().replace(" ", ""), text)
    small = SMALL[language]

    def spelt(found: re.Match[str]) -> str:
        if not found[2]:
            return small[int(found[1])]
        return ORDINALS.get(int(found[1]), found.group()) if language == ENGLISH else found.group()

    return _LONE.sub(spelt, text)


def digits_of_words(text: str, language: str, alone: int | None = None) -> str:
    """Give the text with digits for number words; a single number below `alone` stays a word."""
    convert = _converter()
    if alone is None:
        alone = 0 if language == ENGLISH else ALONE
    if language == ENGLISH and _LARGE.search(text):
        pieces = _PLURALS.split(_ARTICLE.sub("one ", text))
        pieces[::2] = [convert(piece, language, alone) for piece in pieces[::2]]
        text = "".join(pieces)  # "thousands" is no number
    else:
        text = convert(text, language, alone)
    if not _DIGIT.search(text):
        return text
    text = _DECIMAL.sub(rf"\1 {POINT[language]} \2", text)
    if language == ENGLISH:
        text = _OH.sub(r"\g<1>0 ", text)
        text = _REPEATED.sub(lambda found: found[2] * REPEATED[found[1].lower()], text)
    return _MULTIPLE[language].sub(_multiplied, text)


def _multiplied(found: re.Match[str]) -> str:
    """Give 25000000 for "25 1000000" (25 million), 1500000 for "1 point 5 1000000"."""
    whole, decimals, zeros = found[1], found[2] or "", found[3]
    if len(decimals) > len(zeros):
        return found.group()
    return str(int(whole + decimals) * 10 ** (len(zeros) - len(decimals)))


@lru_cache(maxsize=1)
def _converter() -> Callable[[str, str, float], str]:
    try:
        from text_to_num import alpha2digit
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the scoring rule 'numbers' (twenty five counts as 25) reads number words with text2num, which "
            "is not installed: pip install -e . -c constraints.txt, or switch the rule off"
        ) from error

    def convert(text: str, language: str, alone: float) -> str:
        try:
            return alpha2digit(text, language, alone)
        except UnicodeEncodeError:  # a lone surrogate is no text to the library, which is compiled
            pass
        return re.sub("[^\ud800-\udfff]+", lambda found: alpha2digit(found.group(), language, alone), text)

    return convert
