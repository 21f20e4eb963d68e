"""Step 2: audio is measured once, and rows with annotation errors go to the dropped file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from nest_ssl.data.annotation import AnnotationRules, CorpusCheck
from nest_ssl.data.audio_facts import audio_facts
from nest_ssl.data.stage0.parallel import batches, ordered_map
from nest_ssl.data.stage0.rows import Row, appended, count_rows, rows_in, sorter
from nest_ssl.data.stage0.steps import file_fact, write_json
from nest_ssl.files.manifest import write_rows

ROWS_PER_TASK = 16


def measure(rows: Path, facts: Path, workers: int, advance: Callable[[int], Any]) -> None:
    """Write the facts of each row's audio, line by line in the order of the rows; a kill costs a few rows.

    Facts that are there are kept, but those of files that have changed since are measured again.
    """
    _measure_again(rows, facts, workers)
    with appended(facts) as add:
        done = count_rows(facts)
        advance(done)
        todo = batches(islice(_rows(rows), done, None), ROWS_PER_TASK)
        for found in ordered_map(_measure_batch, todo, workers):
            add(found)
            advance(len(found))


def changed_audio(rows: Path, facts: Path) -> set[str]:
    """Give the audio files whose size or time is not what it was when their facts were measured."""
    if not facts.is_file():
        return set()
    with appended(facts):
        pass  # a line that a kill left unfinished is cut off
    stamp = lru_cache(maxsize=4096)(_stamp)
    pairs = zip(_rows(rows), rows_in(facts), strict=False)  # a kill leaves fewer facts
    return {
        row["audio_filepath"] for row, record in pairs if record.get("file") != stamp(row["audio_filepath"])
    }


def _measure_again(rows: Path, facts: Path, workers: int) -> None:
    changed = changed_audio(rows, facts)
    if not changed:
        return
    stale = (row for row in islice(_rows(rows), count_rows(facts)) if row["audio_filepath"] in changed)
    fresh = (
        record
        for found in ordered_map(_measure_batch, batches(stale, ROWS_PER_TASK), workers)
        for record in found
    )
    pairs = zip(_rows(rows), rows_in(facts), strict=False)
    write_rows(facts, (next(fresh) if row["audio_filepath"] in changed else record for row, record in pairs))


def _rows(rows: Path) -> Iterator[Row]:
    """The rows with their audio by absolute paths."""
    for row in rows_in(rows):
        yield row | {"audio_filepath": str(rows.absolute().parent / row["audio_filepath"])}


def _stamp(path: str) -> list[int] | None:
    """Give a file's size and time, None if it is not there."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def facts_path(folder: Path, rows: Path) -> Path:
    """Where the facts of these rows are: under a name of their content, so that others are never mistaken."""
    return folder / f"facts-{file_fact(rows).split()[-1]}.jsonl"


def filter_annotation(rows: Path, facts: Path, rules: AnnotationRules, folder: Path) -> None:
    """Write annotated.jsonl, annotation-dropped.jsonl and annotation.json into `folder`.

    Rows that stay get the level, activity and exact duration of their audio.
    """
    corpus = CorpusCheck(rules)
    for row, found in _both(rows, facts):
        corpus.see(row, found)
    with sorter("annotation", folder / "annotated.jsonl", folder / "annotation-dropped.jsonl") as files:
        for row, found in _both(rows, facts):
            faults = corpus.check(row, found, str(row.get("place", "")))
            if faults:
                files.drop(row, list(faults), [str(detail) for detail in faults.values()])
                continue
            row["duration"] = found.get("duration", row["duration"])
            for name, fact in (
                ("source_rate", "sample_rate"),
                ("source_level_dbov", "active_level_dbov"),
                ("source_activity", "activity"),
            ):
                row[name] = found.get(fact)
            files.keep(row)
    write_json(folder / "annotation.json", {"rules": rules.as_dict(), "rates": corpus.rates()})


def _both(rows: Path, facts: Path) -> Iterator[tuple[Row, dict[str, Any]]]:
    for row, record in zip(rows_in(rows), rows_in(facts), strict=True):
        if record["id"] != row["id"]:
            raise ValueError(f"{facts}: facts of {record['id']} stand where {row['id']} is; remove the file")
        yield row, record["facts"]


def _measure_batch(batch: list[Row]) -> list[dict[str, Any]]:
    return [
        {
            "id": row["id"],
            "file": _stamp(row["audio_filepath"]),
            "facts": audio_facts(
                row["audio_filepath"], row.get("offset"), row.get("duration"), row.get("channel_selector")
            ),
        }
        for row in batch
    ]
