"""Step 1: every utterance of the sources as a row, with its place, its recording, and an account."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.data.sources.build import BuildOptions, SourceReport, rows_of
from nest_ssl.data.sources.record import SourceOptions, Unusable
from nest_ssl.data.stage0.rows import Row, rows_in, sorter
from nest_ssl.data.stage0.settings import SetSettings, Source
from nest_ssl.data.stage0.steps import write_json
from nest_ssl.data.stage0.wenetspeech import SourceCount, check_selection, wenetspeech_rows
from nest_ssl.files.atomic import replaced
from nest_ssl.files.rows import row_id, row_identity, split_position

PER_RECORDING_IN_A_TEST = 10
# Sources find some annotation errors before the rules can: they are counted under the rule's name.
RULE_OF = {
    "behind the end of the recording": "audio_shorter_than_segment",
    "double id": "duplicate",
    **dict.fromkeys(("unreadable audio", "cut off", "empty audio"), "audio_unreadable"),
}
MISSING = "audio missing"


@dataclass
class ReadCount:
    """What the sources hold: utterances in all, not selected by reason, and raw = what goes on from here."""

    in_source: int = 0
    not_selected: Counter[str] = field(default_factory=Counter)
    subsets: Counter[str] = field(default_factory=Counter)


def read_sources(
    settings: SetSettings,
    folder: Path,
    seed: int,
    jobs: int,
    limit: int | None = None,
    advance: Callable[[int], Any] = lambda count: None,
) -> None:
    """Write rows.jsonl, read-dropped.jsonl and read.json of a set into `folder`.

    Rows keep what their source knows and have id, audio_filepath (absolute; what lies in `folder`, relative
    to it), duration, text, key, recording, place; parts have offset, channels of several channel_selector.
    `limit`: stop after so many rows.
    Raises ValueError if there is none.
    """
    count = ReadCount()
    picked = folder / "picked.jsonl"
    with sorter("read", picked, folder / "read-dropped.jsonl") as files:
        for item in islice(_items(settings, folder, jobs, limit, count), limit):
            advance(1)
            if isinstance(item, Unusable):
                unusable = {"id": item.id, "place": item.place, **item.known}
                if unusable.get("audio_filepath"):
                    unusable["audio_filepath"] = Path(unusable["audio_filepath"]).absolute().as_posix()
                files.drop(unusable, [rule_name(item.reason)], [item.detail])
            else:
                row, reason, detail = _completed(item, settings, folder)
                if reason:
                    files.drop(row, [rule_name(reason)], [detail])
                else:
                    files.keep(row)
        dropped = files.num_dropped
    raw = _pick(picked, folder / "rows.jsonl", settings, seed, count)
    picked.unlink()
    if raw == 0:
        named = ", ".join(str(source) for source in settings.sources)
        why = "; ".join(f"{number} {reason}" for reason, number in count.not_selected.most_common(3))
        if dropped:
            left_out = Counter(row["reason"] for row in rows_in(folder / "read-dropped.jsonl"))
            why = "; ".join(f"{number} {reason}" for reason, number in left_out.most_common(3))
        example = next((row for row in rows_in(folder / "read-dropped.jsonl")), None)
        first = f". The first: {example['place']}: {example['details'][0]}" if example else ""
        raise ValueError(
            f"{settings.name}: no utterance of {named} can be used: {why or 'there are none'}{first}"
        )
    facts = {
        "in_source": count.in_source,
        "not_selected": dict(sorted(count.not_selected.items())),
        "raw": raw + dropped,
        "subsets": dict(sorted(count.subsets.items())),
    }
    write_json(folder / "read.json", facts)


def rule_name(reason: str) -> str:
    """Give a source's reason as one word, that of the annotation rule where one means the same."""
    return RULE_OF.get(reason) or re.sub(r"\W+", "_", reason)


def audio_has_come(dropped: Path) -> int:
    """Count the rows of read-dropped.jsonl whose audio was missing and is there now."""
    if not dropped.is_file():
        return 0
    missing = (row for row in rows_in(dropped) if row["reason"] == rule_name(MISSING))
    return sum(Path(row["audio_filepath"]).is_file() for row in missing if row.get("audio_filepath"))


