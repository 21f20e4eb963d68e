"""Lhotse cuts (.jsonl, .jsonl.gz), read as JSON: parts of recordings in files or behind commands."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.pipes import pipe_origin, run_pipe
from nest_ssl.data.sources.record import (
    AudioFile,
    MadeAudio,
    SourceOptions,
    Unusable,
    Utterance,
    find_audio,
    missing_audio,
)
from nest_ssl.data.splits import positive_seconds
from nest_ssl.files.manifest import check_is_file, parse_row

SUPERVISION_FIELDS = {"speaker": "speaker", "language": "lang", "gender": "gender"}


def lhotse_utterances(path: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    """Give the cuts of one file in its order.

    Several supervisions of a cut become one text, joined by blanks in the order of their starts.  What is
    more than a part of one recording (mixed, padded and perturbed cuts, features) cannot be used.
    """
    for number, cut in _rows(path):
        place = f"{path}:{number}"
        name = str(cut.get("id") or place)
        kind = cut.get("type", "MonoCut")
        if "recording" not in cut or kind not in ("MonoCut", "MultiCut"):
            detail = f"{kind} with {', '.join(cut)}: only cuts that are a part of one recording can be used"
            yield Unusable(name, place, "no plain cut", detail)
            continue
        recording = cut["recording"] or {}
        sources = recording.get("sources") or []
        if recording.get("transforms") or len(sources) != 1:
            what = "transforms" if recording.get("transforms") else f"{len(sources)} sources"
            detail = f"its recording has {what}; have lhotse write the audio (cuts.save_audios) and use that"
            yield Unusable(name, place, "no plain cut", detail)
            continue
        start, duration, channel = cut.get("start", 0), cut.get("duration"), cut.get("channel", 0)
        if not (start == 0 or positive_seconds(start)) or not positive_seconds(duration):
            detail = f"it begins at {start!r} s and lasts {duration!r} s"
            yield Unusable(name, place, "bad segment", detail)
            continue
        if isinstance(channel, list):
            channel = channel[0] if len(channel) == 1 else None
        audio = _audio(sources[0], str(recording.get("id") or name), name, place, path, options)
        if isinstance(audio, Unusable):
            yield audio
            continue
        channels = sources[0].get("channels") or [0]
        fields = _fields(cut.get("supervisions") or [])
        yield Utterance(
            name,
            place,
            audio,
            offset_s=start or None,
            duration_s=duration,
            channel=channels.index(channel) if channel in channels else None,
            fields=fields,
        )


def _fields(supervisions: list[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(supervisions, key=lambda each: each.get("start") or 0)
    texts = [each["text"] for each in ordered if each.get("text")]
    fields: dict[str, Any] = {"text": " ".join(texts)} if texts else {}
    for theirs, ours in SUPERVISION_FIELDS.items():
        values = {each[theirs] for each in ordered if each.get(theirs)}
        if len(values) == 1:
            fields[ours] = values.pop()
    return fields


def _audio(
    source: dict[str, Any], recording: str, name: str, place: str, path: Path, options: SourceOptions
) -> AudioFile | MadeAudio | Unusable:
    kind, written = source.get("type"), str(source.get("source", ""))
    if kind == "file":
        found = find_audio(written, path, options)
        return found if found else missing_audio(name, place, written, path, options)
    if kind == "command":
        if not options.allow_pipes:
            detail = f"the audio is what a command prints ({written}); --allow-pipes runs such commands"
            return Unusable(name, place, "pipe", detail)
        command = written.rstrip("| ") + " |"
        return MadeAudio(recording, pipe_origin(command), partial(run_pipe, command))
    return Unusable(name, place, "no audio", f"audio of type {kind!r} is not in a file of this machine")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    check_is_file(path)
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, parse_row(line, path, number)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path}: the compressed file is damaged after line {number}: {error}"
            ) from error
