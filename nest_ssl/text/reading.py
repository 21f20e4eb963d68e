"""By which language's rules the texts of a set are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from nest_ssl.text.hypotheses import Utterance
from nest_ssl.text.languages import CHINESE, known_language, language_of
from nest_ssl.text.scored_text import ScoringRules


class Languages:
    """The languages of the references of a set, in their order.

    A reference and its hypotheses are read in the language that its row states, else in Chinese where the
    reference has a Chinese character, else each text by its own script.  A text without letters, such as 5,
    has no script: it is read in that of its reference, else in the language that most references are in, so
    that "5" meets "five" or 五.
    """

    def __init__(self, references: Iterable[Utterance]) -> None:
        self._languages: list[str | None] = []
        self._told: list[str | None] = []  # with what the script of the reference tells
        for said in references:
            stated, script = known_language(said.language), language_of(said.text)
            # other scripts tell no language for sure
            self._languages.append(stated or (CHINESE if script == CHINESE else None))
            self._told.append(stated or script)
        told = Counter(language for language in self._told if language)
        self._usual = told.most_common(1)[0][0] if told else None

    def of(self, text: str, place: int) -> str | None:
        """Give the language of a text said or heard in the utterance at `place`; None: its script tells."""
        return self._languages[place] or self._unlettered(text, self._told[place])

    def characters(self, rules: ScoringRules) -> list[Callable[[str], str]]:
        """Give how a keyword is read in each language of the set, the most frequent first."""

        def read_in(language: str | None, told: str | None) -> Callable[[str], str]:
            return lambda word: rules.characters(word, language or self._unlettered(word, told))

        pairs = Counter(zip(self._languages, self._told, strict=True))
        return [read_in(*pair) for pair, _ in pairs.most_common()]

    def _unlettered(self, text: str, told: str | None = None) -> str | None:
        return None if any(map(str.isalpha, text)) else told or self._usual
