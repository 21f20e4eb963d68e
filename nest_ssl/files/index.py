"""Index of a manifest: where each row begins and how long its audio is, built once beside the manifest.

The file `NAME.idx` holds one line of JSON padded to 4096 bytes, then the arrays in the machine's byte
order: offsets int64 (rows + 1), durations float32 (rows), and for each blank line the number of the row
after it, int64. It is only a cache: one that is missing, damaged or older than its manifest is built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import mmap
import os
import sys
import time
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import BYTE_ORDER_MARK, check_is_file, parse_row
from nest_ssl.files.rows import audio_field
from nest_ssl.files.system import open_for_reading, read_at, unlock, wait_for_lock

VERSION = 1
HEADER_BYTES = 4096
DIGEST_BYTES = 1 << 16
ROWS_PER_LOG_LINE = 2_000_000

log = logging.getLogger(__name__)


@dataclass
class _Table:
    """The arrays of an index and the facts of its header."""

    offsets: np.ndarray  # (rows + 1,) int64: byte where each row begins, and the end of the last
    durations: np.ndarray  # (rows,) float32 seconds, NaN = not stated
    rows_after_blanks: np.ndarray  # (blank lines,) int64: number of the row that follows
    line_without_audio: int  # first line that names no audio file, 0 = all do
    checksum: int = 0  # CRC-32 of the arrays


class ManifestIndex:
    """Random access to the rows of a JSON-lines manifest of any length; 12 bytes per row, mapped from disk.

    num_rows; durations: (num_rows,) float32 seconds, NaN where the row states none; offsets: (num_rows +
    1,) int64 bytes; `line_without_audio`: number of the first line with neither audio_filepath nor
    audio_filename, 0 if there is none.  Reads go through one descriptor by position, so a forked process
    may share it; a pickled index opens the files again and refuses a manifest that has changed meanwhile.
    """

    def __init__(
        self, path: Path, stamp: dict[str, Any], table: _Table, descriptor: int, mapped: bool
    ) -> None:
        self.path = path
        self.num_rows = len(table.durations)
        self.durations = table.durations
        self.offsets = table.offsets
        self.line_without_audio = table.line_without_audio
        self._table = table
        self._stamp = stamp
        self._descriptor = descriptor
        self._mapped = mapped

    @classmethod
    def open(cls, path: str | os.PathLike) -> ManifestIndex:
        """Open the index of the manifest `path`, building it first where there is none that fits.

        The manifest is locked meanwhile (where its file system can), so that of many processes one builds.
        Where the folder cannot be written the index stays in memory, with a line in the log.  Raises
        FileNotFoundError for a missing manifest and ValueError "path:line: ..." for a line that is no
        manifest row.
        """
        path = Path(path)
        check_is_file(path)
        descriptor = open_for_reading(path)
        try:
            stamp = _stamp(descriptor)
            table = _load(index_path(path), stamp)
            mapped = table is not None
            if table is None:
                with _locked(descriptor):
                    table = _load(index_path(path), stamp)
                    if table is None:
                        built = _build(path, descriptor)
                        if _stamp(descriptor) != stamp:
                            raise ValueError(
                                f"{path}: the manifest was being written while it was read; try again"
                            )
                        table = _save(index_path(path), stamp, built)
                        mapped = table is not None
                        table = table or built
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, stamp, table, descriptor, mapped)

    def row(self, i: int) -> dict[str, Any]:
        """Read and parse row `i` (from 0)."""
        if not 0 <= i < self.num_rows:
            raise IndexError(f"{self.path} has {self.num_rows} rows, there is no row {i}")
        start, end = int(self.offsets[i]), int(self.offsets[i + 1])
        content = read_at(self._descriptor, end - start, start)
        try:
            return parse_row(content, self.path, self.line(i))
        except ValueError as error:
            raise ValueError(f"{error}; the manifest has changed since this process opened it") from error

    def line(self, i: int) -> int:
        """Give the number, from 1, of the line on which row `i` stands."""
        return i + 1 + int(np.searchsorted(self._table.rows_after_blanks, i, side="right"))

    def fingerprint(self) -> str:
        """Give a text that differs between manifests of other content, wherever they are."""
        return f"{self._stamp['size']}-{self._stamp['digest']}-{self._table.checksum:08x}"

    def release_memory(self) -> None:
        """Let go of the pages of `durations` that were read; they come back from the disk's cache."""
        mapping = getattr(self.durations, "_mmap", None)
        if mapping is not None and hasattr(mapping, "madvise"):
            mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Close the manifest; the arrays stay usable."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __len__(self) -> int:
        return self.num_rows

    def __del__(self, close: Any = os.close) -> None:  # when Python ends, the name `os` is gone
        if self.__dict__.get("_descriptor", -1) >= 0:
            close(self._descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "stamp": self._stamp, "table": None if self._mapped else self._table}

    def __setstate__(self, state: dict[str, Any]) -> None:
        path, table = state["path"], state["table"]
        check_is_file(path)
        descriptor = open_for_reading(path)
        stamp = _stamp(descriptor)
        if stamp == state["stamp"] and table is None:
            table = _load(index_path(path), stamp)
        if stamp != state["stamp"] or table is None:
            os.close(descriptor)
            what = index_path(path) if stamp == state["stamp"] else path
            raise ValueError(f"{what} was changed or removed while a process was using it; start again")
        self.__init__(path, stamp, table, descriptor, state["table"] is None)  # type: ignore[misc]


