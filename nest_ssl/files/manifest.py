"""Manifests: one JSON object per line (NeMo's layout), read with the line named in every error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nest_ssl.files.atomic import replaced

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_rows(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give (line number, row) of a manifest one after another; lines count from 1, blank ones are skipped.

    A byte order mark, CRLF and a missing last newline are taken as they come.  Raises FileNotFoundError for a
    missing file and ValueError "path:line: ..." for a line that is no JSON object.
    """
    for line_number, line in read_lines(path):
        yield line_number, parse_row(line, path, line_number)


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """Give (line number, content) of lines that are not blank, for a caller that goes on after a bad one."""
    check_is_file(path)
    with open(path, "rb") as file:
        for line_number, line in enumerate(file, start=1):
            if line_number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if line.strip():
                yield line_number, line


def parse_row(line: bytes, path: str | os.PathLike, line_number: int) -> dict[str, Any]:
    """Give the JSON object of one line; `path` and `line_number` are for the message of the ValueError."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{line_number}: not UTF-8 text: {error.reason}") from error
    except json.JSONDecodeError as error:
        shown = line.decode("utf-8", "replace").strip()
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        raise ValueError(
            f"{path}:{line_number}: not a JSON object: {error.msg} at column {error.colno}; "
            f"each line of a manifest is one JSON object, this one is: {shown}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{path}:{line_number}: not a manifest row: nested too deeply") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}:{line_number}: a manifest row is a JSON object, not {type(row).__name__}")
    return row


def write_rows(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines in UTF-8, complete or not at all; gives how many there were."""
    count = 0
    with replaced(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def check_is_file(path: str | os.PathLike) -> None:
    """Raise FileNotFoundError unless `path` is a file."""
    if not Path(path).is_file():
        kind = "does not exist"
        if Path(path).is_dir():
            rows = sorted(str(found) for found in Path(path).glob("*.json*"))
            kind = f"is a folder; name the files in it: {' '.join(rows[:5]) or 'one row of JSON per line'}"
        raise FileNotFoundError(f"manifest {path} {kind}")
