"""Keywords in texts, and the errors on them, by hand-made cases of the definition."""

from __future__ import annotations

import pytest

from nest_ssl.text.error_rates import alignments
from nest_ssl.text.keyword_choice import frequent_terms
from nest_ssl.text.keywords import Keywords, read_keywords


def found(words: list[str], text: str) -> list[str]:
    return [occurrence.keyword for occurrence in Keywords(words).find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the card", ["card"]),
        ("cards cardio discard card2 card's", []),
        ("card card", ["card", "card"]),
        ("a credit card", ["credit card", "card"]),
        ("credit", []),
        ("用card支付", ["card"]),
        ("我的信用卡", ["信用卡"]),
        ("信用卡号", ["信用卡号", "信用卡"]),
        ("信用", []),
    ],
)
def test_latin_keywords_are_whole_words_and_chinese_ones_stand_anywhere(text, expected):
    assert found(["card", "credit card", "信用卡", "信用卡号"], text) == expected


def test_keywords_are_normalised_as_texts_are_and_doubles_are_one():
    assert Keywords(["Wi-Fi", "wi fi", "ＣＡＲＤ", "信 用 卡"]).words == ("wi fi", "card", "信用卡")
    with pytest.raises(ValueError, match=r"'!!': nothing is left"):
        Keywords(["a", "!!"])
    with pytest.raises(ValueError, match="empty"):
        Keywords([])


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "total"),
    [
        ("the card is here", "the card is here", 0, 4),
        ("the card is here", "the card was there", 0, 4),  # errors elsewhere
        ("the card is here", "", 4, 4),
        ("the card is here", "the curd is here", 1, 4),
        ("the card is here", "the caard is here", 1, 4),  # inserted inside
        ("the cord is here", "the card is here", 4, 0),  # a keyword that was not said
        ("my card or card", "my card or card card", 4, 8),
        ("办理信用卡业务", "办理信用业务", 1, 3),
        ("办理业务", "办理信用卡业务", 3, 0),
        ("", "card", 4, 0),
    ],
)
def test_errors_on_keywords(reference, hypothesis, errors, total):
    [edits] = alignments([reference], [hypothesis], "characters")
    assert Keywords(["card", "信用卡"]).errors(reference, hypothesis, edits) == (errors, total)


def test_a_list_is_read_line_by_line(tmp_path):
    path = tmp_path / "keywords.txt"
    path.write_bytes("\ufeff# of the bank\r\n信用卡\r\n\r\nCredit card\r\n".encode())
    assert read_keywords(path).words == ("信用卡", "credit card")
    path.write_text("信用卡\n...\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"keywords\.txt:2: '\.\.\.' is no keyword"):
        read_keywords(path)
    path.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no keyword; write one a line"):
        read_keywords(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_keywords(tmp_path / "absent")


def test_frequent_terms_leave_out_function_words_and_parts_of_terms():
    texts = ["Please hold, your agent is there.", "the agent will call", "your agent"] * 2 + ["billing"]
    assert frequent_terms(texts) == ["agent"]
    chinese = ["我想办理信用卡", "这是你的信用卡吗", "信用卡的问题"] * 2
    assert frequent_terms(chinese)[0] == "信用卡"
    assert not {"信用", "用卡"} & set(frequent_terms(chinese))
    assert frequent_terms(["apple pear", "apple pear", "apple pear", "apple"], top=1) == ["apple"]
    assert frequent_terms(["all different", "nothing twice"]) == []
