"""How much speech a text stands for, by script: Chinese characters are not counted as Latin letters are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

LETTERS_PER_SYLLABLE = 3.0  # English running speech: 4.7 letters and 1.5 syllables a word

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_HAN_RANGES = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA_RANGES = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fd-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HAN = re.compile(f"[{_HAN_RANGES}]")
_KANA = re.compile(f"[{_KANA_RANGES}]")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]")

# Scripts that are written without spaces between words; ー lengthens a kana and is no syllable of its own.
UNSPACED_RANGES = f"{_HAN_RANGES}{_KANA_RANGES}ー"
UNSPACED = re.compile(f"[{UNSPACED_RANGES}]")

_SYLLABIC = re.compile("|".join(script.pattern for script in (_HAN, _KANA, _HANGUL)))


@dataclass(frozen=True)
class TextLength:
    """Counts of a text.  han, kana, hangul: characters, a syllable each; letters, words: any alphabet."""

    han: int = 0
    kana: int = 0
    hangul: int = 0
    digits: int = 0
    letters: int = 0
    words: int = 0

    @property
    def characters(self) -> int:
        """Give what is read as one syllable each: characters of the three scripts, and digits."""
        return self.han + self.kana + self.hangul + self.digits

    @property
    def syllables(self) -> float:
        """Give about how many syllables the text has; 0.0 for one that nothing is said for."""
        return self.characters + max(self.words, self.letters / LETTERS_PER_SYLLABLE)

    @property
    def script(self) -> str:
        """Give the script of most of the syllables: han, kana, hangul, latin (any alphabet), or none."""
        if self.syllables == 0:
            return "none"
        weights = {
            "han": self.han,
            "kana": self.kana,
            "hangul": self.hangul,
            "latin": self.letters / LETTERS_PER_SYLLABLE,
        }
        best = max(weights, key=lambda name: weights[name])
        if best == "han" and self.kana:
            return "kana"  # Japanese is written with both
        return best if weights[best] else "none"


@lru_cache(maxsize=1024)  # several rules ask for the text of the same row
def text_length(text: str) -> TextLength:
    """Count a text; punctuation, spaces and symbols count for nothing."""
    if text.isascii():
        digits = sum(map(str.isdigit, text))
        return TextLength(digits=digits, letters=sum(map(str.isalpha, text)), words=_words(text))
    han, kana, hangul = (len(script.findall(text)) for script in (_HAN, _KANA, _HANGUL))
    rest = _SYLLABIC.sub(" ", text)
    letters = sum(map(str.isalpha, rest))
    return TextLength(han, kana, hangul, sum(map(str.isdigit, text)), letters, _words(rest))


def _words(text: str) -> int:
    return len(_WORD.findall(text))
