"""What is done of a corpus: one JSON line per output, so that a kill or a full disk costs one at most."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RECORDS_PER_SYNC = 64


class OutOfSpace(OSError):
    """The output could not be written; what is done is recorded and will not be done again."""


def out_of_space(error: OSError, path: Path) -> OutOfSpace:
    """Give the error to raise where the disk refused to write `path`."""
    way_out = "what is done is recorded; free some space and give the same command again to go on"
    return OutOfSpace(error.errno, f"{error.strerror}; {way_out}", str(path))


class RecordFile:
    """Records appended to one file; a last line that a kill left unfinished is cut off first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = open(path, "a+b")  # noqa: SIM115  closed by __exit__
        self._count = 0
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, end - 1))
        if end and self._file.read(1) != b"\n":
            self._file.seek(0)
            self._file.truncate(self._file.read().rfind(b"\n") + 1)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line; raises OutOfSpace if the disk refuses it."""
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
            self._count += 1
            if self._count % RECORDS_PER_SYNC == 0:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise out_of_space(error, self._path) from error

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def scan_records(folder: Path) -> Iterator[tuple[tuple[Path, int], dict[str, Any]]]:
    """Give ((file, offset), record) of every whole line, whatever number of shards it was written under."""
    for path in sorted(folder.glob("*-of-*.jsonl")):
        offset = 0
        with open(path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # else a shard is writing it now, or was killed in it
                    yield (path, offset), json.loads(line)
                offset += len(line)


def read_records(files: list[Path], places: np.ndarray) -> Iterator[dict[str, Any]]:
    """Give the records at `places` (N, 2): number of the file, offset."""
    opened = [open(path, "rb") for path in files]  # noqa: SIM115  closed below
    try:
        for number, offset in places:
            opened[number].seek(int(offset))
            yield json.loads(opened[number].readline())
    finally:
        for file in opened:
            file.close()


def flac_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """Give the FLAC file of int16 (T,)."""
    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that is complete or absent after a kill.

    The disk is not waited for, since there are many: who promises the files to others syncs once, and who
    comes back after a power cut compares their sizes.  Raises OutOfSpace.
    """
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise out_of_space(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
