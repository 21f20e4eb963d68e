from __future__ import annotations

import base64

import pytest

from nest_ssl.data.prompts import PromptSettings
from nest_ssl.text.byte_tokenizers import write_byte_ranks, write_byte_tokenizer
from nest_ssl.text.chat import DEFAULT_SYSTEM, source_pieces
from nest_ssl.text.llm_tokenizer import LlmTokenizer

pytest.importorskip("tokenizers")

WHOLE = ["system\n", "user\n", "assistant\n", DEFAULT_SYSTEM, "语音转写："]


def test_a_text_is_one_token_per_byte_and_comes_back(tmp_path):
    write_byte_tokenizer(tmp_path)
    tokenizer = LlmTokenizer(tmp_path)
    for text in ("the user is here", "naïve 语音!", " two  spaces ", "a\nb"):
        ids = tokenizer.encode(text)
        assert len(ids) == len(text.encode())
        assert max(ids) < 256
        assert tokenizer.decode(ids) == text


def test_number_0_is_an_exclamation_mark_as_in_qwen(tmp_path):
    write_byte_tokenizer(tmp_path)
    assert LlmTokenizer(tmp_path).decode([0]) == "!"


def test_the_fixed_parts_of_a_prompt_are_one_token_each(tmp_path):
    size = write_byte_tokenizer(tmp_path, WHOLE)
    tokenizer = LlmTokenizer(tmp_path)
    before, after = source_pieces(DEFAULT_SYSTEM, PromptSettings().user("a.wav"))
    assert size == tokenizer.vocab_size == 256 + 5 + len(WHOLE)
    assert [len(tokenizer.encode(piece)) for piece in (before, after)] == [8, 4]
    assert tokenizer.decode(tokenizer.encode(before)) == before


def test_transformers_ends_a_sentence_with_the_turn(tmp_path):
    transformers = pytest.importorskip("transformers")
    write_byte_tokenizer(tmp_path, WHOLE)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert tokenizer.eos_token == "<|im_end|>"
    ids = tokenizer.encode("hello user<|im_end|>")
    assert ids == LlmTokenizer(tmp_path).encode("hello user<|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hello user"


@pytest.mark.parametrize("piece", ["", "a", "<|im_end|>", "<think>"])
def test_pieces_that_are_tokens_already_are_refused(tmp_path, piece):
    with pytest.raises(ValueError, match="piece"):
        write_byte_tokenizer(tmp_path, [piece])
    with pytest.raises(ValueError, match="different"):
        write_byte_tokenizer(tmp_path, ["user\n", "user\n"])


def test_the_ranks_are_the_bytes_in_order(tmp_path):
    assert write_byte_ranks(tmp_path / "ranks") == 256
    lines = (tmp_path / "ranks").read_text().splitlines()
    assert [base64.b64decode(line.split()[0]) for line in lines] == [bytes([i]) for i in range(256)]
    assert [int(line.split()[1]) for line in lines] == list(range(256))
