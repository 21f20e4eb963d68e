"""Plain CER and WER: against jiwer, and against a slow plain version where jiwer has no answer."""

from __future__ import annotations

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.text.error_rates import Edit, alignments, character_errors, word_errors
from nest_ssl.text.scored_text import scored_characters, scored_words
from tests.text import keyword_oracle as oracle

ODD = "ab 卡信Ａ１2é\u0301🙂𠮷\ud83d\t\n'"
SCORED = st.text(alphabet=ODD, max_size=14).map(scored_characters)
PAIRS = st.lists(st.tuples(SCORED, SCORED), min_size=1, max_size=5)


def cut(text: str, unit: str) -> list[str]:
    return text.split() if unit == "words" else list(text)


@settings(max_examples=100, deadline=None)
@given(pairs=PAIRS)
@pytest.mark.parametrize("unit", ["characters", "words"])
def test_alignments_are_those_of_jiwer(unit, pairs):
    pairs = [(said, heard) for said, heard in pairs if said]  # jiwer refuses an empty reference
    if not pairs:
        return
    process = jiwer.process_words if unit == "words" else jiwer.process_characters
    result = process([said for said, _ in pairs], [heard for _, heard in pairs])
    found = alignments([said for said, _ in pairs], [heard for _, heard in pairs], unit)
    for edits, chunks in zip(found, result.alignments, strict=True):
        assert edits == [
            Edit(c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx) for c in chunks
        ]
    counts = (word_errors if unit == "words" else character_errors)(
        [said for said, _ in pairs], [heard for _, heard in pairs]
    )
    assert (counts.substitutions, counts.deletions, counts.insertions) == (
        result.substitutions,
        result.deletions,
        result.insertions,
    )
    assert counts.rate == (result.wer if unit == "words" else result.cer)


@settings(max_examples=100, deadline=None)
@given(pairs=PAIRS)
@pytest.mark.parametrize("unit", ["characters", "words"])
def test_errors_are_those_of_a_slow_plain_version(unit, pairs):
    references, hypotheses = [said for said, _ in pairs], [heard for _, heard in pairs]
    distances = [oracle.distance(cut(said, unit), cut(heard, unit)) for said, heard in pairs]
    found = alignments(references, hypotheses, unit)
    assert [sum(edit.errors for edit in edits) for edits in found] == distances
    counts = (word_errors if unit == "words" else character_errors)(references, hypotheses)
    assert counts.errors == sum(distances)
    assert counts.total == sum(len(cut(said, unit)) for said in references)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "character_rate", "word_rate"),
    [
        ("你好", "", (2, 2), (2, 2)),
        ("", "你好 ok", (4, 0), (3, 0)),
        ("", "", (0, 0), (0, 0)),
        ("用 iPhone 打电话", "用iphone打電話", (2, 10), (2, 5)),
        ("请按１２３", "请按123", (0, 5), (0, 3)),
        ("cafe\u0301", "caf\u00e9", (0, 4), (0, 1)),
        ("cafe", "caf\u00e9", (1, 4), (1, 1)),
        ("𠮷野家", "吉野家", (1, 3), (1, 3)),
        ("red\tgreen\nblue", "red green  blue", (0, 14), (0, 3)),
        ("ice cream", "icecream", (1, 9), (2, 2)),
    ],
)
def test_odd_texts(reference, hypothesis, character_rate, word_rate):
    by_character = character_errors([scored_characters(reference)], [scored_characters(hypothesis)])
    by_word = word_errors([scored_words(reference)], [scored_words(hypothesis)])
    assert (by_character.errors, by_character.total) == character_rate
    assert (by_word.errors, by_word.total) == word_rate


def test_half_an_emoji_as_broken_json_has_it_counts_as_a_character():
    assert character_errors(["ok \ud83d"], ["ok"]).errors == 2
    assert word_errors(["ok"], ["ok \ud83d"]).insertions == 1


def test_texts_of_different_number_are_refused():
    for call in (lambda: alignments(["a"], [], "words"), lambda: character_errors(["a"], [])):
        with pytest.raises(ValueError, match="1 references and 0 hypotheses"):
            call()
