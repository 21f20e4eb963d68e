"""Real calls from 8 to 16 kHz: the distortion of the line kept, nothing added above 4 kHz.

Linear resampling only: no gain, no dither, no noise reduction, no extension of the band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import soxr

from nest_ssl.files.audio import audio_info
from nest_ssl.files.digests import file_digest
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import audio_path, row_identity
from nest_ssl.telephone import jobs
from nest_ssl.telephone.records import OutOfSpace, encode
from nest_ssl.telephone.resample import converted_length
from nest_ssl.telephone.row_table import RowTable, scan_rows
from nest_ssl.telephone.settings import library_versions
from nest_ssl.telephone.sources import Source
from nest_ssl.telephone.workers import Unit
from nest_ssl.telephone.writer import AudioWriter

RATE, OUT_RATE = 8000, 16000
QUALITIES = {"hq": "HQ", "vhq": "VHQ", "wide": None}  # of soxr; wide is a filter of our own
BLOCK_S = 60.0  # recordings are converted in blocks of it, with CONTEXT_S of their surroundings
CONTEXT_S = 0.5  # longer than any of the filters reaches
# Of `wide`: flat to 3.8 kHz, -100 dB from 4 kHz on. Kaiser's length for 100 dB over 200 Hz at 16 kHz.
WIDE_TAPS, WIDE_CUTOFF_HZ, WIDE_BETA = 513, 3900.0, 10.06

VERSION = 1  # raise it when the same input would give other samples
CHANNELS = ("split", "first", "average")  # or an index, from 0
REPLACED_FIELDS = ("audio_filename", "offset", "channel_selector")


def upsample_block(samples: np.ndarray, rate: int = RATE, quality: str = "hq") -> np.ndarray:
    """Give (T,) float samples at 16 kHz as float32 (round(T * 16000 / rate),); ValueError for `quality`.

    hq, vhq: soxr, flat to 3.65 kHz, images below -130 dB.  wide: linear-phase, flat to 3.8 kHz, for who needs
    the edge of the band; from 8 kHz only.  At 16 kHz the samples are given as they are.
    """
    if quality not in QUALITIES:
        raise ValueError(f"quality {quality!r} is not one of {', '.join(QUALITIES)}")
    samples = np.ascontiguousarray(samples, np.float32)
    length = converted_length(len(samples), rate, OUT_RATE)
    if rate == OUT_RATE or len(samples) == 0:
        return samples
    if quality == "wide":
        if rate != RATE:
            raise ValueError(f"quality wide is for {RATE} Hz, not for {rate} Hz; take hq or vhq")
        between = np.zeros(2 * len(samples), np.float32)
        between[::2] = samples
        half = WIDE_TAPS // 2
        return scipy.signal.oaconvolve(between, _wide_filter())[half : half + length].astype(
            np.float32, copy=False
        )
    changed = soxr.resample(samples, rate, OUT_RATE, QUALITIES[quality])
    return np.pad(changed, (0, max(0, length - len(changed))))[:length]


@lru_cache(maxsize=1)
def _wide_filter() -> np.ndarray:
    taps = scipy.signal.firwin(WIDE_TAPS, WIDE_CUTOFF_HZ, window=("kaiser", WIDE_BETA), fs=OUT_RATE)
    return (2 * taps).astype(np.float32)  # zeros between the samples halve the level


@dataclass
class CallCorpus:
    """What to upsample: the calls of `manifest` into the folder `out`.

    channels: of files with several where the row has no channel_selector: `split` (an output for each),
    `first`, `average` or an index; None refuses them.  any_rate: take other rates than 8000 Hz, too.  Raises
    ValueError for a manifest that is empty and impossible settings.
    """

    manifest: Path
    out: Path
    quality: str = "hq"
    channels: int | str | None = None
    any_rate: bool = False
    format: str = "flac"
    index: ManifestIndex = field(init=False)
    verb: str = field(default="upsample", init=False)
    copies: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise ValueError(f"quality {self.quality!r} is not one of {', '.join(QUALITIES)}")
        if isinstance(self.channels, str) and self.channels not in CHANNELS:
            raise ValueError(f"channels {self.channels!r} is neither an index nor {', '.join(CHANNELS)}")
        if self.any_rate and self.quality == "wide":
            raise ValueError(f"quality wide is for {RATE} Hz only; take hq or vhq for files of any rate")
        self.index = ManifestIndex.open(self.manifest)
        if len(self.index) == 0:
            raise ValueError(f"{self.manifest}: the manifest has no rows, so there is nothing to upsample")
        self._settings = {
            "upsample": VERSION,
            "quality": self.quality,
            "channels": self.channels,
            "any_rate": self.any_rate,
            "format": self.format,
            "manifest": file_digest(self.manifest),
            "versions": library_versions(),
        }

    def settings(self) -> Mapping[str, Any]:
        """Give everything that the bytes of the output depend on."""
        return self._settings

    def work(self, temporary: Path) -> Upsampling:
        """Read every row once and give what the workers do; ValueError for two rows of one utterance id."""
        return Upsampling(self, scan_rows(self.index), temporary)


@dataclass
class Upsampling:
    """What a worker needs to upsample any row of a corpus."""

    corpus: CallCorpus
    table: RowTable
    temporary: Path

    def start(self) -> Callable[[Unit], bytes]:
        """Give the function that does one row."""
        return partial(self._upsample, AudioWriter(self.temporary, self.corpus.format))

    def _upsample(self, writer: AudioWriter, unit: Unit) -> bytes:
        corpus, (row_number, copy) = self.corpus, unit
        row = corpus.index.row(row_number)
        utterance = row_identity(row)
        made, sizes = [], []
        try:
            path = audio_path(row, corpus.manifest)
            stamp = jobs.source_stamp(path)
            for channel in self._channels(row, path):
                new_row, size = self._one(row, utterance, channel, path, stamp[0], writer)
                made.append(new_row)
                sizes.append(size)
        except OutOfSpace:
            raise
        except Exception as error:  # one file must not end a corpus; all are counted
            return jobs.error_line(corpus, row_number, copy, utterance, error)
        record: dict[str, Any] = {"row": row_number, "copy": copy, "id": utterance}
        return encode(record | {"bytes": sizes, "source": stamp, "manifest": made})

    def _channels(self, row: Mapping[str, Any], path: Path) -> list[int | str | None]:
        """Which channels to make of a row's file: None for the one it has, or that its row names."""
        if self.corpus.channels is None or row.get("channel_selector") is not None:
            return [None]
        num_channels = audio_info(path).channels
        if num_channels == 1:
            return [None]
        if self.corpus.channels == "split":
            return list(range(num_channels))
        return [0 if self.corpus.channels == "first" else self.corpus.channels]

    def _one(
        self, row: Mapping[str, Any], utterance: str, channel: int | str | None, source_path: Path,
        file_bytes: int, writer: AudioWriter,
    ) -> tuple[dict[str, Any], int]:  # fmt: skip
        """Upsample one channel of a row; gives its manifest row and the size of its file."""
        corpus = self.corpus
        source = Source(row, source_path, file_bytes, channel)
        rate = source.sample_rate
        if rate != RATE and not corpus.any_rate:
            hint = "it needs none of this" if rate == OUT_RATE else "it is no telephone recording as it came"
            raise ValueError(
                f"{source.path}: its sample rate is {rate} Hz, not {RATE}: {hint}; --any-rate takes it too"
            )
        source.check_length(OUT_RATE)
        split = corpus.channels == "split" and channel is not None
        folder = f"channel{channel}" if split else "audio"
        name = f"{folder}/{self.table.audio_name(utterance, '.' + corpus.format)}"
        path = f"{corpus.out}/{name}"
        limits = _Limits()
        if source.num_samples <= BLOCK_S * rate:
            signal = limits.to_int16(upsample_block(source.read_all(), rate, corpus.quality))
            size = writer.write(path, signal, OUT_RATE)
        else:
            with writer.stream(path, OUT_RATE) as audio:
                for block in _blocks(source, corpus.quality):
                    audio.write(limits.to_int16(block))
            size = Path(path).stat().st_size
        made = {name: value for name, value in row.items() if name not in REPLACED_FIELDS}
        made["audio_filepath"] = f"{corpus.out.name}/{name}"
        made["duration"] = limits.num_samples / OUT_RATE
        made["id"] = f"{utterance}#channel{channel}" if split else utterance
        if split:
            made["source_id"] = utterance
        made["upsampled"] = {"from": rate, "quality": corpus.quality, "version": VERSION}
        if channel is not None:
            made["upsampled"]["channel"] = channel
        if limits.num_clipped:
            made["upsampled"]["clipped"] = limits.num_clipped
        return made, size


