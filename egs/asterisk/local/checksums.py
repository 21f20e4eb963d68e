"""The committed table of what every sound file must contain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

TABLE = Path(__file__).resolve().parent / "checksums.tsv"
DIGITS = 20  # of the SHA-256: 80 bits tell damage and mix-ups

Checksums = dict[tuple[str, str, str], str]  # (language, format, key) -> first digits of the SHA-256


def digest(content: bytes) -> str:
    """Give the digits of a file's content that the table keeps."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def read_table(path: Path) -> Checksums:
    """Read a table: a header line of column names, then language, key and a digest (or -) per format."""
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    if not lines or lines[0][:2] != ["language", "key"]:
        raise ValueError(f"{path}: has no line of column names; git checkout brings the committed table back")
    formats = lines[0][2:]
    table = {}
    for line in lines[1:]:
        if len(line) != len(lines[0]):
            raise ValueError(f"{path}: {len(line)} columns instead of {len(lines[0])}: {' '.join(line)[:80]}")
        for audio_format, value in zip(formats, line[2:], strict=True):
            if value != "-":
                table[line[0], audio_format, line[1]] = value
    return table


def table_lines(table: Checksums, formats: Iterable[str], comment: str) -> list[str]:
    """Give the lines of a table as `read_table` reads them."""
    formats = list(formats)
    prompts = sorted({(language, key) for language, _, key in table})
    rows = [
        "\t".join(
            [language, key, *(table.get((language, audio_format, key), "-") for audio_format in formats)]
        )
        for language, key in prompts
    ]
    return [f"# {comment}", "\t".join(["language", "key", *formats]), *rows]


def check(table: Checksums, language: str, audio_format: str, key: str, content: bytes, where: str) -> None:
    """Raise ValueError naming the file if its content is not what the table says, or the table lacks it."""
    expected, seen = table.get((language, audio_format, key)), digest(content)
    if expected is None:
        raise ValueError(
            f"{where}: {key}.{audio_format} ({language}) is not in the table of checksums; is the archive of "
            f"another version? local/make_checksums.py makes a table of that one"
        )
    if seen != expected:
        raise ValueError(
            f"{where}: {key}.{audio_format} ({language}) has the SHA-256 {seen}..., expected {expected}...; "
            f"the archive is damaged or of another version: remove it and fetch it again"
        )
