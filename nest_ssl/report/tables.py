"""Markdown tables that a terminal shows as tables, too."""

from __future__ import annotations

from collections.abc import Sequence

from nest_ssl.text.alignment_file import display_width

WIDEST = 40  # columns up to which cells are filled with blanks; longer ones stand as they are


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Give the lines of a Markdown table with its columns lined up; `right`: columns of figures, from 0."""
    cells = [[_escaped(cell) for cell in row] for row in (heads, *rows)]
    widths = [min(WIDEST, max(display_width(row[column]) for row in cells)) for column in range(len(heads))]
    rule = ["-" * (each - 1) + ":" if column in right else "-" * each for column, each in enumerate(widths)]
    lines = [_line(cells[0], widths, right), "| " + " | ".join(rule) + " |"]
    return lines + [_line(row, widths, right) for row in cells[1:]]


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    filled = []
    for column, (cell, wanted) in enumerate(zip(row, widths, strict=True)):
        blanks = " " * max(0, wanted - display_width(cell))
        filled.append(blanks + cell if column in right else cell + blanks)
    return "| " + " | ".join(filled) + " |"


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())
