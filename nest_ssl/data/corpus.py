"""Utterances of one or several manifests that pass the duration filters; only numbers stay in memory."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.data.braces import expand_paths, split_commas
from nest_ssl.data.tarred import TarredAudio
from nest_ssl.files.audio import audio_info
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import audio_field, audio_path, row_identity
from nest_ssl.files.tar_index import Member, TarReader
from nest_ssl.telephone.noise import prompt_key

HEADERS_PER_LOG_LINE = 10_000
CHANNEL_FIELD = "nest_channel"  # of rows that were made from cuts, which name channels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest.

    number: position among all rows of all manifests, dropped ones included, as NeMo's `id`; utterance_id:
    the row's own id, or its audio_filepath and offset: it names the random stream, so it does not change
    when data move; audio_path: in an archive, the member's name; duration_s, offset_s: None where the row
    states none; place: "manifest:line"; text: what is said, where the row states it; key: what
    versions of one prompt share, or the utterance id; channel: of the file,
    where the row names one; member, reader: where the audio is, if it is in a tar archive.
    """

    number: int
    utterance_id: str
    audio_path: Path
    duration_s: float | None
    offset_s: float | None
    place: str
    text: str | None = None
    key: str = ""
    channel: int | list[int] | None = None
    member: Member | None = None
    reader: TarReader | None = None

    def audio(self) -> Path | io.IOBase:
        """Give what audio_info and read_audio take: the path, or the member of an archive as a stream."""
        if self.member is None or self.reader is None:
            return self.audio_path
        return self.reader.open(self.member, str(self.audio_path))


class Corpus:
    """The utterances of `manifest_filepath`, in manifest order, whose stated duration is within the limits.

    manifest_filepath: a path, several separated by commas, or a list of paths; patterns in braces stand for
    several.  Rows without a duration are never dropped.
    tar_paths: the audio is in these archives, rows name members of them (by the file's name, or by the whole
    path with `whole_names`); rows without one are dropped.
    max_utts: only the first so many rows that pass the filters count; 0 = all.
    len(corpus); corpus[i] reads and parses one row; `stated_durations`: (N,) float32 seconds, NaN = not
    stated; `num_rows`: rows before filtering; `dropped`: reason -> rows. Raises ValueError for an empty
    manifest, a row without audio, and if every row is dropped.
    """

    def __init__(
        self,
        manifest_filepath: str | Path | Sequence[str | Path],
        min_duration: float | None = None,
        max_duration: float | None = None,
        name: str = "manifest_filepath",
        tar_paths: Sequence[Path] | None = None,
        max_utts: int = 0,
        whole_names: bool = False,
    ) -> None:
        self.manifests = manifest_paths(manifest_filepath, name)
        self.indexes = [ManifestIndex.open(path) for path in self.manifests]
        self._starts = np.cumsum([0] + [index.num_rows for index in self.indexes])
        self.num_rows = int(self._starts[-1])
        for index in self.indexes:
            if index.num_rows == 0:
                raise ValueError(f"{name}: the manifest {index.path} is empty")
            if index.line_without_audio:
                raise ValueError(f"{index.path}:{index.line_without_audio}: the row has no audio_filepath")
        stated = self.indexes[0].durations
        if len(self.indexes) > 1:
            stated = np.concatenate([index.durations for index in self.indexes])
        self.tarred: TarredAudio | None = None
        if tar_paths is not None:
            self.tarred = TarredAudio(self.indexes, tar_paths, name, whole_names)
        # Compared as float32, or a limit of 0.7 would drop a duration of 0.7; comparisons with NaN are False.
        short = stated < np.float32(-np.inf if min_duration is None else min_duration)
        long = stated > np.float32(np.inf if max_duration is None else max_duration)
        kept = ~(short | long)
        unmatched = kept & ~self.tarred.matched if self.tarred else np.zeros(0, bool)
        beyond = np.zeros(0, bool)
        if self.tarred:
            kept &= self.tarred.matched
        if max_utts:
            beyond = kept & (np.cumsum(kept) > max_utts)
            kept &= ~beyond
        self.dropped = {
            reason: int(count)
            for reason, count in (
                (f"shorter than min_duration {min_duration}", short.sum()),
                (f"longer than max_duration {max_duration}", long.sum()),
                ("without a member in the archives", unmatched.sum()),
                (f"beyond max_utts {max_utts}", beyond.sum()),
            )
            if count
        }
        self._kept: _Kept | None = None
        self.stated_durations = stated
        if self.dropped:
            self._kept = _Kept(kept)
            self.stated_durations = stated[kept]
            for index in self.indexes:
                index.release_memory()
        if len(self) == 0:
            reasons = ", ".join(
                f"{count} {reason}{' s' if '_duration ' in reason else ''}"
                for reason, count in self.dropped.items()
            )
            raise ValueError(f"{name}: all {self.num_rows} rows of {self._named()} are dropped: {reasons}")

    def __len__(self) -> int:
        return len(self.stated_durations)

    def __getitem__(self, item: int) -> Utterance:
        manifest, row_number, number = self._where(item)
        index = self.indexes[manifest]
        row = index.row(row_number)
        place = f"{index.path}:{index.line(row_number)}"
        try:
            audio = Path(str(audio_field(row))) if self.tarred else audio_path(row, index.path)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        return Utterance(
            number=number,
            utterance_id=row_identity(row),
            audio_path=audio,
            duration_s=_number(row, "duration", place),
            offset_s=_number(row, "offset", place),
            place=place,
            text=row.get("text"),
            key=prompt_key(row),
            channel=row.get(CHANNEL_FIELD),
            member=self.tarred.member(number) if self.tarred else None,
            reader=self.tarred.reader if self.tarred else None,
        )

    def fingerprint(self) -> list[str]:
        """Give texts that differ between corpora of other content, wherever they are."""
        found = [index.fingerprint() for index in self.indexes]
        return found + (self.tarred.fingerprint() if self.tarred else [])

    def place(self, item: int) -> str:
        """Give "manifest:line" of an item without reading it."""
        manifest, row_number, _ = self._where(item)
        return f"{self.indexes[manifest].path}:{self.indexes[manifest].line(row_number)}"

    def _where(self, item: int) -> tuple[int, int, int]:
        if not 0 <= item < len(self):
            raise IndexError(f"{self._named()} give {len(self)} utterances, there is no number {item}")
        number = int(item) if self._kept is None else self._kept.row(int(item))
        manifest = int(np.searchsorted(self._starts, number, side="right")) - 1
        return manifest, number - int(self._starts[manifest]), number

    def lengths(self) -> np.ndarray:
        """Give (N,) float32 seconds; the audio header's where a row states none, or not a positive one."""
        durations = self.stated_durations
        unknown = np.flatnonzero(~(durations > 0))
        if len(unknown) == 0:
            return durations
        log.info(
            "%s: %d of %d rows state no duration: reading audio headers",
            self._named(),
            len(unknown),
            len(self),
        )
        durations = np.array(durations)
        for count, item in enumerate(unknown.tolist(), start=1):
            utterance = self[item]
            try:
                whole = audio_info(utterance.audio()).duration_s
            except (ValueError, OSError) as error:
                raise type(error)(f"{utterance.place}: {error}") from error
            durations[item] = max(whole - (utterance.offset_s or 0.0), 1e-3)
            if count % HEADERS_PER_LOG_LINE == 0:
                log.info("audio headers read %d of %d", count, len(unknown))
        return durations

    def _named(self) -> str:
        return ", ".join(str(path) for path in self.manifests)


