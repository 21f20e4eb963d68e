"""The working files of stage 0: rows that are still in, and rows that were dropped with all their reasons."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import row_identity

Row = dict[str, Any]


class Sorter:
    """Writes each row to the kept or to the dropped file of a step, and counts."""

    def __init__(self, step: str, kept: TextIO, dropped: TextIO) -> None:
        self._step, self._kept, self._dropped = step, kept, dropped
        self.num_kept = 0
        self.num_dropped = 0

    def keep(self, row: Mapping[str, Any]) -> None:
        """Pass a row on to the next step."""
        self._kept.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.num_kept += 1

    def drop(self, row: Mapping[str, Any], reasons: Sequence[str], details: Sequence[str] = ()) -> None:
        """Leave a row out.  The first reason is the one that it is counted under."""
        self._dropped.write(
            json.dumps(
                {
                    "id": row_identity(row),
                    "step": self._step,
                    "reason": reasons[0],
                    "reasons": list(reasons),
                    **({"details": list(details)} if details else {}),
                    "place": row.get("place"),
                    "text": row.get("text"),
                    "duration": row.get("duration"),
                    "audio_filepath": row.get("audio_filepath"),
                    **{
                        name: row[name]
                        for name in ("offset", "channel_selector")
                        if row.get(name) is not None
                    },
                },
                ensure_ascii=False,
            )
            + "\n"
        )
        self.num_dropped += 1


@contextmanager
def sorter(step: str, kept: Path, dropped: Path) -> Iterator[Sorter]:
    """Give a Sorter; both files are there in the end, or neither after an exception."""
    with ExitStack() as stack:
        kept_file, dropped_file = (
            stack.enter_context(
                open(stack.enter_context(replaced(path)), "w", encoding="utf-8", newline="\n")
            )
            for path in (kept, dropped)
        )
        yield Sorter(step, kept_file, dropped_file)


@contextmanager
def appended(path: Path) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], None]]:
    """Give a function that adds rows to a file; a last line that a kill left unfinished is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        if end and file.read(1) != b"\n":
            file.seek(0)
            whole = 0
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
            file.truncate(whole)

        def add(rows: Iterable[Mapping[str, Any]]) -> None:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            file.flush()

        yield add


def rows_in(path: Path) -> Iterator[Row]:
    """Give the rows of a working file; one without rows is an empty file, which is no fault here."""
    for _, row in read_rows(path):
        yield row


def count_rows(path: Path) -> int:
    """Count the lines of a JSON-lines file that are not blank."""
    with open(path, "rb") as file:
        return sum(1 for line in file if line.strip())
