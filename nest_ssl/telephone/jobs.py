"""A manifest made into another one: shards that can stop anywhere and go on, one manifest at the end.

Under the output folder lie the audio files and records/DIGEST/SHARD.jsonl, one line per output that is done
or failed.  DIGEST stands for everything the result depends on (settings, manifests, library versions).
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nest_ssl.files.atomic import replaced
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import audio_path, row_identity, text_digest
from nest_ssl.files.system import flush_all_to_disk
from nest_ssl.telephone import records, settings
from nest_ssl.telephone.workers import Report, Unit, Work, run_tasks
from nest_ssl.telephone.writer import remove_leftovers

UNITS_PER_TASK = 16
TASK_S = 600.0  # of audio, at most, in a task of several units
UNSTATED_S = 10.0  # taken for rows that state no duration
ERRORS_LOGGED = 20  # one by one; the file of errors has them all

log = logging.getLogger(__name__)


class Job(Protocol):
    """What is made of each row of a manifest, `copies` outputs of one row or more."""

    verb: str  # for messages
    manifest: Path
    out: Path
    index: ManifestIndex
    copies: int

    def settings(self) -> Mapping[str, Any]:
        """Give everything that the bytes of the output depend on, of JSON types."""

    def work(self, temporary: Path) -> Work:
        """Check all rows and give what the workers do: (row, copy) -> a line of the records."""


@dataclass
class ShardResult:
    """Counts of one run over one shard; hours and seconds are those of the newly written audio."""

    outputs: int = 0
    written: int = 0
    resumed: int = 0
    errors: int = 0
    audio_s: float = 0.0
    cpu_s: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)


class TooManyErrors(ValueError):
    """More utterances failed than were allowed."""


def records_folder(job: Job) -> Path:
    """Give the folder of the records written under the job's settings."""
    return job.out / "records" / settings.settings_digest(job.settings())


def run_shard(
    job: Job,
    shard: int = 1,
    num_shards: int = 1,
    workers: int = 1,
    force: bool = False,
    advance: Callable[[int, float], Any] = lambda count, audio_s: None,
) -> ShardResult:
    """Do every num_shards-th row from the shard's own on, where not done yet, with `workers` processes.

    advance: told how many outputs more are done, and their seconds of audio (those of earlier runs with 0).
    An utterance that cannot be done is recorded with its reason and tried again by the next run.  What the
    disk refuses stops the run with OutOfSpace; outputs of other settings in the folder are refused with
    ValueError unless `force` makes them anew.
    """
    if not 1 <= shard <= num_shards:
        raise ValueError(f"shard {shard}/{num_shards}: the first number runs from 1 to the second")
    folder = settings.claim(job.out / "records", job.settings(), job.out, job.verb, force)
    result = ShardResult(outputs=len(range(shard - 1, len(job.index), num_shards)) * job.copies)
    temporary = job.out / "records" / f"unfinished-{shard}-of-{num_shards}"
    started = time.process_time()
    with records.RecordFile(folder / f"{shard}-of-{num_shards}.jsonl") as file:
        remove_leftovers(temporary)
        done = _done(job, folder, shard, num_shards)
        result.resumed = int(done.sum())
        advance(result.resumed, 0.0)
        tasks = _tasks(job, done, shard, num_shards)
        try:
            for report in run_tasks(job.work(temporary), tasks, workers, [file]):
                line = report.result if report.result is not None else _death(job, report)
                file.append([line], time.monotonic())
                _count(result, line, advance)
                result.cpu_s += report.cpu_s
        finally:
            remove_leftovers(temporary)
    result.cpu_s += time.process_time() - started
    return result


