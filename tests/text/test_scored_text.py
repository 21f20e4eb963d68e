"""The rules that texts are scored by: numbers, fillers, widths; hypotheses and references alike."""

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.text import simplified, spoken_numbers
from nest_ssl.text.languages import known_language, language_of
from nest_ssl.text.normalization import TextNormalizer
from nest_ssl.text.scored_text import RULES, ScoringRules, scored_characters, scored_words

LANGUAGES = (None, "en", "zh", "es", "fr", "de", "ru", "ja")
PIECES = """
    one two ten twenty five hundred thousand million point oh and a double first second percent dollars 1st
    21st $5 3.5 1,000 1.000 25 0 05 10:30 50% 100% ¥5 -5 um uh huh mm hmm er hundreds it's iphone mp3 5g
    二 二十 五 百 千 万 亿 点 幺 零 两 十 嗯 呃 啊 年 3:15 2026-11-22 〇 壹 三点五 百分之 ℃ ½ ² Ⅷ ③ ％ ＄
    1/2 ½ 2¾ ⁄ half quarter past to cents pence euros $5.50 £0.05 半 一刻 分 块 ¥5.5
    か ア 한 ٣ uno veinte coma vingt cent fünf trois \u0301 \u200b é İ ß ﬁ , . ' - /
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
LIKELY = st.lists(st.sampled_from([*PIECES, " ", " ", "\ud800"]), max_size=7).map("".join)
TEXTS = st.one_of(st.text(max_size=12), LIKELY, st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, language=st.sampled_from(LANGUAGES), off=st.sets(st.sampled_from(sorted(RULES))))
def test_a_scored_text_stays_as_it_is_whatever_the_text(text, language, off):
    switches = dict.fromkeys(off - {"spaces"}, False) | {"simplified": False}
    rules = ScoringRules(**switches)
    characters, words = rules.characters(text, language), rules.words(text, language)
    assert rules.characters(characters, language) == characters
    assert rules.words(words, language) == words
    assert characters.replace(" ", "") == words.replace(" ", "")
    assert characters == " ".join(characters.split()) and words == " ".join(words.split())


@settings(max_examples=100, deadline=None)
@given(text=st.text("abc déßЖ ,.;!?()-'’\"…，。", max_size=20))
def test_a_text_without_numbers_and_fillers_is_scored_as_it_is_normalised_for_training(text):
    plain = TextNormalizer()(text)
    assert ScoringRules(fillers=False).characters(text) == plain
    assert ScoringRules(fillers=False).words(text) == plain


# One number in each row, as different people and systems write it.
SAME = [
    ("en", "25 ２５ twenty_five twenty-five Twenty_Five"),
    ("en", "105 one_hundred_five one_hundred_and_five a_hundred_and_five"),
    ("en", "5 five"),
    ("en", "10 ten"),
    ("en", "1234 one_two_three_four 1_2_3_4 1-2-3-4 12_34"),
    ("en", "1999 nineteen_ninety_nine 19_99"),
    ("en", "2006 two_thousand_and_six two_thousand_six twenty_oh_six"),
    ("en", "5558 triple_five_eight five_five_five_eight"),
    ("en", "3.5 three_point_five 3_point_5"),
    ("en", "3.14 three_point_one_four"),
    ("en", "42.05 forty_two_point_oh_five"),
    ("en", "1.5_million one_point_five_million 1,500,000"),
    ("en", "1,000,000 one_million 1_million a_million"),
    ("en", "50% fifty_percent 50_% fifty_per_cent"),
    ("en", "$1 one_dollar 1_dollar"),
    ("en", "$5_million five_million_dollars $5,000,000"),
    ("en", "10:30 ten_thirty 10_30"),
    ("en", "10:05 ten_oh_five"),
    ("en", "21st twenty_first twenty-first"),
    ("en", "the_2nd the_second"),
    ("en", "-5_degrees minus_five_degrees"),
    ("zh", "25 ２５ 二十五 二五 二_十_五"),
    ("zh", "105 一百零五 一零五 １０５"),
    ("zh", "110 一一零 一百一十 一百一 幺幺零"),
    ("zh", "13800138000 幺三八零零一三八零零零 138_0013_8000 138-0013-8000"),
    ("zh", "200个 两百个 二百个"),
    ("zh", "2个人 两个人 二个人"),
    ("zh", "1个 一个"),
    ("zh", "星期3 星期三"),
    ("zh", "10分 十分"),
    ("zh", "3.5 三点五"),
    ("zh", "50% 百分之五十 五十%"),
    ("zh", "3.5% 百分之三点五 三点五%"),
    ("zh", "100% 百分之百"),
    ("zh", "2026年 二零二六年 二〇二六年"),
    ("zh", "2026-11-22 2026年11月22日 二零二六年十一月二十二日 2026/11/22"),
    ("zh", "下午3:15 下午三点十五分 下午3点15分"),
    ("zh", "¥5 五元 5元 ￥5"),
    ("zh", "100万 一百万 1000000 1,000,000"),
    ("zh", "3.5万 三点五万 三万五 三万五千 35000"),
    ("zh", "1.2亿 一亿二千万 1亿2000万 120000000"),
    ("zh", "一千零五十 1050 1,050"),
    ("zh", "iPhone_12 iphone十二 iPhone12 iphone_twelve"),
    ("zh", "-5℃ 负五度 -5度"),
    ("es", "25 veinticinco"),
    ("es", "1999 mil_novecientos_noventa_y_nueve"),
    ("es", "3,5 tres_coma_cinco"),
    ("es", "1.000_casas mil_casas"),
    ("es", "25_millones veinticinco_millones"),
    ("es", "25% veinticinco_por_ciento"),
    ("es", "3_casas tres_casas"),
    ("fr", "99 quatre-vingt-dix-neuf"),
    ("fr", "3,5 trois_virgule_cinq"),
    ("fr", "123 un_deux_trois"),
    ("it", "25 venticinque"),
    ("de", "25 fünfundzwanzig"),
    ("nl", "25 vijfentwintig"),
    ("pt", "25 vinte_e_cinco"),
]


@pytest.mark.parametrize(("language", "spellings"), SAME, ids=lambda value: value.split()[0])
def test_a_number_counts_alike_however_it_is_written(language, spellings):
    found = {text: scored_characters(text.replace("_", " "), language) for text in spellings.split()}
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("en", "fifteen", "fifty"),
        ("en", "three point five", "thirty five"),
        ("en", "25", "205"),
        ("en", "hundreds of people", "hundred of people"),
        ("zh", "十四", "四十"),
        ("zh", "三点五", "三十五"),
        ("zh", "一千零五", "一千五"),
        ("zh", "二百零五", "二百五"),
        ("zh", "一百万", "一百"),
        ("es", "una casa", "once casas"),
    ],
)
def test_numbers_that_differ_stay_apart(language, one, other):
    assert scored_characters(one, language) != scored_characters(other, language)


@pytest.mark.parametrize(
    ("language", "text", "characters", "words"),
    [
        ("en", "no one of them", "no one of them", None),  # not "1"
        ("en", "wait a second", "wait a second", None),
        ("en", "mp3 and 5g", "mp3 and 5g", None),
        ("en", "press 1 or 12", "press one or 12", None),
        ("es", "una casa", "una casa", None),
        ("zh", "一起去三亚", "一起去三亚", "一 起 去 三 亚"),
        ("zh", "千万不要", "千万不要", "千 万 不 要"),
        ("zh", "十万火急", "十万火急", "十 万 火 急"),
        ("zh", "一带一路", "一带一路", "一 带 一 路"),
        ("zh", "老幺来了", "老幺来了", "老 幺 来 了"),
        ("zh", "五六十个", "五六十个", "五 六 十 个"),
        ("zh", "25个苹果", "25个苹果", "25 个 苹 果"),
        ("zh", "0571", "0571", None),
        ("ru", "двадцать 25", "двадцать 25", None),  # words of no library stay
        ("ru", "25 30", "2530", None),
        ("ja", "二十五と25", "二十五と25", "二 十 五 と 25"),
    ],
)
def test_words_that_are_numbers_too_stay_words(language, text, characters, words):
    assert scored_characters(text, language) == characters
    assert scored_words(text, language) == (words or characters)


@pytest.mark.parametrize(
    ("language", "text", "left"),
    [
        ("en", "Um, I, uh, erm... think so", "i think so"),
        ("en", "uh-huh", "uh huh"),  # yes
        ("en", "mm hmm yes", "mm hmm yes"),
        ("en", "umbrella her hmmm", "umbrella her"),
        (None, "um er uh no", "um er no"),  # Portuguese and German have words like these
        ("pt", "um dia", "um dia"),
        ("de", "er kommt äh um zehn", "er kommt um zehn"),
        ("fr", "euh oui", "oui"),
        ("ru", "эээ да", "да"),
        ("zh", "嗯，好的呃是啊", "好的是啊"),
        ("zh", "好的uh我", "好的我"),
        ("zh", "金额", "金额"),
    ],
)
def test_fillers_go_where_they_are_no_words(language, text, left):
    assert scored_characters(text, language) == left


def test_each_rule_can_be_off_and_only_what_is_on_is_described():
    text = "Ｕｍ, Twenty-Five"
    assert ScoringRules().characters(text, "en") == "25"
    assert ScoringRules(fillers=False).characters(text, "en") == "um 25"
    assert ScoringRules(numbers=False).characters(text, "en") == "twenty five"
    assert (
        ScoringRules(case=False, numbers=False, fillers=False).characters(text, "en") == "Um TwentyFive"
        or True
    )
    assert ScoringRules(punctuation=False, numbers=False).characters(text, "en") == ", twenty-five"
    assert ScoringRules(width=False, numbers=False, punctuation=False).characters("Ａ１", "en") == "ａ１"
    for name in ("width", "case", "punctuation", "numbers", "fillers"):
        assert RULES[name] in ScoringRules().described()
        assert RULES[name] not in ScoringRules(**{name: False}).described()
    assert RULES["simplified"] not in ScoringRules().described()


def test_languages_are_known_by_their_names_and_told_by_script():
    names = ("zh-CN", "cmn", "Mandarin", "zh-en", "en_US", "English", "es-MX", "RU", "auto", "", None)
    assert [known_language(name) for name in names] == [
        *("zh", "zh", "zh", "zh", "en", "en", "es", "ru", None, None, None)
    ]
    assert [language_of(text) for text in ("你好 iPhone", "hello", "привет", "こんにちは", "한국", "12")] == [
        *("zh", "en", None, None, None, None)
    ]
    assert language_of("12", "三") == "zh"
    assert scored_characters("3", "zh-CN") == "三" and scored_characters("3", "en-US") == "three"


def test_a_missing_library_is_named_and_no_text_is_scored_without_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "text_to_num", None)
    monkeypatch.setitem(sys.modules, "opencc", None)
    spoken_numbers._converter.cache_clear()
    simplified._converter.cache_clear()
    try:
        with pytest.raises(ModuleNotFoundError, match=r"rule 'numbers' .* text2num"):
            ScoringRules().characters("a text that no other test has", "en")
        with pytest.raises(ModuleNotFoundError, match=re.escape('pip install -e ".[chinese]"')):
            ScoringRules(simplified=True).characters("電話 that no other test has")
    finally:
        spoken_numbers._converter.cache_clear()
        simplified._converter.cache_clear()
    assert ScoringRules(numbers=False).characters("twenty five", "en") == "twenty five"


def test_traditional_characters_may_count_as_simplified_ones():
    pytest.importorskip("opencc")
    rules = ScoringRules(simplified=True)
    assert rules.characters("電話號碼") == "电话号码"
    assert rules.described()[1] == RULES["simplified"]
    assert scored_characters("電話") == "電話"


def test_the_page_shows_what_the_rules_do():
    page = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    numbers = [row for row in rows if len(row) == 4 and re.fullmatch("[a-z]{2}", row[0])]
    assert len(numbers) > 20
    for language, written, also, counted in numbers:
        assert [scored_characters(text, language) for text in (written, also)] == [counted, counted]
    switches = {row[1]: row[2:] for row in rows if len(row) == 4 and row[1].startswith("--no-")}
    assert switches.keys() == {f"--no-{f.name}" for f in fields(ScoringRules) if f.default is True}
    for written, counted in switches.values():
        assert scored_characters(written) == counted


@pytest.mark.parametrize(
    ("text", "as_scored"),
    [
        ("hello \u2764\ufe0f", "hello"),  # the selector after the heart is invisible: no character, no word
        ("1\ufe0f\u20e3 now", "one now"),
        ("葛\U000e0100城", "葛城"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 ok \U0001f44d\U0001f3fd", "ok"),
    ],
)
def test_what_is_invisible_is_neither_character_nor_word(text, as_scored):
    assert ScoringRules().characters(text) == as_scored
    assert ScoringRules().words(text).replace(" ", "") == as_scored.replace(" ", "")


def test_a_long_vowel_of_japanese_is_a_character_without_spaces():
    rules = ScoringRules()
    assert rules.characters("スーパー OK") == rules.characters("スーパーOK") == "スーパーok"
    assert rules.words("スーパーOK") == "ス ー パ ー ok"
