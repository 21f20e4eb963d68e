"""Text files of other tools: lines of UTF-8, and tables of a key and a value per line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from nest_ssl.data.sources.record import Unusable
from nest_ssl.files.manifest import read_lines

BLANKS = re.compile(r"[ \t]+")  # not str.split(): a transcript may hold an ideographic space


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give (line number from 1, text) of the lines that are not blank, without the line's end.

    A byte order mark and CRLF are taken away.  Raises FileNotFoundError, and ValueError for a line that is no
    UTF-8.
    """
    for number, line in read_lines(path):
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError(f"{path}:1: UTF-16 text; convert it: iconv -f utf-16 -t utf-8 {path.name}")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}:{number}: not UTF-8 text (byte 0x{line[error.start]:02x}); "
                f"convert the file, for example: iconv -f latin1 -t utf-8 (gb18030 for Chinese)"
            ) from error
        yield number, text.rstrip("\r\n")


def key_and_value(line: str) -> tuple[str, str]:
    """Split a line at its first blanks; the value is empty if there is none."""
    words = BLANKS.split(line.strip(" \t"), maxsplit=1)
    return words[0], words[1] if len(words) > 1 else ""


def read_table(
    path: Path, unusable: list[Unusable], may_be_empty: bool = False
) -> dict[str, tuple[int, str]]:
    """Read "key value" lines; gives (line number, value) by key.

    Lines without a value (unless `may_be_empty`) and keys that come again go to `unusable`.
    """
    table: dict[str, tuple[int, str]] = {}
    for number, line in text_lines(path):
        key, value = key_and_value(line)
        place = f"{path}:{number}"
        if not value and not may_be_empty:
            unusable.append(Unusable(key, place, "bad line", f"{key!r} has no value in {path.name}"))
        elif key in table:
            detail = f"{key!r} stands on line {table[key][0]} already"
            unusable.append(Unusable(key, place, "double id", detail))
        else:
            table[key] = (number, value)
    return table
