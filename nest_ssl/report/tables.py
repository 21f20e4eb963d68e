"""Markdown tables that a terminal shows as tables, too."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

WIDEST = 40  # columns up to which cells are filled with blanks; longer ones stand as they are


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Give the lines of a Markdown table with its columns lined up; `right`: columns of figures, from 0."""
    cells = [[_escaped(cell) for cell in row] for row in (heads, *rows)]
    widths = [min(WIDEST, max(width(row[column]) for row in cells)) for column in range(len(heads))]
    rule = ["-" * (each - 1) + ":" if column in right else "-" * each for column, each in enumerate(widths)]
    lines = [_line(cells[0], widths, right), "| " + " | ".join(rule) + " |"]
    return lines + [_line(row, widths, right) for row in cells[1:]]


def width(text: str) -> int:
    """Give how many columns a terminal takes for `text`: two for Chinese and full-width characters."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    filled = []
    for column, (cell, wanted) in enumerate(zip(row, widths, strict=True)):
        blanks = " " * max(0, wanted - width(cell))
        filled.append(blanks + cell if column in right else cell + blanks)
    return "| " + " | ".join(filled) + " |"


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())