def merge(job: Job, max_error_rate: float) -> tuple[int, int]:
    """Write OUT.jsonl (and OUT.errors.jsonl) from the records of all shards, in the order of the manifest.

    Gives (outputs, errors).  Every row of the input must be in one or the other: raises ValueError if some
    have not been done, or if more than `max_error_rate` of them failed; then no manifest is written.
    """
    settings.refuse_mix(job.out / "records", job.settings(), job.out, job.verb)
    files = records.record_files(records_folder(job))
    total = len(job.index) * job.copies
    places = np.full(total, -1, np.int64)
    failed = np.zeros(total, bool)
    for place, row, copy, line in records.scan_lines(files):
        if row >= len(job.index) or copy >= job.copies:
            continue
        output = row * job.copies + copy
        if not records.is_error(line) and _is_valid(job, line):
            places[output], failed[output] = place, False
        elif places[output] < 0 and records.is_error(line):
            places[output], failed[output] = place, True
        elif failed[output] and records.is_error(line):
            places[output] = place
    missing = np.flatnonzero(places < 0)
    if len(missing):
        first = row_identity(job.index.row(int(missing[0]) // job.copies))
        raise ValueError(
            f"{job.manifest}: {len(missing)} of {total} utterances have not been done by {job.verb} "
            f"(the first is {first}); run the shards again"
        )
    errors = int(failed.sum())
    errors_path = job.out.with_name(job.out.name + ".errors.jsonl")
    if errors:
        _write_errors(errors_path, records.read_lines(files, places[failed]), errors, total)
    else:
        errors_path.unlink(missing_ok=True)
    manifest = job.out.with_name(job.out.name + ".jsonl")
    if errors > max_error_rate * total:
        manifest.unlink(missing_ok=True)
        raise TooManyErrors(
            f"{errors} of {total} utterances failed, more than {max_error_rate:.1%}; {errors_path} names "
            f"them with reasons. Mend or remove them and run again, or allow more with --max-error-rate"
        )
    # The audio was written without waiting for the disk; the manifest promises that it is there.
    flush_all_to_disk()
    _write_manifest(job, manifest, records.read_lines(files, places[~failed]))
    return total - errors, errors


def error_line(job: Job, row_number: int, copy: int, utterance: str, error: Exception | str) -> bytes:
    """Give the record of an output that failed."""
    kind, said = _kind(error), str(error)
    if isinstance(error, Exception) and not isinstance(error, ValueError | OSError):
        last = traceback.extract_tb(error.__traceback__)[-1]
        kind, said = "fault", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    return records.encode(
        {
            "row": row_number,
            "copy": copy,
            "id": utterance,
            "kind": kind,
            "error": f"{job.manifest}:{job.index.line(row_number)}: {said}",
        }
    )


def source_stamp(path: Path) -> list[int]:
    """Give what tells whether a source file has changed, its size and its time; FileNotFoundError."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"audio file {path} does not exist") from error
    return [status.st_size, status.st_mtime_ns]


# What an error says -> its kind in the counts; the first that fits. The words are those of files.audio.
KINDS = (
    ("does not exist", "missing"),
    ("no audio samples", "empty"),
    ("is empty", "empty"),
    ("behind the end", "empty"),
    ("not finite", "not_finite"),
    ("channel", "channels"),
    ("damaged", "damaged"),
    ("not readable", "unreadable"),
    ("sample rate", "sample_rate"),
    ("too long", "too_long"),
    ("its process", "died"),
)


def _kind(error: Exception | str) -> str:
    text = str(error)
    return next((kind for words, kind in KINDS if words in text), "other")


def _death(job: Job, report: Report) -> bytes:
    row_number, copy = report.unit
    said = f"{report.death} while it worked on this, twice; the file or a library that reads it is at fault"
    return error_line(job, row_number, copy, row_identity(job.index.row(row_number)), said)


def _count(result: ShardResult, line: bytes, advance: Callable[[int, float], Any]) -> None:
    record = json.loads(line)
    if "error" in record:
        result.errors += 1
        result.reasons[record["kind"]] += 1
        if result.errors <= ERRORS_LOGGED:
            log.warning("utterance %s left out: %s", record["id"], record["error"])
        if result.errors == ERRORS_LOGGED:
            log.warning("more utterances that are left out are counted, and listed at the end")
        advance(1, 0.0)
        return
    result.written += 1
    audio_s = sum(row["duration"] for row in record["manifest"])
    result.audio_s += audio_s
    advance(1, audio_s)


def _done(job: Job, folder: Path, shard: int, num_shards: int) -> np.ndarray:
    """Which outputs need not be made again, (rows * copies,) bool, those of this shard only."""
    done = np.zeros(len(job.index) * job.copies, bool)
    for _, row, copy, line in records.scan_lines(records.record_files(folder)):
        ours = row % num_shards == shard - 1 and row < len(job.index) and copy < job.copies
        if ours and not records.is_error(line):
            done[row * job.copies + copy] = _is_valid(job, line, final=True)
    return done


def _tasks(job: Job, done: np.ndarray, shard: int, num_shards: int) -> Iterator[list[Unit]]:
    """Give the units to do in the order of the manifest, some at a time."""
    task: list[Unit] = []
    audio_s = 0.0
    for row in range(shard - 1, len(job.index), num_shards):
        for copy in range(job.copies):
            if done[row * job.copies + copy]:
                continue
            duration = float(job.index.durations[row])
            audio_s += duration if duration > 0 else UNSTATED_S
            task.append((row, copy))
            if len(task) == UNITS_PER_TASK or audio_s > TASK_S:
                yield task
                task, audio_s = [], 0.0
    if task:
        yield task


def _is_valid(job: Job, line: bytes, final: bool = False) -> bool:
    """True if the record's outputs are there in full and its source and its id are as they were.

    final: ask also that another run could do no better.
    """
    try:
        record = json.loads(line)
        row = job.index.row(record["row"])
        if record["id"] != row_identity(row) or (final and record.get("provisional")):
            return False
        for made, size in zip(record["manifest"], record["bytes"], strict=True):
            if (job.out.parent / made["audio_filepath"]).stat().st_size != size:
                return False
        return source_stamp(audio_path(row, job.manifest)) == record["source"]
    except (OSError, ValueError, KeyError):
        return False


def _write_errors(path: Path, lines: Iterator[bytes], errors: int, total: int) -> None:
    kinds: Counter[str] = Counter()
    with replaced(path) as temporary, open(temporary, "wb") as file:
        for line in lines:
            kinds[json.loads(line)["kind"]] += 1
            file.write(line)
    counted = " ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    log.warning("%d of %d utterances failed (%s), listed in %s", errors, total, counted, path)


def _write_manifest(job: Job, path: Path, lines: Iterator[bytes]) -> None:
    old = bool(settings.superseded(job.out / "records"))
    kept: set[int] = set()
    with replaced(path) as temporary, open(temporary, "wb", buffering=1 << 20) as file:
        for line in lines:
            for row in records.manifest_lines(line):
                file.write(row)
                if old:
                    kept.add(text_digest(json.loads(row)["audio_filepath"]))
    if old:
        removed = settings.remove_superseded(job.out / "records", job.out, kept, text_digest)
        log.info("%s removed %d files of earlier settings", job.verb, removed)
