"""What is done of a corpus: one JSON line per output, so that a kill or a full disk costs little.

A line begins with "row" and "copy" and, unless it is an error, ends with "manifest": the rows of the final
manifest.  So readers of millions of lines parse only those that they want.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.system import lock_or_fail

SECONDS_PER_SYNC = 5.0
OFFSET_BITS = 44  # of a place: the file's number above them, the line's offset in them
HEAD = re.compile(rb'\{"row": (\d+), "copy": (\d+), ')
SIZES = re.compile(rb'"bytes": \[([\d, ]+)\]')
MANIFEST = b', "manifest": ['  # no string holds it: within one its quotes would be escaped
ERROR = b', "error": "'


class OutOfSpace(OSError):
    """The output could not be written; what is done is recorded and will not be done again."""


def out_of_space(error: OSError, path: Path | str) -> OutOfSpace:
    """Give the error to raise where the disk refused to write `path`."""
    way_out = "what is done is recorded; free some space and give the same command again to go on"
    return OutOfSpace(error.errno, f"{error.strerror}; {way_out}", str(path))


def encode(record: Mapping[str, Any]) -> bytes:
    """Give the line of a record."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


class RecordFile:
    """Records appended to one file by one process; a last line that a kill left unfinished is cut off first.

    Raises ValueError if another process has it open.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = open(path, "a+b")  # noqa: SIM115  closed by __exit__
        try:
            lock_or_fail(self._file)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK):
                self._file.close()
                raise ValueError(
                    f"{path} is being written by another process: the same command runs already; wait for it "
                    f"or stop it, or take another --out"
                ) from error
            # some network file systems lock nothing
        self._synced = 0.0
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, end - 1))
        if end and self._file.read(1) != b"\n":
            self._file.seek(0)
            self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def append(self, lines: Iterable[bytes], now: float) -> None:
        """Add whole lines; raises OutOfSpace if the disk refuses them.

        now: seconds of any steady clock; the disk is waited for every few of them.
        """
        try:
            self._file.write(b"".join(lines))
            self._file.flush()
            if now - self._synced > SECONDS_PER_SYNC:
                os.fsync(self._file.fileno())
                self._synced = now
        except OSError as error:
            raise out_of_space(error, self._path) from error

    def close(self) -> None:
        """Close the file, also in a forked process, which would keep the lock."""
        with contextlib.suppress(OSError):  # of a full disk, which `append` has named already
            self._file.close()

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def record_files(folder: Path) -> list[Path]:
    """Give the files of records in a folder, whatever number of shards they were written under."""
    return sorted(folder.glob("*-of-*.jsonl"))


def scan_lines(files: list[Path]) -> Iterator[tuple[int, int, int, bytes]]:
    """Give (place, row, copy, line) of every whole line of `files`; `read_line` finds a place again."""
    for number, path in enumerate(files):
        offset = 0
        with open(path, "rb", buffering=1 << 20) as file:
            for line in file:
                head = HEAD.match(line)
                if head and line.endswith(b"\n"):  # else a shard is writing it now, or was killed in it
                    yield number << OFFSET_BITS | offset, int(head[1]), int(head[2]), line
                offset += len(line)


def is_error(line: bytes) -> bool:
    """True for the record of an utterance that failed."""
    return MANIFEST not in line and ERROR in line


def read_lines(files: list[Path], places: np.ndarray) -> Iterator[bytes]:
    """Give the lines at `places`, (N,) int64."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(open(path, "rb")) for path in files]
        for place in places.tolist():
            file = opened[place >> OFFSET_BITS]
            file.seek(place & ((1 << OFFSET_BITS) - 1))
            yield file.readline()


def manifest_lines(line: bytes) -> Iterator[bytes]:
    """Give the manifest rows of a record as JSON lines."""
    sizes = SIZES.search(line)
    if sizes and b"," not in sizes[1]:  # one file, one row: no need to parse it
        yield line[line.index(MANIFEST) + len(MANIFEST) : -3] + b"\n"
    else:
        for row in json.loads(line)["manifest"]:
            yield encode(row)