def index_path(manifest: Path) -> Path:
    """Where the index of a manifest is kept."""
    return manifest.with_name(manifest.name + ".idx")


def _stamp(descriptor: int) -> dict[str, Any]:
    """What tells one state of a manifest from another, at a cost that does not grow with it."""
    status = os.fstat(descriptor)
    head = read_at(descriptor, DIGEST_BYTES, 0)
    tail = read_at(descriptor, DIGEST_BYTES, max(0, status.st_size - DIGEST_BYTES))
    digest = hashlib.blake2b(head + tail, digest_size=16).hexdigest()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "digest": digest}


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    locked = wait_for_lock(descriptor)  # where that cannot be had, each process builds its own index
    try:
        yield
    finally:
        if locked:
            unlock(descriptor)


def _build(path: Path, descriptor: int) -> _Table:
    """Read the manifest from end to end; holds 12 bytes per row."""
    started = time.monotonic()
    size = os.fstat(descriptor).st_size
    offsets, durations, rows_after_blanks = array("q"), array("f"), array("q")
    line_without_audio = position = line_number = 0
    decode = json.JSONDecoder().decode
    with open(path, "rb", buffering=1 << 20) as file:
        if not os.path.samestat(os.fstat(file.fileno()), os.fstat(descriptor)):
            raise ValueError(f"{path}: the manifest was replaced while it was opened; try again")
        for line in file:
            line_number += 1
            start = position
            position += len(line)
            if line_number == 1 and line.startswith(BYTE_ORDER_MARK):
                start += len(BYTE_ORDER_MARK)
                line = line[len(BYTE_ORDER_MARK) :]
            if line.isspace() or not line:
                rows_after_blanks.append(len(offsets))
                continue
            try:
                row = decode(line.decode())
                duration = row.get("duration")
            except (ValueError, AttributeError, RecursionError):
                row = parse_row(line, path, line_number)  # names the line
                duration = row.get("duration")
            if type(duration) is not float:
                duration = _seconds(duration, path, line_number)
            offsets.append(start)
            durations.append(duration)
            if not line_without_audio and audio_field(row) is None:
                line_without_audio = line_number
            if len(offsets) % ROWS_PER_LOG_LINE == 0:
                share, elapsed = 100 * position / size, time.monotonic() - started
                log.info("index of %s rows %d (%.0f %%) seconds %.0f", path, len(offsets), share, elapsed)
    offsets.append(position)
    if len(durations) >= ROWS_PER_LOG_LINE:
        log.info("index of %s built rows %d seconds %.0f", path, len(durations), time.monotonic() - started)
    arrays = [
        np.frombuffer(values, dtype) if values else np.zeros(0, dtype)
        for values, dtype in ((offsets, np.int64), (durations, np.float32), (rows_after_blanks, np.int64))
    ]
    checksum = 0
    for values in arrays:
        checksum = zlib.crc32(values.data, checksum)
    return _Table(arrays[0], arrays[1], arrays[2], line_without_audio, checksum)


def _seconds(duration: Any, path: Path, line_number: int) -> float:
    if duration is None:
        return math.nan
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise ValueError(f"{path}:{line_number}: duration must be a number of seconds, not {duration!r}")
    return float(duration)


def _save(path: Path, stamp: dict[str, Any], table: _Table) -> _Table | None:
    """Write the index and give it mapped from disk; None where it cannot be written."""
    header = {
        "what": "nest_ssl manifest index",
        "version": VERSION,
        "byteorder": sys.byteorder,
        "manifest": stamp,
        "rows": len(table.durations),
        "blank_lines": len(table.rows_after_blanks),
        "line_without_audio": table.line_without_audio,
        "crc32": table.checksum,
    }
    try:
        with replaced(path) as temporary, open(temporary, "wb") as file:
            file.write(json.dumps(header).encode().ljust(HEADER_BYTES - 1) + b"\n")
            for values in (table.offsets, table.durations, table.rows_after_blanks):
                file.write(values.data)
    except OSError as error:
        log.warning(
            "index %s cannot be written (%s): kept in memory and built again by the next process",
            path,
            error.strerror or error,
        )
        return None
    return _load(path, stamp)


def _load(path: Path, stamp: dict[str, Any]) -> _Table | None:
    """Map an index from disk; None if none is there that is whole and of this state of the manifest."""
    try:
        with open(path, "rb") as file:
            header = json.loads(file.read(HEADER_BYTES))
            expected = {"version": VERSION, "byteorder": sys.byteorder, "manifest": stamp}
            if any(header.get(key) != value for key, value in expected.items()):
                return None
            rows, blanks = header["rows"], header["blank_lines"]
            ends = np.cumsum([HEADER_BYTES, 8 * (rows + 1), 4 * rows, 8 * blanks]).tolist()
            checksum = 0
            while chunk := file.read(1 << 20):
                checksum = zlib.crc32(chunk, checksum)
            if file.tell() != ends[-1] or checksum != header["crc32"]:
                log.warning("index %s is damaged: built again", path)
                return None
        return _Table(
            _mapped(path, np.int64, ends[0], rows + 1),
            _mapped(path, np.float32, ends[1], rows),
            np.array(_mapped(path, np.int64, ends[2], blanks)),
            header["line_without_audio"],
            checksum,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("index %s is not usable (%s): built again", path, error)
        return None


def _mapped(path: Path, dtype: Any, offset: int, length: int) -> np.ndarray:
    if length == 0:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=(length,))
