"""Lhotse's cuts as a manifest: each cut becomes a row, written once, so that it can be found by its number.

Cuts are read as JSON lines, plain or gzipped, without lhotse; other forms (YAML, one JSON list, Arrow) need
lhotse itself (pip install nest-ssl[lhotse]).
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.data.corpus import CHANNEL_FIELD
from nest_ssl.files.arrays import load_arrays, places, save_arrays
from nest_ssl.files.manifest import check_is_file, parse_row, write_rows
from nest_ssl.files.rows import resolve_audio_path

SUFFIX = ".rows.jsonl"
MAX_LINE_BYTES = 1 << 24

log = logging.getLogger(__name__)


def manifest_of_cuts(cuts: Path, in_archives: bool = False) -> Path:
    """Give the manifest made from a file of cuts, making it first where there is none of its present state.

    It lies beside the cuts, or in the cache folder where that cannot be written.  in_archives: the audio is
    in Shar archives, under the cuts' ids.  Raises ValueError "path:line: ..." for a cut that is no plain
    piece of one recording.
    """
    check_is_file(cuts)
    status = cuts.stat()
    facts = {"version": 1, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "shar": in_archives}
    made = cuts.with_name(cuts.name + SUFFIX)
    stamp = cuts.with_name(cuts.name + SUFFIX + ".made")
    known = load_arrays(stamp, facts)
    for place in places(made) if known is not None else ():
        if place.is_file() and place.stat().st_size == int(known["bytes"][0]):  # type: ignore[index]
            return place
    reason: OSError | None = None
    for place in places(made):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            absolute = place != made
            count = write_rows(place, (row_of_cut(*cut, in_archives, absolute) for cut in _cuts(cuts)))
        except PermissionError as error:
            reason = error
            continue
        except OSError as error:
            if error.errno is None or place != made:
                raise
            reason = error
            continue
        log.info("%s: %d cuts written as rows to %s", cuts, count, place)
        save_arrays(stamp, facts, {"bytes": np.array([place.stat().st_size], np.int64)})
        return place
    raise OSError(f"{cuts}: neither {made} nor the cache folder can be written: {reason}")


def row_of_cut(
    cut: Mapping[str, Any], cuts: Path, line: int, in_archives: bool, absolute: bool
) -> dict[str, Any]:
    """Give the manifest row of a cut: id, audio_filepath, offset and duration in seconds, nest_channel."""
    place = f"{cuts}:{line}"
    kind = cut.get("type", "MonoCut")
    if kind not in ("MonoCut", "MultiCut", "Cut"):
        raise ValueError(
            f"{place}: a {kind} is made up of several pieces; only cuts of one recording are read: "
            "write such cuts out (cut.save_audio in lhotse)"
        )
    identity, duration, start = cut.get("id"), cut.get("duration"), cut.get("start", 0)
    if not isinstance(identity, str) or not _is_number(duration) or not _is_number(start):
        raise ValueError(f"{place}: a cut needs an id, a start and a duration, this one has {', '.join(cut)}")
    row = {"id": identity, "audio_filepath": "", "duration": duration}
    if start:
        row["offset"] = start
    if in_archives:
        return row | {"audio_filepath": f"{identity}.shar"}
    recording = cut.get("recording")
    if not isinstance(recording, Mapping):
        raise ValueError(f"{place}: the cut {identity} has no recording (features alone cannot be read)")
    for transform in recording.get("transforms") or ():
        name = transform.get("name") if isinstance(transform, Mapping) else str(transform)
        if name != "Resample":  # audio is resampled to the model's rate in any case
            raise ValueError(
                f"{place}: the recording of {identity} has the transform {name}, which is not applied "
                "here: write the cuts out (cut.save_audio in lhotse)"
            )
    source, channel = _source(recording, cut.get("channel", 0), identity, place)
    if absolute:
        source = os.path.abspath(resolve_audio_path(source, cuts))  # noqa: PTH100
    row["audio_filepath"] = source
    if channel is not None:
        row[CHANNEL_FIELD] = channel
    return row


def _source(recording: Mapping[str, Any], channel: Any, identity: str, place: str) -> tuple[str, int | None]:
    """Give the file of a cut's channel, and the channel's number in it; None where it has just one."""
    wanted = channel if isinstance(channel, list) else [channel]
    sources = recording.get("sources")
    for source in sources if isinstance(sources, list) else ():
        channels = source.get("channels") or [0]
        if wanted[0] not in channels:
            continue
        if source.get("type") != "file" or not isinstance(source.get("source"), str):
            raise ValueError(
                f"{place}: the audio of {identity} is of the type {source.get('type')!r}; only files are "
                "read (nothing is fetched and no command is run)"
            )
        single = len(channels) == 1 or len(wanted) > 1
        return source["source"], None if single else channels.index(wanted[0])
    raise ValueError(f"{place}: the recording of {identity} has no source with channel {channel}")


def _cuts(cuts: Path) -> Iterator[tuple[dict[str, Any], Path, int]]:
    """Give (cut, file, line) one after another."""
    if not cuts.name.endswith((".jsonl", ".jsonl.gz")):
        for number, cut in enumerate(_by_lhotse(cuts), start=1):
            yield cut, cuts, number
        return
    opened = gzip.open(cuts, "rb") if cuts.name.endswith(".gz") else open(cuts, "rb")  # noqa: SIM115
    with opened as file:
        number = 0
        while True:
            number += 1
            try:
                line = file.readline(MAX_LINE_BYTES)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{cuts}:{number}: the gzip file is damaged or cut off: {error}") from error
            if not line:
                return
            if len(line) == MAX_LINE_BYTES:
                raise ValueError(f"{cuts}:{number}: a line of {MAX_LINE_BYTES} bytes and more is no cut")
            if line.strip():
                yield parse_row(line, cuts, number), cuts, number


def _by_lhotse(cuts: Path) -> Iterator[dict[str, Any]]:
    try:
        from lhotse import CutSet
    except ImportError as error:
        raise ValueError(
            f"{cuts} is not .jsonl or .jsonl.gz: install nest-ssl[lhotse] to have it read, or convert it "
            f"(lhotse copy {cuts} cuts.jsonl.gz)"
        ) from error
    for cut in CutSet.from_file(cuts):
        yield json.loads(json.dumps(cut.to_dict()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
