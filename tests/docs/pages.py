"""The pages of docs/ as data: their fenced examples and their tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w+)[ ]?([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Example(NamedTuple):
    """A fenced block: its language, what follows the language, its text, and its first line in the page."""

    language: str
    kind: str
    text: str
    line: int


def page(name: str) -> str:
    """Give the text of docs/NAME."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def examples(text: str) -> list[Example]:
    """Give the fenced blocks of a page that have a language."""
    return [
        Example(found[1], found[2].strip(), found[3], text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]


def table_rows(text: str, heading: str) -> list[list[str]]:
    """Give the cells of each row below the first table head that begins with `heading`; \\| is no border."""
    rows = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(heading):
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    return rows
                rows.append(cells(row))
    return rows


def cells(row: str) -> list[str]:
    """Give the cells of a table row, with \\| as |."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


def code(cell: str) -> list[str]:
    """Give what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)
