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
    has no script: it is read in the language that most references are in, so that "5" meets "five" or 五.
    """

    def __init__(self, references: Iterable[Utterance]) -> None:
        self._languages: list[str | None] = []
        told: Counter[str] = Counter()
        for said in references:
            stated, script = known_language(said.language), language_of(said.text)
            # other scripts tell no language for sure
            self._languages.append(stated or (CHINESE if script == CHINESE else None))
            told.update(language for language in (stated or script,) if language)
        self._usual = told.most_common(1)[0][0] if told else None

    def of(self, text: str, place: int) -> str | None:
        """Give the language of a text said or heard in the utterance at `place`; None: its script tells."""
        return self._read(text, self._languages[place])

    def characters(self, rules: ScoringRules) -> list[Callable[[str], str]]:
        """Give how a keyword is read in each language of the set, the most frequent first."""

        def read_in(language: str | None) -> Callable[[str], str]:
            return lambda word: rules.characters(word, self._read(word, language))

        return [read_in(language) for language, _ in Counter(self._languages).most_common()]

    def _read(self, text: str, language: str | None) -> str | None:
        return language or (None if any(map(str.isalpha, text)) else self._usual)
