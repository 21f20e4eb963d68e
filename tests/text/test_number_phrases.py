"""Fractions, money and times: marks and words count alike, and plain text stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nest_ssl.text.number_phrases import (
    one_way_to_say_money,
    one_way_to_say_times,
    read_fractions,
    read_money,
)
from nest_ssl.text.scored_text import RULES, ScoringRules, scored_characters
from nest_ssl.text.spoken_numbers import SMALL

PASSES = (read_fractions, read_money, one_way_to_say_money, one_way_to_say_times)
TEENS = ["eleven", "twelve"]
PLAIN = """
    the a quarter half past to dollars dollar cents and pounds point third o'clock
    点 半 刻 分 之 一 块 元 钱
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read

# By language, spellings of one thing in each row; "_" is a space.
SAME = [
    ("en", "1/2 ½ one_half"),
    ("en", "1/3 ⅓ one_third"),
    ("en", "2/3 ⅔ two_thirds"),
    ("en", "1/4 ¼ one_quarter"),
    ("en", "3/4 ¾ three_quarters"),
    ("en", "⅝ five_eighths"),
    ("en", "⅒ one_tenth"),
    ("en", "2½ 2_½ 2_1/2 two_and_a_half"),
    ("en", "2⅛ two_and_an_eighth"),
    ("en", "2¾_hours 2_3/4_hours two_and_three_quarters_hours"),
    ("en", "12½ twelve_and_a_half"),
    ("en", "2½% 2_1/2_% two_and_a_half_percent"),
    ("en", "a_1/2-inch_pipe a_½-inch_pipe a_one_half_inch_pipe"),
    ("en", "$5.50 $_5.50 five_dollars_fifty five_dollars_and_fifty_cents 5_dollars_50_cents"),
    ("en", "$1.01 one_dollar_one_cent one_dollar_and_one_cent"),
    ("en", "$0.50 $.50 fifty_cents 50_cents"),
    ("en", "$0.01 one_cent"),
    ("en", "£0.01 one_penny"),
    ("en", "£2.20 two_pounds_twenty two_pounds_and_twenty_pence"),
    ("en", "€3.99 three_euros_ninety_nine"),
    ("en", "$1,234.50 one_thousand_two_hundred_and_thirty_four_dollars_fifty"),
    ("en", "$5.00 $5 five_dollars"),
    ("en", "$5.5_million five_point_five_million_dollars"),
    ("en", "$5.50_million 5,500,000_dollars"),
    ("en", "3:30 half_past_three three_thirty Half_Past_3"),
    ("en", "at_10:15 at_a_quarter_past_ten at_quarter_past_ten at_ten_fifteen"),
    ("en", "12:30_tomorrow half_past_twelve_tomorrow"),
    ("en", "0.5 zero_point_five"),
    ("en", ".5 point_five"),
    ("zh", "1/2 ½ 二分之一"),
    ("zh", "3/4 ¾ 四分之三"),
    ("zh", "⅒ 十分之一"),
    ("zh", "2½个 二又二分之一个"),
    ("zh", "2½% 百分之二又二分之一"),
    ("zh", "3:30 三点半 3点半 三点三十分 ３：３０"),
    ("zh", "下午两点一刻 下午2:15 下午二点十五分"),
    ("zh", "十一点三刻 11:45 11点45分"),
    ("zh", "早上一点半 早上1:30"),
    ("zh", "一点半左右 1:30左右"),
    ("zh", "二十三点半 23:30"),
    ("zh", "0.5 零点五"),
]


@pytest.mark.parametrize(("language", "spellings"), SAME, ids=lambda value: value.split()[0])
def test_one_thing_counts_alike_however_it_is_written(language, spellings):
    found = {text: scored_characters(text.replace("_", " "), language) for text in spellings.split()}
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "half the people and the first half of it"),
        ("en", "we walked past three houses"),
        ("en", "half past"),
        ("en", "nine half past three"),  # 9330 would be another number
        ("en", "it is not worth two cents"),
        ("en", "ten people paid five dollars each"),
        ("en", "a quarter to three of them"),
        ("en", "he came in second and she came in third"),
        ("en", "the dollar fell and so did the euro"),
        ("zh", "差一点半夜回家"),
        ("zh", "一点半点都没有"),
        ("zh", "他有一点半信半疑"),
        ("zh", "第二点半导体很重要"),
        ("zh", "三点半夜里"),
        ("zh", "过这三点半径相同的圆"),
        ("zh", "一半的人在一刻不停地走"),
        ("ru", "половина"),
    ],
)
def test_what_may_mean_something_else_stays(language, text):
    rules = ScoringRules(fractions=False, money=False, times=False)
    assert scored_characters(text, language) == rules.characters(text, language)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1/2", "1 2"),
        ("half past three", "half past four"),
        ("5/6", "five sixths"),  # a date, for all that is known
        ("24/7", "twenty four sevenths"),
        ("4/3", "four thirds"),
        ("1/2/2026", "one half 2026"),
        ("$5.50", "$5.05"),
        ("$5.50", "550 dollars"),
        ("five dollars and fifty cents", "five dollars and fifteen cents"),
        ("half past thirteen", "13:30"),
    ],
)
def test_what_differs_stays_apart(one, other):
    assert scored_characters(one, "en") != scored_characters(other, "en")


@given(
    words=st.lists(
        st.sampled_from(PLAIN),
        max_size=8,
    ),
    language=st.sampled_from(["en", "es", "ru", None]),
)
@example(words=["half", "past"], language="en")
@settings(max_examples=150, deadline=None)
def test_text_without_a_number_is_never_changed(words, language):
    text = " ".join(words)
    for one in PASSES:
        assert one(text, language) == text


@given(
    hour=st.integers(1, 12), past=st.sampled_from([("half", "30"), ("a quarter", "15"), ("quarter", "15")])
)
@settings(max_examples=36, deadline=None)
def test_half_and_quarter_hours_are_those_of_the_clock(hour, past):
    name = [*SMALL["en"], *TEENS][hour]
    spoken, minutes = past
    clock = scored_characters(f"at {hour}:{minutes} then", "en")
    assert scored_characters(f"at {spoken} past {name} then", "en") == clock == f"at {hour}{minutes} then"


@given(dollars=st.integers(1, 5000), cents=st.integers(1, 99))
@settings(max_examples=60, deadline=None)
def test_dollars_and_cents_are_those_of_the_mark(dollars, cents):
    written = scored_characters(f"pay ${dollars:,}.{cents:02d} now", "en")
    unit, part = "dollar" if dollars == 1 else "dollars", "cent" if cents == 1 else "cents"
    for said in (f"pay {dollars} {unit} and {cents} {part} now", f"pay {dollars} {unit} {cents} now"):
        assert scored_characters(said, "en") == written


@pytest.mark.parametrize(
    ("rule", "text", "without"),
    [
        ("fractions", "about 2½", "about 212"),
        ("money", "$5.50", "five point 50 dollars"),
        ("times", "half past three", "half past three"),
    ],
)
def test_each_rule_can_be_off_alone_and_all_go_with_numbers(rule, text, without):
    assert ScoringRules(**{rule: False}).characters(text, "en") == without
    assert ScoringRules().characters(text, "en") != without
    on, off = ScoringRules(numbers=False), ScoringRules(numbers=False, **{rule: False})
    assert on.characters(text, "en") == off.characters(text, "en")
    assert RULES[rule] in ScoringRules().described() and RULES[rule] not in on.described()
