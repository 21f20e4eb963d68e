"""A manifest through the telephone: shards that can stop anywhere and go on, one manifest at the end.

Under the output folder lie copyC/ID.flac and records/DIGEST/SHARD.jsonl, one line per utterance that is
done or failed.  DIGEST stands for everything the result depends on (settings, manifests, library versions);
lines written under another digest are not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import soundfile
import soxr

from nest_ssl.files.atomic import replaced
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.manifest import check_is_file, write_rows
from nest_ssl.files.rows import audio_path, row_identity, text_digest
from nest_ssl.files.system import flush_all_to_disk
from nest_ssl.telephone.chain import apply_channel, draw_channel
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.noise import NoiseBank, TalkerPool, prompt_key, read_utterance
from nest_ssl.telephone.presets import Mix
from nest_ssl.telephone.records import RecordFile, flac_bytes, read_records, scan_records, write_bytes
from nest_ssl.telephone.seed import SCHEMA, key_bucket

MAX_DURATION_S = 3600.0  # one utterance is held in memory as a whole

log = logging.getLogger(__name__)


@dataclass
class TelephoneCorpus:
    """What to simulate: `manifest` into the folder `out`, `copies` channels per utterance, drawn from `mix`.

    Raises ValueError for a manifest that is empty.
    """

    manifest: Path
    out: Path
    mix: Mix
    seed: int
    copies: int = 1
    noise_manifest: Path | None = None
    out_rate: int = 16000
    split_seed: int = 0  # of the later split by key: babble keeps within it
    index: ManifestIndex = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.index = ManifestIndex.open(self.manifest)
        if len(self.index) == 0:
            raise ValueError(f"{self.manifest}: the manifest has no rows, so there is nothing to simulate")
        if self.noise_manifest:
            check_is_file(self.noise_manifest)
        self.digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def num_outputs(self) -> int:
        return len(self.index) * self.copies

    @property
    def records(self) -> Path:
        """Folder of the lines written under these settings."""
        return self.out / "records" / self.digest

    def settings(self) -> dict[str, Any]:
        """Give everything that the bytes of the output depend on."""
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "out_rate": self.out_rate,
            "split_seed": self.split_seed,
            "mix": self.mix.settings(),
            "manifest": _file_digest(self.manifest),
            "noise_manifest": _file_digest(self.noise_manifest) if self.noise_manifest else None,
            "versions": {
                "codecs": {name: codec.version() for name, codec in CODECS.items()},
                "numpy": np.__version__,
                "scipy": scipy.__version__,
                "soxr": soxr.__version__,
                "libsndfile": soundfile.__libsndfile_version__,
            },
        }

    def scan(self) -> np.ndarray:
        """Read every row once; gives the bucket of each row's prompt key, (rows,) uint8.

        Raises ValueError naming the lines of two rows of one utterance id: their outputs would be one file.
        """
        names = np.empty(len(self.index), np.uint64)
        buckets = np.empty(len(self.index), np.uint8)
        for i in range(len(self.index)):
            row = self.index.row(i)
            names[i] = text_digest(row_identity(row))
            buckets[i] = key_bucket(prompt_key(row), self.split_seed)
        order = np.argsort(names, kind="stable")
        twice = np.flatnonzero(names[order][1:] == names[order][:-1])
        if len(twice):
            first, second = (int(order[twice[0] + i]) for i in (0, 1))
            raise ValueError(
                f"{self.manifest}:{self.index.line(second)}: the utterance id "
                f"{row_identity(self.index.row(second))!r} is that of line {self.index.line(first)}; "
                f"ids (or audio files, where there are no ids) must differ"
            )
        return buckets

    def noise_bank(self, buckets: np.ndarray) -> NoiseBank:
        """Open the sources of noise that the mix asks for; a kind without its source is named in the log."""
        kinds = self.mix.noise_kinds()
        talkers = TalkerPool(self.index, buckets, self.split_seed) if "babble" in kinds else None
        music = ManifestIndex.open(self.noise_manifest) if self.noise_manifest else None
        if music is not None and len(music) == 0:
            raise ValueError(f"{self.noise_manifest}: the noise manifest has no rows")
        if "music" in kinds and music is None:
            log.warning("noise kind music left out: no --noise-manifest was given")
        return NoiseBank(talkers, music if "music" in kinds else None)

    def audio_path(self, utterance: str, copy: int) -> Path:
        """Where one copy of an utterance is written; different ids never share a path."""
        parts = [_file_name(part) for part in utterance.split("/")]
        return self.out.joinpath(f"copy{copy}", *parts[:-1], parts[-1] + ".flac")


@dataclass
class ShardResult:
    """Counts of one run over one shard; hours and seconds are those of the newly written audio."""

    outputs: int = 0
    written: int = 0
    resumed: int = 0
    errors: int = 0
    audio_s: float = 0.0
    cpu_s: float = 0.0


def run_shard(
    corpus: TelephoneCorpus, shard: int, num_shards: int, advance: Callable[[int], Any] = lambda count: None
) -> ShardResult:
    """Simulate every num_shards-th row from the shard's own on, where not done yet; `advance` counts them.

    An utterance that cannot be read is recorded with its reason and tried again by the next run.  What the
    disk refuses stops the run with OutOfSpace.
    """
    if not 1 <= shard <= num_shards:
        raise ValueError(f"shard {shard}/{num_shards}: the first number runs from 1 to the second")
    _write_settings(corpus)
    done = {
        (record["row"], record["copy"])
        for _, record in scan_records(corpus.records)
        if record["row"] % num_shards == shard - 1 and _is_final(record) and _is_valid(corpus, record)
    }
    bank = corpus.noise_bank(corpus.scan())
    result = ShardResult()
    cpu_before = time.process_time()
    with RecordFile(corpus.records / f"{shard}-of-{num_shards}.jsonl") as records:
        for row_number in range(shard - 1, len(corpus.index), num_shards):
            for copy in range(corpus.copies):
                result.outputs += 1
                if (row_number, copy) in done:
                    result.resumed += 1
                else:
                    record = _simulate(corpus, bank, row_number, copy)
                    records.append(record)
                    if "error" in record:
                        result.errors += 1
                        log.warning("utterance %s left out: %s", record["id"], record["error"])
                    else:
                        result.written += 1
                        result.audio_s += record["manifest"]["duration"]
                advance(1)
    result.cpu_s = time.process_time() - cpu_before
    return result


def merge(corpus: TelephoneCorpus, max_error_rate: float) -> tuple[int, int]:
    """Write OUT.jsonl (and OUT.errors.jsonl) from the records of all shards, in the order of the manifest.

    Gives (rows, errors).  Every utterance of the input must be in one or the other: raises ValueError if some
    have not been simulated, or if more than `max_error_rate` of them failed; then no manifest is written.
    """
    places: dict[Path, int] = {}
    where = np.full((corpus.num_outputs, 2), -1, dtype=np.int64)  # file number, offset of the valid record
    failed = np.full((corpus.num_outputs, 2), -1, dtype=np.int64)
    for (path, offset), record in scan_records(corpus.records):
        output = record["row"] * corpus.copies + record["copy"]
        if record["copy"] >= corpus.copies:
            continue
        place = (places.setdefault(path, len(places)), offset)
        if "error" in record:
            failed[output] = place
        elif _is_valid(corpus, record):
            where[output] = place
    is_done, is_failed = where[:, 0] >= 0, failed[:, 0] >= 0
    missing = np.flatnonzero(~is_done & ~is_failed)
    if len(missing):
        row = corpus.index.row(int(missing[0]) // corpus.copies)
        raise ValueError(
            f"{corpus.manifest}: {len(missing)} of {corpus.num_outputs} utterances have not been simulated "
            f"(the first is {row_identity(row)}); run the shards again"
        )
    is_failed &= ~is_done
    files = list(places)
    errors_path = corpus.out.with_name(corpus.out.name + ".errors.jsonl")
    errors = int(is_failed.sum())
    if errors:
        write_rows(errors_path, read_records(files, failed[is_failed]))
        log.warning("%d of %d utterances failed, listed in %s", errors, corpus.num_outputs, errors_path)
    else:
        errors_path.unlink(missing_ok=True)
    manifest = corpus.out.with_name(corpus.out.name + ".jsonl")
    if errors > max_error_rate * corpus.num_outputs:
        manifest.unlink(missing_ok=True)
        raise TooManyErrors(
            f"{errors} of {corpus.num_outputs} utterances failed, more than {max_error_rate:.1%}; "
            f"{errors_path} names them with reasons. Mend or remove them and run again, or allow more with "
            f"--max-error-rate"
        )
    # The audio was written without waiting for the disk; the manifest promises that it is there.
    flush_all_to_disk()
    rows = write_rows(manifest, (record["manifest"] for record in read_records(files, where[is_done])))
    return rows, errors


class TooManyErrors(ValueError):
    """More utterances failed than were allowed."""


def _simulate(corpus: TelephoneCorpus, bank: NoiseBank, row_number: int, copy: int) -> dict[str, Any]:
    """Make one output; gives its record."""
    row = corpus.index.row(row_number)
    utterance = row_identity(row)
    record: dict[str, Any] = {"row": row_number, "copy": copy, "id": utterance}
    try:
        samples, rate = read_utterance(corpus.manifest, row)
        source = _source_stamp(corpus, row)
        if len(samples) > MAX_DURATION_S * rate:
            raise ValueError(f"longer than {MAX_DURATION_S:.0f} s; cut it into segments")
        drawn = draw_channel(corpus.mix, bank, corpus.seed, utterance, prompt_key(row), copy)
        signal, channel = apply_channel(samples, rate, drawn, bank, corpus.out_rate)
    except (ValueError, OSError) as error:
        return record | {"error": f"{corpus.manifest}:{corpus.index.line(row_number)}: {error}"}
    path = corpus.audio_path(utterance, copy)
    content = flac_bytes(signal, corpus.out_rate)
    write_bytes(path, content)
    replaced_fields = ("audio_filename", "offset", "channel_selector")
    out_row = {name: value for name, value in row.items() if name not in replaced_fields}
    out_row["audio_filepath"] = path.relative_to(corpus.out.parent).as_posix()
    out_row["duration"] = len(signal) / corpus.out_rate
    out_row["id"] = f"{utterance}#telephone{copy}"
    out_row["source_id"] = utterance
    out_row["key"] = prompt_key(row)
    out_row["channel"] = channel
    return record | {"bytes": len(content), "source": source, "manifest": out_row}


def _is_final(record: Mapping[str, Any]) -> bool:
    """False where another run may do better: the utterance failed, or babble lacks an unreadable talker."""
    if "error" in record:
        return False
    noise = record["manifest"]["channel"]["noise"]
    return not (noise and noise.get("left_out"))


def _is_valid(corpus: TelephoneCorpus, record: Mapping[str, Any]) -> bool:
    """True if the record's output is there in full and its source and its id are as they were."""
    try:
        output = corpus.out.parent / record["manifest"]["audio_filepath"]
        row = corpus.index.row(record["row"])
        if record["id"] != row_identity(row):
            return False
        return output.stat().st_size == record["bytes"] and _source_stamp(corpus, row) == record["source"]
    except (OSError, ValueError):
        return False


def _source_stamp(corpus: TelephoneCorpus, row: Mapping[str, Any]) -> list[int]:
    status = audio_path(row, corpus.manifest).stat()
    return [status.st_size, status.st_mtime_ns]


def _write_settings(corpus: TelephoneCorpus) -> None:
    """Leave the settings beside the records, and name earlier ones that they take the place of."""
    path = corpus.records / "settings.json"
    others = [folder.name for folder in corpus.records.parent.glob("*") if folder.name != corpus.digest]
    if not path.is_file():
        if others:
            log.warning(
                "%s holds utterances simulated under other settings (%s); they are made anew and overwritten",
                corpus.out,
                ", ".join(sorted(others)),
            )
        with replaced(path) as temporary:
            temporary.write_text(json.dumps(corpus.settings(), indent=1) + "\n", encoding="utf-8")


def _file_name(part: str) -> str:
    """Give a part of an id as a file name; safe on any file system and different for different parts."""
    name = urllib.parse.quote(part, safe=" +=@,")
    if name in ("", ".", "..") or name.startswith("."):
        name = "%2E" + name[1:] if name else "%00"
    if len(name) > 180:
        name = name[:120] + "%" + hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return name


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
