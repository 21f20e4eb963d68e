"""By which language's rules a text of a set is read."""

from __future__ import annotations

import pytest

from nest_ssl.text.hypotheses import Utterance
from nest_ssl.text.reading import Languages
from nest_ssl.text.scored_text import ScoringRules

RULES = ScoringRules()


def said(*texts: str, lang: str | None = None) -> list[Utterance]:
    return [Utterance(text, None, {"lang": lang} if lang else {}) for text in texts]


def scored(languages: Languages, text: str, place: int) -> str:
    return RULES.characters(text, languages.of(text, place))


@pytest.mark.parametrize(
    ("references", "number"),
    [
        (said("press five", "good bye", "请按五", "5"), "five"),  # most references are English
        (said("请按五", "再见", "press five", "5"), "五"),
        (said("marque uno", "5", lang="es"), "cinco"),
        (said("позвони", "5"), "5"),  # no language is known
        (said("5"), "5"),
    ],
)
def test_a_text_without_letters_is_read_in_the_language_of_most_references(references, number):
    languages = Languages(references)
    place = len(references) - 1
    assert scored(languages, "5", place) == scored(languages, "5.", place) == number


def test_a_hypothesis_is_read_as_its_reference_and_without_a_language_by_its_script():
    languages = Languages([*said("请按五"), *said("press five"), *said("marque veinte", lang="es")])
    assert scored(languages, "press 5", 0) == "press五"  # as all texts beside a Chinese reference
    assert scored(languages, "press 5", 1) == "press five"
    assert scored(languages, "5", 1) == "five" and scored(languages, "5", 0) == "五"
    assert scored(languages, "按5", 1) == "按五"
    assert scored(languages, "marque veinte", 2) == "marque 20"


def test_keywords_are_read_in_every_language_of_the_set():
    languages = Languages([*said("用五G网络", "五"), *said("my 5G phone"), *said("veinte", lang="es")])
    read = languages.characters(RULES)
    assert {score("5G") for score in read} == {"五g", "5g"}
    assert {score("5") for score in read} == {"五", "five", "cinco"}
    assert {score("veinte") for score in read} == {"veinte", "20"}
