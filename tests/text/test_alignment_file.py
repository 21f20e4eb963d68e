"""What people read: columns, marks, keywords, lines of a width."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.text.alignment_file import LEGEND, aligned_lines, display_width
from nest_ssl.text.error_rates import alignments
from nest_ssl.text.keywords import Keywords
from nest_ssl.text.scored_text import scored_words

KEYWORDS = Keywords(["信用卡", "credit card", "card", "pin"])


def lines(reference: str, hypothesis: str, **options) -> list[str]:
    return aligned_lines("u1", scored_words(reference), scored_words(hypothesis), **options)


def test_words_stand_below_words_and_chinese_characters_below_two_columns():
    assert lines("我要办理信用卡，please hold", "我要办理信用 please I told", keywords=KEYWORDS) == [
        "u1: 3 errors in 9 words (1 substituted, 1 deleted, 1 inserted); missed: 信用卡",
        "REF: 我要办理信用卡 please * hold",
        "HYP: 我要办理信用** please i told",
        "                 D         I S",
        "KEY:         ^^^^^^",
    ]


def test_false_keywords_are_marked_and_named():
    assert lines("my credit card", "my pin card", keywords=KEYWORDS, notes=["codec g711a"]) == [
        "u1: 1 error in 3 words (1 substituted, 0 deleted, 0 inserted); codec g711a; "
        "missed: credit card; false: pin",
        "REF: my credit card",
        "HYP: my pin    card",
        "        S",
        "KEY:    ^^^^^^ ^^^^",
    ]
    assert lines("now", "pin now", keywords=KEYWORDS)[1:] == [
        "REF: *** now",
        "HYP: pin now",
        "     I",
        "KEY: !!!",
    ]


def test_of_a_keyword_heard_too_often_the_one_that_was_not_said_is_marked():
    assert lines("a card", "card a card", keywords=KEYWORDS)[1:] == [
        "REF: **** a card",
        "HYP: card a card",
        "     I",
        "KEY: !!!!   ^^^^",
    ]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "shown"),
    [
        ("", "", ["REF:", "HYP:"]),
        ("你好", "", ["REF: 你好", "HYP: ****", "     D D"]),
        ("", "hi", ["REF: **", "HYP: hi", "     I"]),
        ("same 一样", "Same, 一样!", ["REF: same 一样", "HYP: same 一样"]),
        ("电话", "dian 话", ["REF: 电   话", "HYP: dian 话", "     S"]),
        ("q\u0323\u0307 x", "qq x", ["REF: q\u0323\u0307  x", "HYP: qq x", "     S"]),
    ],
)
def test_odd_texts(reference, hypothesis, shown):
    assert lines(reference, hypothesis)[1:] == shown


def test_what_cannot_be_written_is_an_escape():
    assert aligned_lines("u", "ok \ud83d", "ok")[1:] == ["REF: ok \\ud83d", "HYP: ok ******", "        D"]


def test_a_key_cannot_break_the_line():
    [head, *_] = aligned_lines("a\nREF: b\x1b[2J", "x", "x")
    assert head.startswith("a\\u000aREF: b\\u001b[2J: 0 errors in 1 word (")


def test_long_texts_are_wrapped_between_columns():
    text = "办理信用卡业务" * 3 + "by phone"
    found = lines(text, text.replace("务", ""), width=30)
    assert found[1:] == [
        "REF: 办理信用卡业务办理信用卡",
        "HYP: 办理信用卡业**办理信用卡",
        "                 D",
        "REF: 业务办理信用卡业务 by",
        "HYP: 业**办理信用卡业** by",
        "       D             D",
        "REF: phone",
        "HYP: phone",
    ]
    assert lines("a" * 50 + " b", "b", width=20)[1:] == [
        "REF: " + "a" * 50,
        "HYP: " + "*" * 50,
        "     D",
        "REF: b",
        "HYP: b",
    ]


@settings(max_examples=100, deadline=None)
@given(
    reference=st.text(alphabet="ab 卡信é\u0301🙂𠮷한1", max_size=40),
    hypothesis=st.text(alphabet="ab 卡信é\u0301🙂𠮷한1", max_size=40),
    width=st.integers(20, 60),
)
def test_the_texts_can_be_read_back_and_no_line_is_too_wide(reference, hypothesis, width):
    said, heard = scored_words(reference), scored_words(hypothesis)
    [edits] = alignments([said], [heard], "words")
    found = aligned_lines("u", said, heard, edits, KEYWORDS, (), width)
    words = [*said.split(), *heard.split()]
    limit = max([width, *(5 + display_width(word) for word in words)])
    for name, text in (("REF: ", said), ("HYP: ", heard)):
        shown = "".join(line[5:] for line in found[1:] if line.startswith(name.rstrip()))
        assert shown.replace("*", "").replace(" ", "") == text.replace(" ", "")
    assert all(display_width(line) <= limit for line in found[1:])
    marks = "".join(line for line in found[1:] if line.startswith("     "))
    errors = sum(edit.errors for edit in edits)
    assert sum(marks.count(mark) for mark in "SDI") == errors
    assert found[0].startswith(f"u: {errors} error")


def test_width_is_that_of_unicode():
    assert display_width("aé卡ａ한ｱ") == 1 + 1 + 2 + 2 + 2 + 1
    assert unicodedata.combining("\u0301") and display_width("e\u0301\u200d") == 1
    assert all(display_width(line) <= 110 for line in LEGEND)
