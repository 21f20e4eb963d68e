"""A manifest through the telephone: each utterance gets channels of its own, drawn and written down.

Under the output folder lie copyC/ID.flac and the records of jobs.py.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.digests import file_digest
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import audio_path, row_identity
from nest_ssl.telephone import jobs, pieces
from nest_ssl.telephone.chain import apply_channel, draw_channel
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.filters import apply_filters
from nest_ssl.telephone.noise import NoiseBank, TalkerPool, prompt_key
from nest_ssl.telephone.presets import Mix
from nest_ssl.telephone.recordings import files_below, open_recordings
from nest_ssl.telephone.records import OutOfSpace, encode
from nest_ssl.telephone.resample import resample
from nest_ssl.telephone.row_table import RowTable, scan_talkers
from nest_ssl.telephone.seed import SCHEMA
from nest_ssl.telephone.settings import library_line, library_versions, plain
from nest_ssl.telephone.sources import Source
from nest_ssl.telephone.workers import Unit
from nest_ssl.telephone.writer import AudioWriter

REPLACED_FIELDS = ("audio_filename", "offset", "channel_selector")

log = logging.getLogger(__name__)


@dataclass
class TelephoneCorpus:
    """What to simulate: `manifest` into the folder `out`, `copies` channels per utterance, drawn from `mix`.

    recordings: by kind of noise, a manifest of recordings or a folder of them.  Raises ValueError for a
    manifest that is empty, and CodecMissing for a mix whose codecs are not all here.
    """

    manifest: Path
    out: Path
    mix: Mix
    seed: int
    copies: int = 1
    recordings: Mapping[str, Path] = field(default_factory=dict)
    out_rate: int = 16000
    split_seed: int = 0  # of the later split by key: babble keeps within it
    format: str = "flac"
    index: ManifestIndex = field(init=False)
    verb: str = field(default="simulate", init=False)

    def __post_init__(self) -> None:
        self.mix.check()
        self.index = ManifestIndex.open(self.manifest)
        if len(self.index) == 0:
            raise ValueError(f"{self.manifest}: the manifest has no rows, so there is nothing to simulate")
        self._noises: dict[str, ManifestIndex] = {}
        for kind, path in self.recordings.items():
            listing = self.out / "recordings" / f"{kind}.jsonl"
            self._noises[kind], left_out = open_recordings(path, listing)
            if left_out:
                log.warning("noise kind %s: %d files of %s left out, such as %s",
                            kind, len(left_out), path, left_out[0])  # fmt: skip
        self._settings = self._all_settings()
        self.libraries = library_line()

    def settings(self) -> dict[str, Any]:
        """Give everything that the bytes of the output depend on."""
        return self._settings

    def _all_settings(self) -> dict[str, Any]:
        return plain(
            {
                "schema": SCHEMA,
                "seed": self.seed,
                "out_rate": self.out_rate,
                "format": self.format,
                "split_seed": self.split_seed,
                **self.mix.settings(),
                "manifest": file_digest(self.manifest),
                "rooms": {folder: _listing_digest(folder) for folder in sorted(self._room_folders())},
                "recordings": {kind: index.fingerprint() for kind, index in sorted(self._noises.items())},
                "versions": library_versions()
                | {"codecs": {name: CODECS[name].version() for name in sorted(self.mix.codecs())}},
            }
        )

    def _room_folders(self) -> set[str]:
        """Folders of recorded room responses that the mix draws from."""
        rooms = [preset.stages.get("room") for preset in self.mix.presets]
        return {str(room["folder"]) for room in rooms if room and room.get("folder")}

    def work(self, temporary: Path) -> Simulation:
        """Read every row once and give what the workers do; ValueError for two rows of one utterance id."""
        table, talkers = scan_talkers(self.index, self.split_seed)
        return Simulation(self, table, self._noise_bank(talkers), temporary)

    def _noise_bank(self, talkers: TalkerPool) -> NoiseBank:
        """Open the sources of noise that the mix asks for; a kind without its source is named in the log."""
        kinds = self.mix.noise_kinds()
        for kind in sorted(kinds - self._noises.keys() - {"babble", "coloured"}):
            log.warning("noise kind %s left out: no --noise-manifest %s=PATH was given", kind, kind)
        unused = sorted(self._noises.keys() - kinds)
        if unused:
            log.warning("recordings of noise kind %s: the mix draws none of them", ", ".join(unused))
        recordings = {kind: index for kind, index in self._noises.items() if kind in kinds}
        return NoiseBank(talkers if "babble" in kinds else None, recordings)


@dataclass
class Simulation:
    """What a worker needs to simulate any output of a corpus."""

    corpus: TelephoneCorpus
    table: RowTable
    bank: NoiseBank
    temporary: Path

    def start(self) -> Callable[[Unit], bytes]:
        """Give the function that makes one output."""
        return partial(self._simulate, AudioWriter(self.temporary, self.corpus.format))

    def _simulate(self, writer: AudioWriter, unit: Unit) -> bytes:
        corpus, (row_number, copy) = self.corpus, unit
        row = corpus.index.row(row_number)
        utterance = row_identity(row)
        try:
            source_path = audio_path(row, corpus.manifest)
            stamp = jobs.source_stamp(source_path)
            source = Source(row, source_path, stamp[0])
            drawn = draw_channel(corpus.mix, self.bank, corpus.seed, utterance, prompt_key(row), copy)
            name = f"copy{copy}/{self.table.audio_name(utterance, '.' + corpus.format)}"
            num_samples, size, channel = self._make(source, drawn, writer, f"{corpus.out}/{name}")
        except OutOfSpace:
            raise
        except Exception as error:  # one file must not end a corpus; all are counted
            return jobs.error_line(corpus, row_number, copy, utterance, error)
        made = {name: value for name, value in row.items() if name not in REPLACED_FIELDS}
        made["audio_filepath"] = f"{corpus.out.name}/{name}"
        made["duration"] = num_samples / corpus.out_rate
        made["id"] = f"{utterance}#telephone{copy}"
        made["source_id"] = utterance
        made["key"] = prompt_key(row)
        made["channel"] = {**channel, "libraries": corpus.libraries}
        record: dict[str, Any] = {"row": row_number, "copy": copy, "id": utterance}
        if any((channel.get(name) or {}).get("left_out") for name in pieces.NOISES):
            record["provisional"] = True  # babble lacks an unreadable talker
        return encode(record | {"bytes": [size], "source": stamp, "manifest": [made]})

    def _make(
        self, source: Source, drawn: dict[str, Any], writer: AudioWriter, path: str
    ) -> tuple[int, int, dict[str, Any]]:
        """Send a recording through the drawn channel, write it; gives its length, its bytes, the record."""
        rate, out_rate = source.sample_rate, self.corpus.out_rate
        source.check_length(out_rate)
        if not source.is_long:
            signal, channel = apply_channel(source.read_all(), rate, drawn, self.bank, out_rate)
            return len(signal), writer.write(path, signal, out_rate), channel
        shifts = pieces.level_shifts(_as_sent(source, drawn), drawn["rate"])
        num_samples, measured = 0, []
        with writer.stream(path, out_rate) as audio:
            for number, (start, samples) in enumerate(source.pieces()):
                shift_db = shifts[number]
                piece = pieces.piece_channel(drawn, number, shift_db, start / rate)
                signal, channel = apply_channel(samples, rate, piece, self.bank, out_rate)
                audio.write(signal)
                num_samples += len(signal)
                measured.append({"start": start, "shift_db": shift_db, **_measurements(channel)})
        size = Path(path).stat().st_size
        return num_samples, size, dict(drawn) | {"pieces": measured}


def _as_sent(source: Source, channel: Mapping[str, Any]) -> Iterator[tuple[int, np.ndarray]]:
    """Give the pieces of a recording as the handset colours them, at the rate of the channel."""
    for start, samples in source.pieces():
        narrow = resample(samples, source.sample_rate, channel["rate"])
        handset = {name: channel[name] for name in ("weighting", "high_pass", "g712")}
        yield start, apply_filters(narrow, channel["rate"], **handset)


def _listing_digest(folder: str) -> str:
    """Give what tells whether files of a folder came, went or changed their sizes."""
    root = Path(folder)
    names = [f"{path.relative_to(root).as_posix()} {path.stat().st_size}" for path in files_below(root)]
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _measurements(channel: Mapping[str, Any]) -> dict[str, Any]:
    names = ("speech_dbov", "level_dbov", "gain_db", "limited_db")
    counts = ("frames", "lost_frames")
    legs = [{name: leg[name] for name in counts if name in leg} for leg in channel["legs"]]
    return {name: channel[name] for name in names if name in channel} | {"legs": legs}
