"""Keyword errors, recall and precision: hand-made cases of the definition, and a slow plain version of it."""

from __future__ import annotations

from dataclasses import asdict, astuple, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.text.error_rates import Edit, alignments
from nest_ssl.text.keyword_counts import FalseKeywords, KeywordCounts, false_alarms, keyword_counts
from nest_ssl.text.keywords import Keywords
from nest_ssl.text.scored_text import scored_characters
from tests.text import keyword_oracle as oracle

ODD = "ab 卡信Ａ１2é\u0301\u0301🙂𠮷\ud83d\t\n'"


def counted(words: list[str], reference: str, hypothesis: str) -> KeywordCounts:
    [edits] = alignments([reference], [hypothesis], "characters")
    return keyword_counts(Keywords(words, str), reference, hypothesis, edits)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "characters"),
    [
        ("the card is here", "the card is here", 0, 4),
        ("the card is here", "the card was there", 0, 4),  # errors elsewhere
        ("the card is here", "", 4, 4),
        ("the card is here", "the curd is here", 1, 4),
        ("the card is here", "the caard is here", 1, 4),  # inserted inside
        ("the cord is here", "the card is here", 4, 0),  # a keyword that was not said
        ("my card or card", "my card or card card", 4, 8),
        ("the card is here", "the cards is here", 1, 4),  # another word, though no character of it is wrong
        ("a card", "a discard", 1, 4),
        ("办理信用卡业务", "办理信用业务", 1, 3),
        ("办理业务", "办理信用卡业务", 3, 0),
        ("办理信用卡", "办理信用卡号", 2, 3),  # 卡号 is false, 信用卡 recalled
        ("信用卡号", "信用卡号", 0, 4),  # a character of two keywords is one
        ("", "card", 4, 0),
        ("", "", 0, 0),
        ("card", "car", 1, 4),
        ("ca", "card", 4, 0),
    ],
)
def test_errors_on_keywords(reference, hypothesis, errors, characters):
    found = counted(["card", "信用卡", "卡号"], reference, hypothesis)
    assert (found.errors, found.characters) == (errors, characters)


def test_the_deleted_character_is_outside_the_keyword_where_it_may_be():
    # jiwer deletes the second 打 of the two, which is in the keyword
    assert counted(["打电话"], "打打电话", "打电话") == KeywordCounts(
        characters=3, expected=1, heard=1, recalled=1, outside_errors=1, outside_characters=1
    )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected", "heard", "recalled"),
    [
        ("card card", "card", 2, 1, 1),
        ("card", "card card", 1, 2, 1),
        ("here is my card", "card is here", 1, 1, 1),  # at another place of the utterance
        ("art", "party", 1, 0, 0),
        ("party", "art", 0, 1, 0),
        ("credit card", "card", 2, 1, 1),  # "credit card" and "card"
        ("card", "credit card", 1, 2, 1),
        ("credit", "card", 0, 1, 0),
    ],
)
def test_a_keyword_is_recalled_as_often_as_both_texts_have_it(
    reference, hypothesis, expected, heard, recalled
):
    found = counted(["card", "art", "credit card"], reference, hypothesis)
    assert (found.expected, found.heard, found.recalled) == (expected, heard, recalled)
    assert found.false == heard - recalled


