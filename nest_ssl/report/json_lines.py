"""JSON lines of a program that may still be writing them, or that was killed while it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json_lines(path: Path, grows: bool = False) -> tuple[list[dict[str, Any]], list[int]]:
    """Give the rows of a file, and the numbers of the lines that are no JSON object; blank ones are neither.

    grows: a last line that is none is being written at the moment, or was torn by a kill, and is not told.
    Raises OSError if it cannot be read.
    """
    rows, torn = [], []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif not grows or number < len(lines):
            torn.append(number)
    return rows, torn
