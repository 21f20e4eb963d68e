"""What does not belong into a transcript, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nest_ssl.text.scripts import TextLength, text_length
from nest_ssl.text.transcript_faults import MARKUP, bad_encoding, markup_left, silence_word

CHINESE = "你好，请问有什么可以帮您？"
SOUND = (
    *(
        CHINESE,
        "我想查询一下订单的物流信息。",
        "联通公司",
        "王垚垚和李犇犇",
        "魑魅魍魉",
        "温度是零下5°C",
        "½杯水",
    ),
    *(
        "CAFÉ…",
        "„MENÜ“",
        "«café»…",
        "naïve—so",
        "¿Qué pasó, señor?",
        "Ça va très bien",
        "Москва",
        "안녕하세요",
    ),
    *(
        "a < b and b > c",
        "AT&T 和 R&B",
        "现在是12:30",
        "价格是1.5元，打8折",
        "what??",
        "50%的人",
        "（二零一五年）",
    ),
    *(
        "we're #1",
        "请按*键或者#号键",
        "3.5-4.0 之间",
        "C++ 和 C#",
        "abc@163.com",
        "嗯~好的",
        "银行卡(尾号1234)",
    ),
    *("聯絡客戶服務", "東京タワーです", "می‌خواهم", "no\ttabs\n", "A股和B超", "1+1=2; 2>1"),
)
COMMON_HAN = [
    bytes([lead, trail]).decode("gb2312") for lead in range(0xB0, 0xD7) for trail in range(0xA1, 0xFF)
]


@pytest.mark.parametrize("text", SOUND)
def test_sound_text_has_no_fault(text):
    assert bad_encoding(text) is None
    assert markup_left(text) is None
    assert silence_word(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CHINESE.encode().decode("latin-1"), "UTF-8 read as Latin-1"),
        (f"ok {CHINESE[:2].encode().decode('cp1252')} ok", "UTF-8 read as Latin-1, perhaps '你好'"),
        ("é".encode().decode("cp1252"), "UTF-8 read as Latin-1, perhaps 'é'"),
        ("it’s".encode().decode("cp1252"), "UTF-8 read as Latin-1"),
        (CHINESE.encode().decode("gbk", "ignore"), "UTF-8 read as GBK"),
        (CHINESE.encode().decode("gbk", "replace"), "U+FFFD"),
        ("请稍等".encode("gbk").decode("latin-1"), "GBK read as Latin-1, perhaps '请稍等'"),
        ("锟斤拷锟斤拷", "read as GBK"),
        ("你\ufffd好", "replacement character U+FFFD"),
        ("\ud83d好", "lone surrogate U+D83D"),
        ("你\x00好", "control character U+0000"),
        ("bell\x07", "control character U+0007"),
        ("好\x85", "control character U+0085"),
        ("\ue5e5好", "private use character U+E5E5"),
        ("\U000f0000", "private use character"),
        ("你\u200b好", "invisible character U+200B"),
        ("\ufeff好", "invisible character U+FEFF"),
        ("\uffff好", "unassigned character"),
        ("????", "question marks"),
        ("?????? ok", "question marks"),
    ],
)
def test_bad_encodings_are_found(text, words):
    assert words in (bad_encoding(text) or "nothing")


def test_single_characters_can_be_allowed():
    assert bad_encoding("好\ue000", allow=["\ue000"]) is None
    assert bad_encoding("a\x0bb", allow=["\x0b"]) is None


@given(st.lists(st.sampled_from(COMMON_HAN), min_size=4, max_size=30).map("".join))
def test_chinese_is_sound_and_its_misreadings_are_not(text):
    assert bad_encoding(text) is None
    assert bad_encoding(text.encode().decode("latin-1"))
    assert bad_encoding(text.encode("gb2312").decode("latin-1"))


@given(st.text(max_size=40))
def test_any_text_is_judged_without_an_error(text):
    bad_encoding(text), markup_left(text), silence_word(text), text_length(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *(("<NOISE>", "tag"), ("你好<b>吗</b>", "tag"), ("<|zh|>你好", "tag"), ("<COMMA> 好", "tag")),
        *(
            ("<speak><break time='1s'/></speak>", "tag"),
            ("＜笑＞好", "tag"),
            ("好 <unk", "tag"),
            ("<sil>", "tag"),
        ),
        *(("你好[laughter]", "bracket"), ("[*]", "bracket"), ("嗯【笑】", "bracket"), ("[[ah]]", "bracket")),
        *(("{um}你好", "brace"), ("{{x}}", "brace")),
        *(("&nbsp;好", "html_entity"), ("&#20320;", "html_entity"), ("a &amp; b", "html_entity")),
        *(("https://a.b/c", "url"), ("上www.qq.com看", "url")),
        *(("00:00:05.120 你好", "timestamp"), ("a --> b", "timestamp"), ("[0.5-1.2]好", "timestamp")),
        *(("1:02.5 好", "timestamp"), ("<0.00>好", "timestamp")),
        *(("((  )) yes", "event"), ("(笑声)好", "event"), ("*cough* yes", "event"), ("（听不清）", "event")),
        *(
            ("%hesitation well", "corpus_marker"),
            ("你%好$啊", "corpus_marker"),
            ("你好#1，再见#4", "corpus_marker"),
        ),
        *(("*** 好", "corpus_marker"), ("SIL", "corpus_marker"), ("好 SPN 好", "corpus_marker")),
        *(("客服：您好", "speaker_label"), ("A: 你好", "speaker_label"), ("说话人1：好", "speaker_label")),
        *((r"你好\n再见", "escape"), (r"\u4f60", "escape"), ("%E4%BD%A0", "escape")),
    ],
)
def test_markup_is_found_with_its_kind(text, kind):
    found = markup_left(text)
    assert found is not None and found[0] == kind, found
    assert found[1] in text
    others = set(MARKUP) - {kind}
    assert markup_left(text, ignore=others) == found, "the other kinds are not needed"


def test_markup_can_be_allowed():
    assert markup_left("<unk>你好", allow=["<unk>"]) is None
    assert markup_left("<unk>你<b>好", allow=["<unk>"]) == ("tag", "<b>")
    assert markup_left("[笑]", ignore=["bracket"]) is None


def test_words_for_silence_are_told_whatever_their_brackets():
    found = [silence_word(text) for text in ("<SIL>", "[silence]", "静音。", "(noise)", "<|nospeech|>")]
    assert found == ["sil", "silence", "静音", "noise", "nospeech"]
    assert silence_word("hum", words=["hum"]) == "hum" and silence_word("sil", words=["hum"]) is None


@pytest.mark.parametrize(
    ("text", "length", "syllables", "script"),
    [
        ("你好，", TextLength(han=2), 2, "han"),
        ("good morning", TextLength(letters=11, words=2), 11 / 3, "latin"),
        ("M I S", TextLength(letters=3, words=3), 3, "latin"),
        ("it's", TextLength(letters=3, words=1), 1, "latin"),
        ("办VIP卡", TextLength(han=2, letters=3, words=1), 3, "han"),
        ("138", TextLength(digits=3), 3, "none"),
        ("１３Ａ", TextLength(digits=2, letters=1, words=1), 3, "latin"),
        ("カナと漢字", TextLength(han=2, kana=3), 5, "kana"),
        ("안녕", TextLength(hangul=2), 2, "hangul"),
        ("二〇一五年", TextLength(han=5), 5, "han"),
        ("𠮷野", TextLength(han=2), 2, "han"),
        ("Это да", TextLength(letters=5, words=2), 2, "latin"),
        ("…！?", TextLength(), 0, "none"),
    ],
)
def test_length_is_counted_by_script(text, length, syllables, script):
    found = text_length(text)
    assert found == length
    assert found.syllables == pytest.approx(syllables)
    assert found.script == script
