"""Recordings to cut noise and voices from: parts read where they lie, short ones kept, folders listed."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nest_ssl.files.atomic import replaced
from nest_ssl.files.audio import Channel, audio_info, read_audio
from nest_ssl.files.decode import SOX_SUFFIXES, STREAM_SUFFIXES
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import audio_path, row_identity
from nest_ssl.files.telephone_formats import HEADERLESS
from nest_ssl.telephone.resample import resample

SHORTEST_S = 0.1  # of a recording found in a folder
SPARE_S = 0.05  # read more than is needed, for roundings of times to samples
KEPT_S = 8.0  # recordings up to this long are kept decoded
KEPT_BYTES = 64 << 20  # of these, in each process
LONG_BYTES = 64 << 20  # long recordings are kept, as they were read, where all of a manifest fit into this
LONG_RATE = 16000  # Hz, taken for their size before they are read

SUFFIXES = frozenset(
    (".wav", ".flac", ".ogg", ".aif", ".aiff", ".au", ".snd", ".sph", ".nist", ".caf", ".w64", ".rf64")
    + (".amr", ".awb", ".avi", *STREAM_SUFFIXES, *SOX_SUFFIXES, *HEADERLESS)
)


class Excerpt(NamedTuple):
    """Samples (T,), float32 or int16, whose rms is `rms` (0 for silence) when multiplied by `scale`.

    It begins at the sample `start` and goes round in a circle: T may be shorter than what is needed.
    """

    samples: np.ndarray
    scale: float
    rms: float
    start: int

    def add_to(self, total: np.ndarray, gain: float) -> None:
        """Add `gain` times the sound to float32 (num_samples,)."""
        factor = np.float32(gain * self.scale)
        done, start = 0, self.start
        while done < len(total):
            piece = self.samples[start : start + len(total) - done]
            total[done : done + len(piece)] += piece * factor
            done, start = done + len(piece), 0


class _Sound(NamedTuple):
    identity: str
    samples: np.ndarray
    scale: float
    rms: float
    is_whole: bool  # False for a part that was chosen by its start already


class Recordings:
    """The rows of a manifest as sound.

    index: the manifest, whose audio may be of any rate and layout; longest_s: of a longer row that much from
    its middle stands for it.
    """

    def __init__(
        self,
        index: ManifestIndex,
        kept_bytes: int = KEPT_BYTES,
        long_bytes: int = LONG_BYTES,
        longest_s: float = inf,
    ) -> None:
        self.index = index
        self._longest_s = longest_s
        durations = getattr(index, "durations", None)
        size = np.inf if durations is None else 2.0 * LONG_RATE * float(np.sum(durations, dtype=float))
        self._keeps_long = size <= long_bytes  # not if a row states no duration: then the sum is NaN
        self._long_room = long_bytes
        self._read_s: dict[int, float] = {}
        self._long: dict[int, tuple[np.ndarray, int] | None] = {}
        self._kept: OrderedDict[tuple[int, int], _Sound] = OrderedDict()
        self._room = kept_bytes

    def excerpt(self, row_number: int, identity: str, start: float, num_samples: int, rate: int) -> Excerpt:
        """Give `num_samples` at `rate` of a row from `start` on, a share 0 to 1 of where it may begin.

        Of a long recording nothing else is read; a short one is given whole.  `identity`: what the row must
        be.  Raises ValueError if it is another one, and FileNotFoundError or ValueError if it cannot be read.
        """
        kept = self._kept.get((row_number, rate))
        if kept is not None:
            self._kept.move_to_end((row_number, rate))
        else:
            kept = self._read(row_number, start, num_samples, rate)
        if len(kept.samples) == 0:
            raise ValueError(f"{self.index.path}: row {row_number} is too short to be heard at {rate} Hz")
        if kept.identity != identity:
            raise ValueError(
                f"{self.index.path}: row {row_number} is {kept.identity}, not {identity}: this is another "
                f"manifest than the noise was drawn from"
            )
        begin = int(start * len(kept.samples)) if kept.is_whole else 0
        return Excerpt(kept.samples, kept.scale, kept.rms, begin)

    def _read(self, row_number: int, start: float, num_samples: int, rate: int) -> _Sound:
        if not 0 <= row_number < len(self.index):
            raise ValueError(f"{self.index.path} has {len(self.index)} rows, there is no row {row_number}")
        row = self.index.row(row_number)
        path, offset = audio_path(row, self.index.path), row.get("offset") or 0.0
        channel = row.get("channel_selector", "average")
        length = row.get("duration")
        if length is None or length <= 0:
            length = audio_info(path).duration_s - offset
        if length > self._longest_s:
            offset, length = offset + (length - self._longest_s) / 2, self._longest_s
        needed = num_samples / rate + SPARE_S
        name = row_identity(row)
        if length > max(needed, KEPT_S):
            begin = offset + start * (length - needed)
            samples, found_rate = self._part(row_number, path, (offset, length), (begin, needed), channel)
            samples = resample(samples, found_rate, rate)[:num_samples]
            return _Sound(name, samples, 1.0, _rms(samples), False)
        samples, found_rate = read_audio(path, None, offset, length + (0 if offset else SPARE_S), channel)
        samples = resample(samples, found_rate, rate)
        if length > KEPT_S:
            return _Sound(name, samples, 1.0, _rms(samples), True)
        scale = (float(np.max(np.abs(samples), initial=0.0)) or 1.0) / 32767
        whole = np.rint(samples / np.float32(scale)).astype(np.int16)
        kept = _Sound(name, whole, scale, _rms(samples), True)
        self._kept[row_number, rate] = kept
        self._room -= kept.samples.nbytes
        while self._room < 0:
            self._room += self._kept.popitem(last=False)[1].samples.nbytes
        return kept

    def _part(
        self,
        row_number: int,
        path: Path,
        row: tuple[float, float],
        part: tuple[float, float],
        channel: Channel,
    ) -> tuple[np.ndarray, int]:
        """Give what read_audio gives of a part (offset, duration) of a row's file.

        The whole of it is read, and kept, once as much has been read of it in parts.
        """
        if self._keeps_long and row_number not in self._long and self._long_room > 0:
            self._read_s[row_number] = self._read_s.get(row_number, 0.0) + part[1]
            if self._read_s[row_number] > row[1]:
                kept = self._long[row_number] = _as_int16(path, row[0], row[1] + SPARE_S, channel)
                self._long_room -= kept[0].nbytes if kept else 0
        kept = self._long.get(row_number)
        if kept is None:
            return read_audio(path, None, *part, channel)
        samples, rate = kept
        begin = int(part[0] * rate) - int(row[0] * rate)
        return samples[begin : begin + int(part[1] * rate)] / np.float32(32768.0), rate


def _as_int16(path: Path, offset: float, duration: float, channel: Channel) -> tuple[np.ndarray, int] | None:
    """Read a recording as int16 (T,); None if that would change it or cannot be done."""
    try:
        samples, rate = read_audio(path, None, offset, duration, channel)
    except (ValueError, OSError):
        return None  # a part of it may be sound
    pcm = np.rint(samples * np.float32(32768.0)).astype(np.int16)
    return (pcm, rate) if np.array_equal(pcm / np.float32(32768.0), samples) else None


def open_recordings(source: Path, listing: Path) -> tuple[ManifestIndex, list[str]]:
    """Open a manifest of recordings, or list those of a folder in the manifest `listing` and open that.

    Gives the index and a line for every file of the folder that was left out.  Raises FileNotFoundError for
    a source that is not there and ValueError for one without recordings.
    """
    left_out: list[str] = []
    if source.is_dir():
        left_out = list_recordings(source, listing)
        index = ManifestIndex.open(listing)
    else:
        index = ManifestIndex.open(source)
    if len(index) == 0:
        what = "; ".join(left_out[:3]) or ("it has no files" if source.is_dir() else "it has no rows")
        raise ValueError(f"{source}: holds no recordings ({what})")
    return index, left_out


def list_recordings(folder: Path, listing: Path) -> list[str]:
    """Write the manifest `listing` of all audio under `folder`, in the order of the paths.

    Rows have `id`, the path within the folder, so that they are the same wherever the folder is mounted.
    Durations are read from the headers.  A listing that stays the same is not written again.  Gives a line
    for every file left out: those that are no audio by their suffix, cannot be read or are shorter than
    SHORTEST_S; hidden ones do not count.
    """
    rows, left_out = [], []
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() not in SUFFIXES:
            left_out.append(f"{name}: no audio by its suffix")
            continue
        try:
            duration = audio_info(path).duration_s
        except (ValueError, OSError) as error:
            left_out.append(str(error))
            continue
        if duration < SHORTEST_S:
            what = (
                f"lasts {1000 * duration:.1f} ms, repeated it would be a tone"
                if duration > 0
                else "no samples"
            )
            left_out.append(f"{name}: {what}")
            continue
        row = {"audio_filepath": str(path.absolute()), "duration": duration, "id": name}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    content = "".join(rows).encode("utf-8", "surrogateescape")
    if not listing.is_file() or listing.read_bytes() != content:
        listing.parent.mkdir(parents=True, exist_ok=True)
        with replaced(listing) as temporary:
            temporary.write_bytes(content)
    return left_out


def files_below(folder: Path) -> Iterator[Path]:
    """Give the files under a folder that are not hidden, in the order of their paths.

    Links to folders are followed, each folder once.
    """
    seen: set[str] = set()
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return iter(sorted(found, key=lambda path: path.relative_to(folder).parts))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
