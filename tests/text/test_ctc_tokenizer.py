"""The units of the CTC branch: specials in SenseVoice's order, ranks read line by line."""

import base64
import pickle
import sys
from pathlib import Path

import pytest

from nest_ssl.text.ctc_tokenizer import LANGUAGES, SPECIALS, SenseVoiceTokenizer, read_ranks

MERGES = (b"th", b"the", b" the", "你".encode()[:2], "你".encode())


@pytest.fixture
def ranks(tmp_path) -> Path:
    """All bytes, then a few merges."""
    tokens = [bytes([value]) for value in range(256)] + list(MERGES)
    path = tmp_path / "multilingual.tiktoken"
    path.write_text("".join(f"{base64.b64encode(t).decode()} {rank}\n" for rank, t in enumerate(tokens)))
    return path


def test_the_specials_stand_behind_the_ranks_in_sensevoices_order(ranks):
    assert len(LANGUAGES) == 105
    assert len(SPECIALS) == len(set(SPECIALS)) == 1679
    pytest.importorskip("tiktoken")
    tokenizer = SenseVoiceTokenizer(ranks)
    assert tokenizer.vocab_size == tokenizer.get_vocab_size() == 261 + 1679
    at = tokenizer.special
    assert (at["<|endoftext|>"], at["<|startoftranscript|>"], at["<|en|>"], at["<|zh|>"]) == (
        261,
        262,
        263,
        264,
    )
    assert at["<|ASR|>"] == 263 + 105
    assert at["<|HAPPY|>"] - at["<|ASR|>"] == 11
    assert at["<|translate|>"] - at["<|HAPPY|>"] == 4
    assert at["<|SPECIAL_TOKEN_1|>"] - at["<|notimestamps|>"] == 1
    assert at["<|0.00|>"] - at["<|SPECIAL_TOKEN_1|>"] == 50
    assert at["<|30.00|>"] == tokenizer.vocab_size - 1


def test_texts_come_back_and_merges_are_used(ranks):
    pytest.importorskip("tiktoken")
    tokenizer = SenseVoiceTokenizer(ranks)
    assert tokenizer.encode("the the") == [257, 258]
    assert tokenizer.encode("你") == [260]
    for text in ("", "Number ten, please.", "你好，请问？ 12  x", "don't  <|zh|>\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert pickle.loads(pickle.dumps(tokenizer)).encode("the") == tokenizer.encode("the")


def test_special_tokens_in_a_text_are_plain_text(ranks):
    pytest.importorskip("tiktoken")
    tokenizer = SenseVoiceTokenizer(ranks)
    assert max(tokenizer.encode("<|nospeech|>")) < 261


def test_times_and_the_blank_are_left_away_when_decoding(ranks):
    pytest.importorskip("tiktoken")
    tokenizer = SenseVoiceTokenizer(ranks)
    ids = [tokenizer.special["<|0.02|>"], 257, tokenizer.vocab_size, tokenizer.special["<|en|>"]]
    assert tokenizer.decode(ids) == "the<|en|>"
    assert tokenizer.decode([259]) == "\ufffd"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("AA== 0\nAQ== 2\n", ":2: rank 2 where 1 is due"),
        ("AA== 0\nAA== 1\n", ":2: rank 1"),
        ("AA== 0\nA 1\n", ":2: .*is not base64 and a rank"),
        ("version https://git-lfs.github.com/spec/v1\n", ":1: .*Git LFS"),
        ("\n", "has no line"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "r.tiktoken"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_ranks(path)


def test_what_is_missing_is_named(ranks, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"multilingual\.tiktoken"):
        SenseVoiceTokenizer(tmp_path / "none")
    with pytest.raises(ValueError, match="num_languages: 99"):
        SenseVoiceTokenizer(ranks, num_languages=99)
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(ModuleNotFoundError, match=r"nest_ssl\[llm\]"):
        SenseVoiceTokenizer(ranks).encode("a")
