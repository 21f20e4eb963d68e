"""Lists of keywords from files: domains, encodings, and errors that name the line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nest_ssl.text.keyword_files import read_keyword_lists

RECIPES = Path(__file__).resolve().parents[2] / "egs"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def words(*sources: str | Path) -> dict[str, tuple[str, ...]]:
    return {name: keywords.words for name, keywords in read_keyword_lists(sources)}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_plain_list_is_one_domain(tmp_path, ends, mark):
    lines = ["# of the bank", "信用卡", "", "  Credit card  # the plastic", "C#", "\u3000电话"]
    path = written(tmp_path / "keywords.txt", mark + ends.join(lines))
    assert words(path) == {"all": ("信用卡", "credit card", "c", "电话")}


def test_headings_make_domains(tmp_path):
    path = written(tmp_path / "k.txt", "[billing] # money\n信用卡\ncard\n\n[ shop floor ]\norder\ncard\n")
    assert words(path) == {
        "all": ("信用卡", "card", "order"),
        "billing": ("信用卡", "card"),
        "shop floor": ("order", "card"),
    }


def test_several_files_are_domains_by_the_name_given_or_their_own(tmp_path):
    bank, shop = written(tmp_path / "bank.txt", "card"), written(tmp_path / "shop.txt", "order")
    assert words(bank, shop) == {"all": ("card", "order"), "bank": ("card",), "shop": ("order",)}
    assert words(f"money={bank}", str(shop)) == {
        "all": ("card", "order"),
        "money": ("card",),
        "shop": ("order",),
    }
    assert words(f"money={bank}") == {"money": ("card",)}
    odd = written(tmp_path / "a=b.txt", "pin")
    assert words(str(odd)) == {"all": ("pin",)}  # a file of that name is a file


def test_the_lists_of_the_recipes_can_be_read():
    found = sorted(RECIPES.glob("*/local/keywords*.txt"))
    assert found
    for path in found:
        assert read_keyword_lists([path]).all.words


def test_a_keyword_that_stands_twice_is_one_and_said_to_be(tmp_path, caplog):
    path = written(tmp_path / "k.txt", "Wi-Fi\nwi fi\n")
    with caplog.at_level(logging.INFO, logger="nest_ssl.text.keyword_files"):
        assert words(path) == {"all": ("wi fi",)}
    assert "k.txt:2" in caplog.text and "k.txt:1" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("信用卡\n...\n", r"k\.txt:2: '\.\.\.' is no keyword: nothing is left"),
        ("# nothing\n", r"k\.txt has no keyword; write one a line"),
        ("", "has no keyword"),
        ("[bank]\n# none\n[shop]\norder", r"k\.txt:1: no keyword stands under \[bank\]"),
        ("[bank]\ncard\n[shop]", r"k\.txt:3: no keyword stands under \[shop\]"),
        ("card\n[bank]\npin", r"k\.txt:1: 'card' stands before the first heading"),
        ("[bank]\ncard\n[bank]\npin", r"k\.txt:3: the domain 'bank' is also at .*k\.txt:1"),
        ("[All]\ncard", r"k\.txt:1: '\[All\]' is no heading"),
        ("[]\ncard", r"k\.txt:1: '\[\]' is no heading"),
        ("pin\n[card", r"k\.txt:2: '\[card' is no heading"),
        ("pin\n阿里巴巴\t20", r"k\.txt:2: .* has columns"),
        ("pin\n信\u200b用", r"k\.txt:2: .* invisible character U\+200B"),
        ("pin\n信用卡".encode("gb18030"), r"k\.txt:2: not UTF-8 text: .*iconv -f GB18030"),
        ("pin\n信用卡".encode("utf-16"), r"k\.txt:1: not UTF-8 text"),
        ("pin\ncard".encode("utf-16-le"), r"k\.txt:1: not UTF-8 text"),
    ],
)
def test_faults_are_named_with_file_and_line(tmp_path, content, message):
    path = written(tmp_path / "k.txt", content)
    with pytest.raises(ValueError, match=message):
        read_keyword_lists([path])


def test_faults_of_several_lists(tmp_path):
    path = written(tmp_path / "k.txt", "card")
    headed = written(tmp_path / "h.txt", "[bank]\ncard")
    with pytest.raises(ValueError, match=r"h\.txt:1: '\[bank\]': the file was named money"):
        read_keyword_lists([f"money={headed}"])
    with pytest.raises(ValueError, match="the domain 'k' is also at"):
        read_keyword_lists([path, path])
    with pytest.raises(ValueError, match="other than 'all'"):
        read_keyword_lists([f"All={path}"])
    with pytest.raises(FileNotFoundError, match="absent"):
        read_keyword_lists([tmp_path / "absent"])
    with pytest.raises(ValueError, match="no list"):
        read_keyword_lists([])
