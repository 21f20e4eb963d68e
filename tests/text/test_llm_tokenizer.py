"""The language model's tokenizer, from tokenizer.json and from the older files."""

import json
import pickle

import pytest

from nest_ssl.text.llm_tokenizer import LlmTokenizer
from tests.data_room.small_tokenizer import SPECIAL, write_tokenizer

pytest.importorskip("tokenizers")
TEXTS = ("", "你好", "hello 你好 2025", "  two  spaces\nline", "it's <|im_end|>", "e\u0301", "𠮷")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> LlmTokenizer:
    return LlmTokenizer(write_tokenizer(tmp_path_factory.mktemp("whole")))


def test_byte_pairs_are_merged_as_written(tokenizer):
    # 你 (3 bytes) and 好: its first 2 bytes, then 3 bytes in one... by the merges: ä½ł, å¥½; hell, o
    assert [tokenizer.count(text) for text in ("你", "好", "你好", "hello", "x", "")] == [1, 1, 2, 2, 1, 0]
    assert tokenizer.vocab_size == 256 + 7 + 3


def test_special_tokens_are_one_token_each(tokenizer):
    assert tokenizer.special == tuple(sorted(SPECIAL))
    assert tokenizer.count("你<|im_end|>") == 2
    assert tokenizer.special_in("a <|im_start|> b") == "<|im_start|>"
    assert tokenizer.special_in("a <b> c") is None


def test_decoding_gives_the_text_back(tokenizer):
    for text in ("你好 hello", "<|im_end|>"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_older_files_give_the_same_tokens(tokenizer, tmp_path):
    older = LlmTokenizer(write_tokenizer(tmp_path / "parts", parts=True))
    assert [older.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert older.counts(TEXTS) == [older.count(text) for text in TEXTS]


def test_it_reads_as_transformers_does(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    peer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer.folder / "tokenizer.json"))
    assert [tokenizer.encode(text) for text in TEXTS] == [peer.encode(text) for text in TEXTS]


def test_it_can_be_pickled(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).count("你好") == 2


def test_faults_name_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder; give the folder of"):
        LlmTokenizer(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer.json nor .*; it has config.json"):
        LlmTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json: not a tokenizer"):
        LlmTokenizer(tmp_path)


def test_older_files_of_another_class_are_refused(tmp_path):
    folder = write_tokenizer(tmp_path / "other", parts=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "GPT2Tokenizer"}))
    with pytest.raises(ValueError, match=r"tokenizer_class is 'GPT2Tokenizer'.*save_pretrained"):
        LlmTokenizer(folder)


def test_added_tokens_must_have_their_ids(tmp_path):
    folder = write_tokenizer(tmp_path / "shifted", parts=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    added = {str(int(number) + 5): token for number, token in config["added_tokens_decoder"].items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"added_tokens_decoder": added}))
    with pytest.raises(ValueError, match="has the id 268"):
        LlmTokenizer(folder)
