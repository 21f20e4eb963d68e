"""Keywords in texts: where they stand."""

from __future__ import annotations

import pytest

from nest_ssl.text.keyword_choice import frequent_terms
from nest_ssl.text.keywords import KeywordLists, Keywords, covered


def found(words: list[str], text: str) -> list[str]:
    return [occurrence.keyword for occurrence in Keywords(words).find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the card", ["card"]),
        ("cards cardio discard card2 2card card's", []),
        ("card card", ["card", "card"]),
        ("a credit card", ["credit card", "card"]),
        ("credit", []),
        ("用card支付", ["card"]),
        ("我的信用卡", ["信用卡"]),
        ("信用卡号", ["信用卡号", "信用卡", "卡号"]),
        ("信用", []),
        ("", []),
    ],
)
def test_latin_keywords_are_whole_words_and_chinese_ones_stand_anywhere(text, expected):
    assert found(["card", "credit card", "信用卡", "信用卡号", "卡号"], text) == expected


@pytest.mark.parametrize(
    ("word", "text", "times"),
    [
        ("bye bye", "bye bye bye", 2),  # every place, overlapping or not
        ("哈哈", "哈哈哈", 2),
        ("क", "की", 0),  # a vowel sign belongs to the letter before it
        ("कल", "कल की", 1),
        ("\u0915", "\u0915\u093c", 0),
        ("あ", "あ\u3099", 0),
        ("葛城", "葛城\ufe00", 1),  # a variation selector changes no letter
        ("24", "124小时", 0),
        ("24", "24小时", 1),
        ("𠮷", "𠮷野家", 1),
        ("전화", "전화를", 0),  # Korean words have spaces between them
        ("don't", "don't", 1),
        ("don", "don't", 0),
    ],
)
def test_every_place_of_a_whole_word_is_one(word, text, times):
    assert len(Keywords([word], str).find(text)) == times


def test_what_is_found_of_a_keyword_does_not_depend_on_the_others_in_the_list():
    words, text = ["信用卡", "卡号", "信用卡号", "号"], "信用卡号和卡号"
    together = Keywords(words).find(text)
    alone = [occurrence for word in words for occurrence in Keywords([word]).find(text)]
    assert sorted(together) == sorted(alone)
    assert len(covered(together)) == 6  # all but 和, each once


def test_the_last_ones_beyond_the_other_text_are_missed_or_false():
    comparison = Keywords(["card", "pin"]).compare("card or card", "pin or card")
    assert [tuple(o) for o in comparison.missed] == [(8, 12, "card")]
    assert [tuple(o) for o in comparison.false] == [(0, 3, "pin")]


def test_keywords_are_normalised_as_texts_are_and_doubles_are_one():
    assert Keywords(["Wi-Fi", "wi fi", "ＣＡＲＤ", "信 用 卡"]).words == ("wi fi", "card", "信用卡")
    assert Keywords(["Card"], str).words == ("Card",)
    with pytest.raises(ValueError, match=r"'!!': nothing is left"):
        Keywords(["a", "!!"])
    with pytest.raises(ValueError, match="empty"):
        Keywords([])


def test_a_keyword_of_several_spellings_is_one_keyword():
    keywords = Keywords([("five", "五"), "card", "五"], str)
    assert keywords.words == ("five", "card")
    assert [o.keyword for o in keywords.find("press five")] == ["five"]
    assert [tuple(o) for o in keywords.find("按五")] == [(1, 2, "five")]
    assert keywords.compare("five", "五").missed == []
    together = KeywordLists({"digits": keywords, "more": Keywords([("六", "six")], str)}).all
    assert together.words == ("five", "card", "六")
    assert [o.keyword for o in together.find("五 six")] == ["five", "六"]
    with pytest.raises(ValueError, match="nothing is left"):
        Keywords([()])


def test_a_keyword_of_two_domains_is_one_in_all_of_them_together():
    bank, shop = Keywords(["card", "账户"]), Keywords(["card", "order"])
    lists = KeywordLists({"bank": bank, "shop": shop})
    assert lists.names == ["all", "bank", "shop"]
    assert lists.all.words == ("card", "账户", "order")
    assert len(lists.all.find("card")) == 1
    assert dict(lists)["shop"] is shop
    assert KeywordLists({"bank": bank}).names == ["bank"]
    with pytest.raises(ValueError, match="no list"):
        KeywordLists({})


def test_frequent_terms_leave_out_function_words_and_parts_of_terms():
    texts = ["Please hold, your agent is there.", "the agent will call", "your agent"] * 2 + ["billing"]
    assert frequent_terms(texts) == ["agent"]
    chinese = ["我想办理信用卡", "这是你的信用卡吗", "信用卡的问题"] * 2
    assert frequent_terms(chinese)[0] == "信用卡"
    assert not {"信用", "用卡"} & set(frequent_terms(chinese))
    assert frequent_terms(["apple pear", "apple pear", "apple pear", "apple"], top=1) == ["apple"]
    assert frequent_terms(["all different", "nothing twice"]) == []
