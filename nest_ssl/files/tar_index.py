"""Members of tar archives by name, found through an index and read where they lie; nothing is extracted.

A member is found by its stem, the file's name without folders and suffix: so manifests name it.  The index
(`NAME.tar.idx`, 24 bytes per member) is made by reading the headers once, and is good for as long as size
and time of the archive stay.
"""

from __future__ import annotations

import io
import logging
import os
import posixpath
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.files.arrays import load_arrays, save_arrays
from nest_ssl.files.decode import SOX_SUFFIXES, STREAM_SUFFIXES
from nest_ssl.files.rows import text_digest
from nest_ssl.files.system import open_for_reading, read_at
from nest_ssl.files.tar_headers import TarEntry, tar_entries
from nest_ssl.files.telephone_formats import HEADERLESS

# Suffixes of members that are audio; the others (.json, .txt) go with them and are passed over.
AUDIO = "wav flac ogg sph nist wv1 wv2 aif aiff aifc au snd w64 rf64 caf voc amr awb"
RAW_AUDIO = "raw pcm"
AUDIO_SUFFIXES = frozenset(
    (
        *(f".{suffix}" for suffix in f"{AUDIO} {RAW_AUDIO}".split()),
        *HEADERLESS,
        *STREAM_SUFFIXES,
        *SOX_SUFFIXES,
    )
)
MAX_OPEN = 64  # archives open at once in a process
READ_WHOLE_BYTES = 1 << 20  # larger members are read in pieces, for rows that want a part of one

log = logging.getLogger(__name__)


class Member(NamedTuple):
    """Where a member's bytes are: number of the archive in its set, first byte, count of bytes."""

    tar: int
    offset: int
    size: int


def stem(name: str, whole: bool = False) -> str:
    """Give the name by which a manifest and an archive know the same audio, with its folders if `whole`."""
    name = name.replace("\\", "/").removeprefix("./")
    return posixpath.splitext(name if whole else posixpath.basename(name))[0]


class TarIndex:
    """The audio members of one archive: digests (M,) uint64 of their stems, ascending; offsets, sizes (M,)
    int64 bytes."""

    def __init__(self, path: Path, stamp: tuple[int, int], arrays: dict[str, np.ndarray]) -> None:
        self.path = path
        self.stamp = stamp
        self.digests = arrays["digests"]
        self.offsets = arrays["offsets"]
        self.sizes = arrays["sizes"]

    @classmethod
    def open(cls, path: str | os.PathLike, whole_names: bool = False) -> TarIndex:
        """Open the index of an archive, building it first where there is none that fits.

        whole_names: members go by their whole path without the suffix, not by the file's name.
        Raises FileNotFoundError, and ValueError naming the archive and byte for one that is compressed, cut
        off or damaged, holds links or other things that are no files, or two members of one stem.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"tar archive {path} does not exist")
        descriptor = open_for_reading(path)
        try:
            stamp = _stamp(descriptor)
            facts = {"version": 2, "whole_names": whole_names, "size": stamp[0], "mtime_ns": stamp[1]}
            cache = path.with_name(path.name + ".idx")
            arrays = load_arrays(cache, facts)
            if arrays is None:
                arrays = _build(path, descriptor, stamp[0], whole_names)
                if _stamp(descriptor) != stamp:
                    raise ValueError(f"{path}: the archive was being written while it was read; try again")
                if save_arrays(cache, facts, arrays):
                    arrays = load_arrays(cache, facts) or arrays
        finally:
            os.close(descriptor)
        return cls(path, stamp, arrays)

    def __len__(self) -> int:
        return len(self.digests)

    def fingerprint(self) -> str:
        """Give a text that differs between archives of other members, wherever they are."""
        return f"{self.stamp[0]}-{len(self)}-{int(np.bitwise_xor.reduce(self.digests)) if len(self) else 0:x}"


class TarReader:
    """Opens members of a set of archives; a process holds at most 64 of these open."""

    def __init__(self, paths: Sequence[Path], stamps: Sequence[tuple[int, int]]) -> None:
        self.paths = list(paths)
        self.stamps = list(stamps)
        self._open: OrderedDict[int, int] = OrderedDict()

    def open(self, member: Member, name: str) -> io.IOBase:
        """Give a member as a stream whose str() is "archive.tar:name"; ValueError if the archive changed."""
        descriptor = self._descriptor(member.tar)
        label = f"{self.paths[member.tar]}:{name}"
        if member.size <= READ_WHOLE_BYTES:
            content = read_at(descriptor, member.size, member.offset)
            if len(content) < member.size:
                raise ValueError(f"{label}: the archive ends inside of the member")
            return _Whole(content, label)
        return _Window(descriptor, member, label)

    def close(self) -> None:
        """Close the archives; they open again when needed."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "stamps": self.stamps, "_open": OrderedDict()}

    def __del__(self, close: Any = os.close) -> None:  # when Python ends, the name `os` is gone
        for descriptor in self.__dict__.get("_open", {}).values():
            close(descriptor)

    def _descriptor(self, number: int) -> int:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        path = self.paths[number]
        if not path.is_file():
            raise FileNotFoundError(f"tar archive {path} does not exist any more")
        descriptor = open_for_reading(path)
        if _stamp(descriptor) != tuple(self.stamps[number]):
            os.close(descriptor)
            raise ValueError(f"{path} was changed while a process was using it; start again")
        if len(self._open) >= MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        self._open[number] = descriptor
        return descriptor


class _Whole(io.BytesIO):
    """A member in memory."""

    def __init__(self, content: bytes, label: str) -> None:
        super().__init__(content)
        self._label = label

    def __str__(self) -> str:
        return self._label


class _Window(io.RawIOBase):
    """A member read where it lies, by position; the descriptor stays the reader's."""

    def __init__(self, descriptor: int, member: Member, label: str) -> None:
        super().__init__()
        self._descriptor = os.dup(descriptor)
        self._member = member
        self._label = label
        self._position = 0

    def __str__(self) -> str:
        return self._label

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._member.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._member.size - self._position)
        if wanted <= 0:
            return 0
        content = read_at(self._descriptor, wanted, self._member.offset + self._position)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _stamp(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _audio_entries(path: Path, descriptor: int, size: int) -> Iterator[TarEntry]:
    for entry in tar_entries(path, descriptor, size):
        if posixpath.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
            yield entry


def _build(path: Path, descriptor: int, size: int, whole_names: bool) -> dict[str, np.ndarray]:
    """Read all headers of an archive; holds 24 bytes per member."""
    digests, offsets, sizes = array("Q"), array("q"), array("q")
    for entry in _audio_entries(path, descriptor, size):
        digests.append(text_digest(stem(entry.name, whole_names)))
        offsets.append(entry.offset)
        sizes.append(entry.size)
    found = np.array(digests, np.uint64)
    order = np.argsort(found, kind="stable")
    found = found[order]
    doubles = found[1:][found[1:] == found[:-1]]
    if len(doubles):
        names = [
            entry.name
            for entry in _audio_entries(path, descriptor, size)
            if text_digest(stem(entry.name, whole_names)) == int(doubles[0])
        ]
        raise ValueError(
            f"{path}: the members {names[0]!r} and {names[1]!r} have one name to a manifest (the file's, "
            "without folder and suffix); an archive holds each name once"
        )
    return {
        "digests": found,
        "offsets": np.array(offsets, np.int64)[order],
        "sizes": np.array(sizes, np.int64)[order],
    }
