"""What does not belong into a transcript: text in a wrong encoding, and markup that was left in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

# Bytes that are no letters of any language in cp1252, but continue a character in UTF-8.
_TYPOGRAPHIC = frozenset("…‘’“”«»–—•™°ªº·¡¿§´¨")
_CP1252 = {bytes([b]).decode("cp1252"): b for b in range(256) if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_BYTES = _CP1252 | {chr(b): b for b in range(256) if chr(b) not in _CP1252}
_NON_ASCII_BYTE = "".join(c for c in _BYTES if not c.isascii())
_RUN = re.compile(f"[{re.escape(_NON_ASCII_BYTE)}]+")
_UTF8 = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}",
)
# What editors and libraries leave of undecodable or uninitialised bytes, read as GBK.
_GBK_RUINS = ("锟斤", "斤拷", "烫烫烫", "屯屯屯", "锘匡")
# Characters without width that a copied text carries; not the joiners of Persian and Indic scripts.
_INVISIBLE = frozenset("\u00ad\u180e\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\ufeff")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_QUESTION_MARKS = re.compile(r"\?{3,}")

_SPOKEN = frozenset("+=×÷±%‰")

_TAG_END = r"[^<>\[\]{}]"
MARKUP = {
    "html_entity": re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});"),
    "url": re.compile(r"(?i)(?<![a-z0-9])(?:(?:https?|ftp|file)://\S+|www\.[a-z0-9-]+\.[a-z0-9])"),
    "timestamp": re.compile(
        r"-->|(?<!\d)(?:\d{1,2}:[0-5]\d:[0-5]\d(?:[.,]\d{1,3})?|\d{1,3}:[0-5]\d[.,]\d{1,3})(?!\d)"
        r"|[\[(<{]\s*\d+(?:\.\d+)?\s*(?:[-,~]\s*\d+(?:\.\d+)?)?\s*s?\s*[\])>}]"
    ),
    "tag": re.compile(r"<[^\s<>=][^<>]{0,200}>|<[/!]?[A-Za-z][^<>]*$|</[A-Za-z]|/>|＜[^＜＞]{1,64}＞"),
    "bracket": re.compile(
        rf"\[{_TAG_END}{{0,200}}\]|\[\[|\]\]|【[^【】]{{0,64}}】|〔[^〔〕]{{0,64}}〕|［[^［］]{{0,64}}］"
    ),
    "brace": re.compile(r"\{[^{}]{0,200}\}|\{\{|\}\}"),
    "event": re.compile(
        r"(?i)\(\(|\)\)|[(（*]\s*(?:laugh(?:s|ter|ing)?|cough(?:s|ing)?|breath(?:es|ing)?|noise|music|silence|sigh"
        r"|beep|applause|inaudible|unintelligible|crosstalk|unk|spn|nsn|sil|overlap|笑声?|大?笑|咳嗽|咳|噪音|噪声"
        r"|杂音|音乐|静音|停顿|听不清|不清|掌声|呼吸声?|哭声?|铃声|叹气|重叠|口水音)\s*[)）*]"
    ),
    "corpus_marker": re.compile(
        # LDC %uh; AISHELL-3 and prosody marks after a character; masked words; noise words of Kaldi lexica
        r"(?<![A-Za-z0-9%])%[a-z]{2,}|(?<=[\u4e00-\u9fff])[%$](?=[\u4e00-\u9fff]|\s|$)|(?<=[\u4e00-\u9fff])#[0-4](?!\d)"
        r"|\*{2,}|(?<![A-Za-z])(?:SPN|NSN|SIL|UNK|OOV|FIL)(?![A-Za-z])|!SIL|^(?:sil|spn|nsn|unk)$"
    ),
    "speaker_label": re.compile(
        r"(?i)^\s*(?:客服|坐席|座席|客户|用户|机器人|主叫|被叫|(?:说话人|发言人)\s*[\dA-Z一二三四]{0,2}"
        r"|speaker\s*[\dA-Z]{0,2}|spk\s*\d{1,3}|agent|customer|caller|[AB])\s*[:：]"
    ),
    "escape": re.compile(r"\\|(?:%[0-9A-Fa-f]{2}){2,}"),
}

_SILENCE = (
    "sil silence silent nsn spn noise noises nonspeech non-speech no-speech no_speech nospeech "
    "静音 无声 沉默 噪音 噪声 杂音 无语音 非语音 空白 无人声 背景音 背景噪音"
)
SILENCE_WORDS = frozenset(_SILENCE.split())
_EDGES = " \t\r\n<>[](){}|/*#_-.,!?。，！？【】（）〔〕［］＜＞"


def bad_encoding(text: str, allow: Collection[str] = ()) -> str | None:
    """Give what shows that a text was decoded wrongly or damaged, in words; None for a sound text.

    Found are U+FFFD, control characters, lone surrogates, private use and unassigned characters, invisible
    ones, UTF-8 that was read as Latin-1, cp1252 or GBK, GBK that was read as Latin-1, and what is left where
    characters became question marks.  `allow`: single characters that are let through.
    """
    if text.isascii():
        controls = (c for c in _CONTROL.findall(text) if c not in allow)
        return next((f"control character U+{ord(c):04X}" for c in controls), None) or _question_marks(text)
    for character in text:
        if character.isascii() and character >= " " and character != "\x7f":
            continue
        fault = _bad_character(character)
        if fault and character not in allow:
            return _read_as_latin(text) or f"{fault} U+{ord(character):04X}"
    for ruin in _GBK_RUINS:
        if ruin in text:
            return f"{ruin!r}: undecodable bytes read as GBK"
    return _read_as_latin(text) or _read_as_gbk(text) or _question_marks(text)


def nothing_to_say(text: str) -> bool:
    """True for a text of punctuation, symbols and blanks alone, none of which is read out as + or ¥ is."""
    if text.isascii() and any(map(str.isalnum, text)):
        return False
    return not any(
        c.isalnum() or c in _SPOKEN or unicodedata.category(c) == "Sc"
        for c in unicodedata.normalize("NFKC", text)  # ℃ is °C, ㎡ is m2
    )


def markup_left(
    text: str, ignore: Collection[str] = (), allow: Collection[str] = ()
) -> tuple[str, str] | None:
    """Give (kind, what was found) of the first markup in a text; None without any.

    `ignore`: kinds of MARKUP that are not looked for; `allow`: strings that are no markup, such as "<unk>".
    """
    for kept in allow:
        text = text.replace(kept, " ")
    found = [
        (match.start(), kind, match.group())
        for kind, pattern in MARKUP.items()
        if kind not in ignore and (match := pattern.search(text))
    ]
    if not found:
        return None
    _, kind, shown = min(found, key=lambda item: item[0])
    return kind, shown if len(shown) <= 40 else shown[:37] + "..."


def silence_word(text: str, words: Collection[str] = SILENCE_WORDS) -> str | None:
    """Give the word for silence or noise that is all of a text, whatever brackets it stands in; else None."""
    bare = text.strip(_EDGES).lower()
    return bare if bare in words else None


def _bad_character(character: str) -> str | None:
    if character == "\ufffd":
        return "replacement character"
    if character in _INVISIBLE:
        return "invisible character"
    category = unicodedata.category(character)
    if category == "Cc":
        return None if character in "\t\r\n" else "control character"
    return {"Cs": "lone surrogate", "Co": "private use character", "Cn": "unassigned character"}.get(category)


def _read_as_latin(text: str) -> str | None:
    """Find UTF-8, or GBK, whose bytes became the characters of Latin-1 or cp1252."""
    for match in _RUN.finditer(text):
        run = match.group()
        if len(run) < 2:
            continue
        data = bytes(_BYTES[c] for c in run)
        sequences = _UTF8.findall(data)
        covered = sum(map(len, sequences))
        if sequences and covered >= 0.8 * len(data) and _is_no_typography(run, sequences):
            meant = b"".join(sequences).decode("utf-8", "ignore")
            return f"{run[:20]!r}: UTF-8 read as Latin-1, perhaps {meant[:10]!r}"
        if len(data) >= 4 and _is_common_gbk(data):
            return f"{run[:20]!r}: GBK read as Latin-1, perhaps {data.decode('gbk', 'ignore')[:10]!r}"
    return None


def _is_no_typography(run: str, sequences: list[bytes]) -> bool:
    """False for a single accented letter before a quotation mark or an ellipsis, as at the end of CAFÉ…"""
    if len(sequences) > 1 or sequences[0][0] in (0xC2, 0xC3):
        return True
    return not all(c in _TYPOGRAPHIC for c in run[1:])


def _read_as_gbk(text: str) -> str | None:
    """Find UTF-8 that was read as GBK: its bytes are UTF-8 again, of characters that are more common."""
    chinese = "".join(c for c in text if not c.isascii())
    if len(chinese) < 3:
        return None
    data = chinese.encode("gb18030", "replace")
    sequences = [s.decode("utf-8") for s in re.findall(rb"[\xe3-\xe9\xef][\x80-\xbf]{2}", data)]
    if len(sequences) < 2 or 3 * len(sequences) < 0.7 * len(data):
        return None
    meant = "".join(sequences)
    before = sum(map(_is_common, chinese)) / len(chinese)
    after = sum(map(_is_common, meant)) / len(meant)
    return f"{chinese[:20]!r}: UTF-8 read as GBK, perhaps {meant[:10]!r}" if after > before else None


def _is_common(character: str) -> bool:
    """True for the 3755 most used characters, level 1 of GB 2312, and for Chinese punctuation."""
    if character in "，。？！、；：“”":
        return True
    try:
        return _is_common_gbk(character.encode("gb2312"))
    except UnicodeEncodeError:
        return False


def _is_common_gbk(data: bytes) -> bool:
    """True for bytes that are pairs of level 1 of GB 2312."""
    pairs = zip(data[::2], data[1::2], strict=False)
    return len(data) % 2 == 0 and all(0xB0 <= lead <= 0xD7 and trail >= 0xA1 for lead, trail in pairs)


def _question_marks(text: str) -> str | None:
    marks = sum(len(run) for run in _QUESTION_MARKS.findall(text))
    letters = sum(map(str.isalnum, text))
    return f"{marks} question marks in place of characters" if marks > letters else None