class _Limits:
    """Rounds to int16 and counts what lies beyond: between full-scale samples the signal may."""

    def __init__(self) -> None:
        self.num_samples = self.num_clipped = 0

    def to_int16(self, samples: np.ndarray) -> np.ndarray:
        scaled = np.rint(samples * np.float32(32768.0))
        limited = np.clip(scaled, -32768, 32767)
        self.num_samples += len(samples)
        self.num_clipped += int(np.count_nonzero(limited != scaled))
        return limited.astype(np.int16)


def _blocks(source: Source, quality: str) -> Iterator[np.ndarray]:
    """Give a recording at 16 kHz in blocks without a seam, whose lengths add up to that of the whole."""
    rate, total = source.sample_rate, source.num_samples
    block, context = int(BLOCK_S) * rate, int(CONTEXT_S * rate)
    length = converted_length(total, rate, OUT_RATE)
    for start in range(0, total, block):
        first = max(0, start - rate)  # whole seconds before, so that the samples fall on the same grid
        end = min(total, start + block + context)
        changed = upsample_block(source.read(first, end - first), rate, quality)
        skipped = (start - first) // rate * OUT_RATE
        begin = start // rate * OUT_RATE
        wanted = min(length, begin + int(BLOCK_S) * OUT_RATE) - begin
        yield changed[skipped : skipped + wanted]
