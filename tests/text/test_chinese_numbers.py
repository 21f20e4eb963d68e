"""Chinese numbers against a plain way of saying them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.text.chinese_numbers import chinese_numbers

DIGITS = "零一二三四五六七八九"


def said(value: int) -> str:
    """Say a number below 10 ** 12 as it is taught: 10500 is 一万零五百, 10 is 十."""
    if value == 0:
        return "零"
    text, gap = "", False
    for factor, section in ((10**8, "亿"), (10**4, "万"), (1, "")):
        part = value // factor % 10**4
        gap = gap or bool(text and part < 1000)  # 零 where a place is left out
        if part == 0:
            continue
        spelt = ""
        for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
            digit = part // unit % 10
            if digit:
                spelt += ("零" if gap and (text or spelt) else "") + DIGITS[digit] + name
            gap = digit == 0
        text += spelt + section
        gap = False
    return text[1:] if text.startswith("一十") else text


@settings(max_examples=300, deadline=None)
@given(
    value=st.one_of(
        st.integers(0, 10**12 - 1), st.integers(0, 99999), st.integers(1, 9999).map(lambda n: n * 10**4)
    )
)
def test_a_number_in_characters_is_the_one_in_digits(value):
    assert chinese_numbers(said(value)) == chinese_numbers(str(value))


@settings(max_examples=200, deadline=None)
@given(text=st.text("0123456789零一二两三九十百千万亿点幺〇壹a", max_size=12))
def test_a_second_pass_changes_nothing_but_what_the_first_put_together(text):
    once = chinese_numbers(text)
    assert chinese_numbers(chinese_numbers(once)) == chinese_numbers(once)


@given(digits=st.text("0123456789", min_size=3, max_size=20))
def test_digits_one_by_one_are_the_digits(digits):
    by_one = "".join(DIGITS[int(digit)] for digit in digits)
    assert chinese_numbers(by_one) == chinese_numbers(digits) == chinese_numbers(by_one.replace("一", "幺"))


@pytest.mark.parametrize(
    ("text", "one_way"),
    [
        ("一百二", "120"),
        ("三万五", "35000"),
        ("一亿零五", "100000005"),
        ("两千二", "2200"),
        ("壹佰贰拾", "120"),
        ("3百", "300"),
        ("五千万", "5000万"),
        ("一万亿", "1000000000000"),
        ("百分之百", "百分之百"),
        ("万一", "万一"),
        ("百万", "百万"),
        ("零五十", "零五十"),
        ("5六十", "五六十"),
        ("007", "007"),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_numbers_as_they_are_spoken(text, one_way):
    assert chinese_numbers(text) == one_way
