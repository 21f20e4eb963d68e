"""Text as it is scored: normalised, and cut into the characters and words that error rates count."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from nest_ssl.text.fillers import without_fillers
from nest_ssl.text.languages import CHINESE, known_language, language_of
from nest_ssl.text.normalization import CharacterTable, without_punctuation
from nest_ssl.text.number_phrases import (
    apart,
    one_way_to_say_money,
    one_way_to_say_times,
    read_fractions,
    read_money,
)
from nest_ssl.text.numbers import one_spelling, read_marks
from nest_ssl.text.scripts import UNSPACED, UNSPACED_RANGES
from nest_ssl.text.simplified import to_simplified

KEPT = 1 << 16  # texts whose scored form is remembered: references are scored once for each system
PASSES = 8  # two are the rule: the second changes nothing

_BESIDE_UNSPACED = re.compile(f" (?:(?<=[{UNSPACED_RANGES}] )|(?=[{UNSPACED_RANGES}]))")
_APART = CharacterTable(lambda character: f" {character} " if UNSPACED.match(character) else character)
_SELECTORS = re.compile(
    "[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)  # invisible marks, as after the heart of an emoji


def _visible(character: str) -> str:
    """Give "" for controls, and for what only says how the character before it is drawn (the keycap of 1️⃣)."""
    if _SELECTORS.match(character):
        return ""
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Me") and not character.isspace()
    return "" if hidden else character


_VISIBLE = CharacterTable(_visible)

# In the order in which they are applied, and the sentence for a page.
RULES = {
    "width": "Full width and other compatible forms become the plain ones (Unicode NFKC: Ａ１ is A1); "
    "invisible characters and frames around others (1️⃣) go.",
    "simplified": "Traditional Chinese characters become simplified ones (OpenCC: 電話 is 电话).",
    "case": "Letters become lower case.",
    "numbers": "A number counts alike however it is written: 0 to 10 alone as a word, others in digits "
    "(twenty five, ２５ and 25; 二十五 and 25; 幺三八 and 138; one two three and 123; 50% and fifty percent)."
    " Number words are read in Chinese, English, German, Spanish, French, Italian, Dutch and Portuguese.",
    "fractions": "Halves, thirds and quarters are words (1/2 is one half, 二分之一; 2½ is two and a half), "
    "and so is every fraction that is one sign (⅝); in English and Chinese.",
    "money": "Amounts with cents count alike ($5.50, five dollars fifty, five dollars and fifty cents; $0.50 "
    "and fifty cents; also € and £); in English.",
    "times": "Half and quarter hours are digits (half past three, 3:30, three thirty; 三点半, 三点三十分); "
    "in English and Chinese.",
    "punctuation": "Punctuation and symbols go; dashes and slashes become a space, an apostrophe inside a "
    "word stays.",
    "fillers": "Hesitations go (uh, um, erm, hmm; 嗯, 呃; the lists of other languages are in "
    "docs/scoring.md); answers such as uh-huh and particles such as 啊 stay.",
    "spaces": "Spaces beside a Chinese or Japanese character are no characters; such a character is a word "
    "of its own.",
}
OF_NUMBERS = ("fractions", "money", "times")  # parts of "numbers", off with it


@dataclass(frozen=True)
class ScoringRules:
    """What is done to references and hypotheses alike before errors are counted; each rule can be off.

    language (of the methods): what the row states, such as "en" or "zh-CN"; None is told by the script, Latin
    letters counting as English.  Give a hypothesis the language of its reference:
    languages.language_of(reference, hypothesis) where no row states one.  The results are deterministic, a
    text already scored stays as it is, and no text raises an error; a rule whose library is missing raises
    ModuleNotFoundError.
    """

    width: bool = True
    case: bool = True
    punctuation: bool = True
    numbers: bool = True
    fractions: bool = True
    money: bool = True
    times: bool = True
    fillers: bool = True
    simplified: bool = False

    def characters(self, text: str, language: str | None = None) -> str:
        """Give the text whose characters CER counts."""
        return _scored(self, text, language)

    def words(self, text: str, language: str | None = None) -> str:
        """Give the text whose words, between spaces, WER counts: the same text, cut into words."""
        return words_of(_scored(self, text, language))

    def described(self) -> list[str]:
        """Give a sentence for each rule that is on, in the order of their application."""
        off = () if self.numbers else OF_NUMBERS
        return [said for name, said in RULES.items() if getattr(self, name, True) and name not in off]

    def _once(self, text: str, stated: str | None) -> str:
        language = stated or language_of(text)
        if self.width and not text.isascii():
            text = apart(text) if self.numbers and self.fractions else text
            text = unicodedata.normalize("NFKC", text)
            text = text.translate(_VISIBLE)
        if self.simplified and not text.isascii():
            text = to_simplified(text)
        if self.case:
            text = text.lower()
        if self.numbers:
            text = read_fractions(text, language) if self.fractions else text
            text = read_money(text, language) if self.money else text
            text = read_marks(text, language)
        if self.punctuation:
            text = without_punctuation(text)
        text = _cut(text, " ")
        if self.fillers:
            # of an unstated language only what is a word in none: Latin letters need not be English
            text = without_fillers(text, CHINESE if language == CHINESE else stated)
        if self.numbers:
            text = one_spelling(" ".join(text.split()), language)
            text = one_way_to_say_money(text, language) if self.money else text
            text = one_way_to_say_times(text, language) if self.times else text
        return _cut(text, "")


DEFAULT = ScoringRules()


def scored_characters(text: str, language: str | None = None) -> str:
    """Give the text whose characters CER counts, by the default rules."""
    return DEFAULT.characters(text, language)


def scored_words(text: str, language: str | None = None) -> str:
    """Give the text whose words, between spaces, WER counts, by the default rules."""
    return DEFAULT.words(text, language)


def words_of(characters: str) -> str:
    """Cut a text as CER counts it into the words that WER counts."""
    return _cut(characters, " ")


@lru_cache(maxsize=KEPT)
def _scored(rules: ScoringRules, text: str, language: str | None) -> str:
    stated = known_language(language)
    for _ in range(PASSES):
        # rules make room for each other: without its punctuation, a mark may meet the letter it belongs to
        new = rules._once(text, stated)
        if new == text:
            break
        text = new
    return text


def _cut(text: str, around: str) -> str:
    """Give the text with single spaces, and with `around` (a space or none) beside characters without."""
    if text.isascii():
        return " ".join(text.split())
    if around:
        return " ".join(text.translate(_APART).split())
    return _BESIDE_UNSPACED.sub("", " ".join(text.split()))