SCORED = st.text(alphabet=ODD, max_size=9).map(scored_characters)
WORDS = st.lists(st.text(alphabet="ab 卡信2\u0301", min_size=1, max_size=3), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(reference=SCORED, hypothesis=SCORED, words=WORDS)
def test_counts_are_those_of_a_slow_plain_version(reference, hypothesis, words):
    listed = [scored_characters(word) for word in words]
    listed = list(dict.fromkeys(word for word in listed if word))
    if listed:
        found = asdict(counted(listed, reference, hypothesis))
        assert found == oracle.counts(listed, reference, hypothesis)


@pytest.mark.parametrize(
    ("words", "reference", "hypothesis"),
    [
        (["卡"], "", ""),
        (["卡"], "", "卡卡"),
        (["卡"], "卡卡", ""),
        (["号码"], "请按１２３号", "请按123号码"),
        (["24小时"], "２４ 小时 服务", "24小时，服务"),
        (["art"], "the ART of the party", "the party of the art"),
        (["bye bye"], "bye bye bye", "bye bye"),
        (["哈哈"], "哈哈哈", "哈哈"),
        (["a much longer keyword"], "a much", "much longer"),
        (["café"], "cafe\u0301 🙂", "cafe caf\u00e9"),
        (["𠮷野家"], "𠮷野家", "吉野家"),
        (["wi-fi"], "Wi\tFi\nis on", "WiFi is on wi fi"),
        (["card"], "用CARD支付", "用card 2支付\ud83d"),
        (["信用卡", "卡号"], "信用卡号", "信用号"),
    ],
)
def test_counts_of_odd_texts_are_those_of_a_slow_plain_version(words, reference, hypothesis):
    said, heard, listed = scored_characters(reference), scored_characters(hypothesis), Keywords(words).words
    found = asdict(counted(list(listed), said, heard))
    assert found == oracle.counts(list(listed), said, heard)


@settings(max_examples=100, deadline=None)
@given(reference=SCORED, hypothesis=SCORED)
def test_counts_do_not_hinge_on_which_of_the_best_alignments_is_given(reference, hypothesis):
    keywords = Keywords(["ab", "卡信", "a"])
    [edits] = alignments([reference], [hypothesis], "characters")
    [backwards] = alignments([reference[::-1]], [hypothesis[::-1]], "characters")
    m, n = len(reference), len(hypothesis)
    mirrored = [Edit(k, m - b, m - a, n - d, n - c) for k, a, b, c, d in reversed(backwards)]
    assert keyword_counts(keywords, reference, hypothesis, mirrored) == keyword_counts(
        keywords, reference, hypothesis, edits
    )


@settings(max_examples=100, deadline=None)
@given(reference=SCORED, hypothesis=SCORED)
def test_kwer_is_zero_only_where_every_keyword_is_recalled_and_none_is_false(reference, hypothesis):
    found = counted(["ab", "卡信", "a"], reference, hypothesis)
    if found.errors == 0:
        assert found.recalled == found.expected == found.heard
    # the characters and errors of CER are keywords' and others', none is lost
    assert found.characters + found.outside_characters == len(reference)
    assert 0 <= found.outside_errors <= oracle.distance(list(reference), list(hypothesis))


def test_counts_add_up_and_rates_without_units_are_none():
    one = KeywordCounts(3, 4, 2, 3, 1, 2, 5, 10)
    total = KeywordCounts.total(np.array([astuple(one), astuple(one)]))
    assert asdict(total) == {field.name: 2 * getattr(one, field.name) for field in fields(one)}
    assert (one.kwer, one.recall, one.cer_outside) == (3 / 4, 1 / 2, 1 / 2)
    assert (one.precision, one.f1) == (1 / 3, pytest.approx(2 / (1 / (1 / 2) + 1 / (1 / 3))))
    nothing = KeywordCounts()
    assert (nothing.kwer, nothing.recall, nothing.precision, nothing.f1, nothing.cer_outside) == (None,) * 5
    assert KeywordCounts(errors=4, heard=1, false=1).kwer is None  # false keywords, and none was said
    assert KeywordCounts(expected=2, heard=1, false=1).f1 == 0


def test_false_keywords_per_hour_are_those_of_utterances_where_none_was_said():
    references = ["my card", "hello", "hello again", "", "", "hello"]
    hypotheses = ["my card card", "card", "hello", "card card", "", "card"]
    durations_s = [3600.0, 900.0, 900.0, 360.0, 1440.0, None]
    counts = np.array(
        [astuple(counted(["card"], *pair)) for pair in zip(references, hypotheses, strict=True)]
    )
    speech, silence = false_alarms(references, counts, durations_s)
    assert speech == FalseKeywords(false=1, hours=0.5, without_duration=1)
    assert silence == FalseKeywords(false=2, hours=0.5, without_duration=0)
    assert (speech.per_hour, silence.per_hour) == (2.0, 4.0)
    [no_speech, no_silence] = false_alarms(["my card"], counts[:1], [1.0])
    assert (no_speech.per_hour, no_silence.per_hour) == (None, None)
    assert false_alarms(["hello"], counts[1:2], [None]).speech.per_hour is None
