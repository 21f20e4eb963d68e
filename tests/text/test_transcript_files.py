"""Texts by key as Kaldi, sclite and jiwer write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nest_ssl.text.transcript_files import read_texts


def written(path: Path, content: str) -> Path:
    path.write_bytes(content.encode("utf-8"))
    return path


def texts(path: Path, form="auto") -> dict[str, str]:
    return {row["key"]: row["text"] for _, row in read_texts(path, form)}


def test_kaldi_has_the_key_first_and_perhaps_no_words(tmp_path):
    path = written(tmp_path / "text", "\ufeffa1 one  two\r\n\na2\na3\tdrei {x}\n")
    assert texts(path) == {"a1": "one  two", "a2": "", "a3": "drei {x}"}
    assert [line for line, _ in read_texts(path)] == [1, 3, 4]


def test_trn_has_the_key_last_in_parentheses(tmp_path):
    path = written(tmp_path / "a.TRN", ";; said\none (two) three (bob-1)\n(bob_2)\n你好 (x)\n")
    rows = [row for _, row in read_texts(path)]
    assert rows == [
        {"key": "bob-1", "text": "one (two) three", "speaker": "bob"},
        {"key": "bob_2", "text": "", "speaker": "bob"},
        {"key": "x", "text": "你好"},
    ]
    with pytest.raises(ValueError, match=r"b\.trn:1: a line of a \.trn file ends with its key in parenth"):
        list(read_texts(written(tmp_path / "b.trn", "one two\n")))
    with pytest.raises(ValueError, match=r"c\.trn:1: .* has alternatives"):
        list(read_texts(written(tmp_path / "c.trn", "{ one / two } (a-1)\n")))


def test_lines_belong_together_by_their_number(tmp_path):
    path = written(tmp_path / "hyp.txt", "\ufeffone two\n\nthree\n")
    assert texts(path, "lines") == {"1": "one two", "2": "", "3": "three"}


def test_json_is_told_by_its_name_or_its_first_character(tmp_path):
    assert texts(written(tmp_path / "a.jsonl", '{"key": "a", "text": "x"}\n')) == {"a": "x"}
    assert texts(written(tmp_path / "rows", '\n {"key": "a", "text": "x"}\n')) == {"a": "x"}
    with pytest.raises(ValueError, match=r"b\.jsonl:1: not a JSON object"):
        list(read_texts(written(tmp_path / "b.jsonl", "a1 one\n")))
    assert texts(written(tmp_path / "empty.txt", "")) == {}


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "text").write_bytes(b"a1 one\na2 \xff\xfe\n")
    with pytest.raises(ValueError, match=r"text:2: not UTF-8 text"):
        list(read_texts(tmp_path / "text"))
    for form in ("auto", "lines"):
        with pytest.raises(FileNotFoundError):
            list(read_texts(tmp_path / "none", form))
