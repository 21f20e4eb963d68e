"""Audio files of a corpus, each complete or absent: made under a temporary name, then renamed.

Temporary files of a process lie in one folder, so that what a kill leaves behind is found at once.  The disk
is not waited for, since files are many: who promises them to others syncs once, and who comes back after a
power cut compares their sizes.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from nest_ssl.telephone.records import out_of_space

FORMATS = {"flac": "FLAC", "wav": "WAV"}
# libsndfile's least effort for FLAC: a quarter less time than with its default, 1.5 % more bytes
OPTIONS: dict[str, dict[str, Any]] = {"FLAC": {"compression_level": 0.0}, "WAV": {}}


class AudioWriter:
    """Writes int16 files of one format below a folder; for one process.

    temporary: folder of unfinished files, on the same file system.
    """

    def __init__(self, temporary: Path, format: str) -> None:
        self._folder, self._temporary = temporary, f"{temporary}/{os.getpid()}.tmp"
        self._format = FORMATS[format]
        self._folders: set[str] = set()

    def write(self, path: str, samples: np.ndarray, sample_rate: int) -> int:
        """Write int16 (T,); gives the size in bytes. Raises OutOfSpace."""
        content = audio_bytes(samples, sample_rate, self._format)
        with self._renamed(path) as temporary:
            write_bytes(temporary, content)
        return len(content)

    @contextlib.contextmanager
    def stream(self, path: str, sample_rate: int) -> Iterator[Any]:
        """Give an open file whose `write` takes int16 (T,) pieces. Raises OutOfSpace."""
        options = {"format": self._format, "subtype": "PCM_16", **OPTIONS[self._format]}
        with self._renamed(path) as temporary, _Stream(temporary) as file:
            with soundfile.SoundFile(file, "w", sample_rate, 1, **options) as audio:
                yield audio
            file.check()

    @contextlib.contextmanager
    def _renamed(self, path: str) -> Iterator[str]:
        try:
            folder = path.rpartition("/")[0]
            if folder not in self._folders:
                self._folder.mkdir(parents=True, exist_ok=True)
                Path(folder).mkdir(parents=True, exist_ok=True)
                self._folders.add(folder)
            yield self._temporary
            os.replace(self._temporary, path)  # noqa: PTH105  of strings, at half the price of paths
        except BaseException as error:
            Path(self._temporary).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise out_of_space(error, path) from error
            raise


class _Stream(io.FileIO):
    """A file that keeps the error of a refused write, which libsndfile would report without its reason."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, content: Any) -> int:
        view = memoryview(content)
        try:
            while len(view):
                view = view[super().write(view) or 0 :]
        except OSError as error:
            self._error = error
            return 0
        return len(content)

    def check(self) -> None:
        """Raise the OSError of an earlier write."""
        if self._error is not None:
            raise self._error

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.check()


def audio_bytes(samples: np.ndarray, sample_rate: int, format: str) -> bytes:
    """Give the file (FLAC or WAV) of int16 (T,)."""
    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate, format=format, subtype="PCM_16", **OPTIONS[format])
    return content.getvalue()


def write_bytes(path: str, content: bytes) -> None:
    """Write a file; OSError if the disk refuses."""
    with open(path, "wb", buffering=0) as file:
        view = memoryview(content)
        while len(view):
            view = view[file.write(view) or 0 :]


def remove_leftovers(temporary: Path) -> None:
    """Remove the folder of unfinished files that a killed run left."""
    shutil.rmtree(temporary, ignore_errors=True)