def manifest_paths(manifest_filepath: Any, name: str) -> list[Path]:
    """Give the paths named by a string (commas separate several, braces stand for several) or a list."""
    parts = [manifest_filepath]
    if isinstance(manifest_filepath, str) and not Path(manifest_filepath).is_file():
        parts = list(split_commas(manifest_filepath))
    elif isinstance(manifest_filepath, list | tuple):
        parts = list(manifest_filepath)
    if not parts or not all(isinstance(part, str | Path) and str(part) for part in parts):
        raise ValueError(f"{name}: give the path of a manifest or a list of paths, not {manifest_filepath!r}")
    return [Path(path).expanduser() for part in parts for path in expand_paths(str(part), name)]


def _number(row: dict[str, Any], key: str, place: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{place}: {key} must be a number of seconds, not {value!r}")
    return float(value)


class _Kept:
    """The rows that pass the filters, at one bit per row."""

    BLOCK = 4096

    def __init__(self, kept: np.ndarray) -> None:
        starts = np.arange(0, len(kept), self.BLOCK)
        counts = np.add.reduceat(kept, starts, dtype=np.int64)
        self._bits = np.packbits(kept)
        self._before = np.concatenate([[0], np.cumsum(counts)])  # rows kept before each block

    def row(self, item: int) -> int:
        """Give the number of the row that is kept as number `item`."""
        block = int(np.searchsorted(self._before, item, side="right")) - 1
        first = block * self.BLOCK
        bits = np.unpackbits(self._bits[first // 8 : (first + self.BLOCK) // 8])
        return first + int(np.flatnonzero(bits)[item - int(self._before[block])])