def _items(
    settings: SetSettings, folder: Path, jobs: int, limit: int | None, count: ReadCount
) -> Iterator[Row | Unusable]:
    for source in settings.sources:
        if source.kind == "wenetspeech":
            yield from _wenetspeech(source, settings, limit, count)
            continue
        options = BuildOptions(
            SourceOptions(root=settings.root, channels=settings.channels),
            audio_dir=folder / "channels",
            jobs=jobs,
            keep_origin=True,
        )
        kind = "nemo" if source.kind == "manifest" else source.kind
        for item in rows_of(kind, [str(source.path)], folder, options, SourceReport()):
            count.in_source += 1
            if isinstance(item, dict):
                item.setdefault("source", source.kind)
            yield item


def _wenetspeech(
    source: Source, settings: SetSettings, limit: int | None, count: ReadCount
) -> Iterator[Row | Unusable]:
    seen = SourceCount()
    root = (settings.root or source.path.parent).absolute()
    per_recording = None if limit is None else PER_RECORDING_IN_A_TEST
    rows = wenetspeech_rows(source.path, root, settings.selection, seen, per_recording)
    try:
        yield from _with_audio(rows, settings)
        check_selection(source.path, settings.selection, seen)
    finally:  # a test stops in the middle
        count.in_source += seen.segments
        count.not_selected.update(seen.not_selected)
        count.subsets.update(seen.subsets)


def _with_audio(rows: Iterator[Row | Unusable], settings: SetSettings) -> Iterator[Row | Unusable]:
    """The rows whose audio is there; each recording is looked for once."""
    known: tuple[str, bool] = ("", False)
    for item in rows:
        if isinstance(item, dict):
            if settings.audio_extension:
                path = Path(item["audio_filepath"]).with_suffix("." + settings.audio_extension.lstrip("."))
                item["audio_filepath"] = str(path)
            if known[0] != item["audio_filepath"]:
                known = (item["audio_filepath"], Path(item["audio_filepath"]).is_file())
            if not known[1]:
                detail = f"{known[0]} does not exist; `root` names the folder that paths start from"
                item = Unusable(item["id"], item["place"], MISSING, detail, item)
        yield item


def _completed(row: Row, settings: SetSettings, folder: Path) -> tuple[Row, str, str]:
    """The row with all its fields, and why it cannot be used, if so."""
    audio = Path(os.path.normpath(folder.absolute() / row["audio_filepath"]))
    row["id"] = row_identity(row) if row_id(row) is None else str(row_id(row))
    here = Path(os.path.normpath(folder.absolute()))
    # channels that were written here move with the folder
    row["audio_filepath"] = (audio.relative_to(here) if audio.is_relative_to(here) else audio).as_posix()
    if "shard_id" in row:
        return row, "audio in an archive", "stage 0 reads files: unpack the archives first"
    if not isinstance(row.get("text"), str):
        row["text"] = "" if row.get("text") is None else str(row["text"])
    recording = str(row.get("recording") or audio)
    if _is_file(recording):  # named alike from whichever folder it is run in
        recording = Path(os.path.normpath(Path(recording).absolute())).as_posix()
    if settings.split.recording_pattern:
        match = re.search(settings.split.recording_pattern, recording)
        if match is None or not match[1]:
            detail = f"recording_pattern {settings.split.recording_pattern!r} does not match {recording}"
            return row, "recording without name", detail
        recording = match[1]
    row["recording"] = recording
    row["key"] = str(row.get("key") or recording)
    party = row.get("channel")
    if row.get("channel_selector") is None and isinstance(party, str | int):
        if str(party) in settings.channels:
            row["channel_selector"], row["party"] = settings.channels[str(party)], party
        elif str(party).isdecimal():
            row["channel_selector"] = int(party)
    if isinstance(party, str | int):
        row.pop("channel")  # the simulation writes its own under this name
    return row, "", ""


@lru_cache(maxsize=1024)
def _is_file(name: str) -> bool:
    return Path(name).is_file()


def _pick(picked: Path, out: Path, settings: SetSettings, seed: int, count: ReadCount) -> int:
    """Write the rows that go on: with max_utterances those whose ids hash lowest, the same everywhere."""
    positions = np.fromiter((split_position(row["id"], seed) for row in rows_in(picked)), dtype=np.uint64)
    most = settings.max_utterances
    highest = None
    if most is not None and len(positions) > most:
        highest = int(np.partition(positions, most - 1)[most - 1])
        count.not_selected["beyond max_utterances"] += len(positions) - most
    kept = 0
    with replaced(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for row, position in zip(rows_in(picked), positions, strict=True):
            if highest is not None and (int(position) > highest or kept == most):
                continue
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            kept += 1
    return kept
