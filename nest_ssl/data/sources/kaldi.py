"""Kaldi data directories: wav.scp, and where they are there segments, text, utt2spk and the like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.pipes import pipe_origin, run_pipe, split_pipe
from nest_ssl.data.sources.record import (
    AudioFile,
    MadeAudio,
    SourceOptions,
    Unusable,
    Utterance,
    find_audio,
    missing_audio,
)
from nest_ssl.data.sources.text_table import BLANKS, read_table

ARCHIVE_PART = re.compile(r"(.+):(\d+)")
# Kaldi's extract-segments cuts a segment that ends up to half a second behind its recording.
OVERSHOOT_S = 0.5

Table = dict[str, tuple[int, str]]


def kaldi_utterances(folder: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    """Give the utterances of a Kaldi data directory, in the order of their ids.

    Fields: text, speaker (utt2spk), gender (spk2gender), lang (utt2lang).  utt2dur and reco2dur are compared
    with the audio.  Raises FileNotFoundError without wav.scp.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; --from kaldi takes a data directory, which holds wav.scp"
        )
    if not (folder / "wav.scp").is_file():
        raise FileNotFoundError(f"{folder} holds no wav.scp; --from kaldi takes a Kaldi data directory")
    unusable: list[Unusable] = []

    def table(name: str, may_be_empty: bool = False) -> Table:
        path = folder / name
        return read_table(path, unusable, may_be_empty) if path.is_file() else {}

    recordings = table("wav.scp")
    has_segments = (folder / "segments").is_file()
    utterances = table("segments") if has_segments else recordings
    tables = {
        "text": table("text", may_be_empty=True),
        "speaker": table("utt2spk"),
        "lang": table("utt2lang"),
        "duration": table("utt2dur"),
    }
    genders, recording_durations = table("spk2gender"), table("reco2dur")
    names = {"text": "text", "speaker": "utt2spk", "lang": "utt2lang", "duration": "utt2dur"}
    named_in = "segments" if has_segments else "wav.scp"
    bad_keys = {found.id for found in unusable}
    for field, name in names.items():
        for key, (line, _) in tables[field].items():
            if key not in utterances and key not in bad_keys:
                detail = f"{key!r} is in {name} but not in {named_in}"
                unusable.append(Unusable(key, f"{folder / name}:{line}", f"{name} without audio", detail))
    yield from sorted(unusable, key=lambda found: (found.id, found.place))
    for key in sorted(utterances):
        fields: dict[str, Any] = {field: tables[field][key][1] for field in names if key in tables[field]}
        duration = fields.pop("duration", None)
        speaker = fields.get("speaker")
        if speaker in genders:
            fields["gender"] = genders[speaker][1]
        if has_segments:
            yield _segment(folder, key, utterances[key], recordings, fields, options)
            continue
        line, value = recordings[key]
        place = f"{folder / 'wav.scp'}:{line}"
        audio = _audio(folder / "wav.scp", key, place, value, options)
        stated = duration if duration is not None else recording_durations.get(key, (0, None))[1]
        seconds = _seconds(stated) if stated is not None else None
        if isinstance(audio, Unusable):
            yield audio
        elif stated is not None and (seconds is None or seconds <= 0):
            yield Unusable(
                key, place, "bad duration", f"utt2dur or reco2dur says {stated!r}, no number of seconds"
            )
        else:
            yield Utterance(key, place, audio, duration_s=seconds, fields=fields, part=False)


def _segment(
    folder: Path,
    key: str,
    entry: tuple[int, str],
    recordings: Table,
    fields: dict[str, Any],
    options: SourceOptions,
) -> Utterance | Unusable:
    """One line of segments: utterance, recording, start and end in seconds (end -1 = to the end), channel."""
    line, value = entry
    place = f"{folder / 'segments'}:{line}"
    words = BLANKS.split(value.strip())
    if len(words) not in (3, 4):
        detail = f"a segment is RECORDING START END [CHANNEL], not {value!r}"
        return Unusable(key, place, "bad line", detail)
    recording, start, end = words[0], _seconds(words[1]), _seconds(words[2])
    if start is None or end is None or start < 0 or (end <= start and end != -1):
        detail = f"{key!r} begins at {words[1]} s and ends at {words[2]} s of {recording}"
        return Unusable(key, place, "bad segment", detail)
    channel = words[3] if len(words) == 4 else None
    channel = {"A": "0", "B": "1"}.get(channel, channel) if channel else channel
    if channel is not None and not channel.isdecimal():
        return Unusable(key, place, "bad line", f"the channel is {words[3]!r}, not a number from 0")
    if recording not in recordings:
        detail = f"{key!r} is a part of {recording!r}, which is not in wav.scp"
        return Unusable(key, place, "segment without recording", detail)
    scp_line, value = recordings[recording]
    audio = _audio(folder / "wav.scp", recording, f"{folder / 'wav.scp'}:{scp_line}", value, options)
    if isinstance(audio, Unusable):
        return Unusable(key, place, audio.reason, f"{recording} ({audio.place}): {audio.detail}")
    return Utterance(
        key,
        place,
        audio,
        offset_s=start,
        duration_s=None if end == -1 else round(end - start, 6),
        channel=None if channel is None else int(channel),
        fields=fields,
        tail_s=OVERSHOOT_S,
    )


def _audio(
    scp: Path, key: str, place: str, value: str, options: SourceOptions
) -> AudioFile | MadeAudio | Unusable:
    """What the right side of a line of wav.scp means."""
    if value.endswith("|"):
        if not options.allow_pipes:
            detail = f"the audio is what a command prints ({value}); --allow-pipes runs such commands"
            return Unusable(key, place, "pipe", detail)
        try:
            split_pipe(value)
        except ValueError as error:
            return Unusable(key, place, "pipe", str(error))
        return MadeAudio(key, pipe_origin(value), partial(run_pipe, value))
    found = find_audio(value, scp, options)
    if found is not None:
        return found
    part = ARCHIVE_PART.fullmatch(value)
    if part:
        archive = find_audio(part[1], scp, options)
        if archive is not None:
            origin = f"{archive.path.absolute()}:{part[2]}"
            return MadeAudio(key, origin, partial(archive_wav, archive.path, int(part[2])))
    if value.startswith("|") or value == "-":
        return Unusable(key, place, "bad line", f"{value!r} is no file that can be read")
    return missing_audio(key, place, value, scp, options)


def archive_wav(archive: Path, position: int) -> bytes:
    """Give the wav that begins at a byte of an archive (.ark); ValueError if there is none."""
    with open(archive, "rb") as file:
        file.seek(position)
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            what = "a Kaldi matrix: features, no audio" if head[:2] == b"\0B" else f"{head[:4]!r}"
            raise ValueError(f"{archive}:{position} holds no wav (RIFF) but {what}")
        length = int.from_bytes(head[4:8], "little")
        content = head + file.read(length - 4)
    if len(content) != length + 8:
        raise ValueError(
            f"{archive}:{position}: the wav states {length + 8} bytes, the archive holds {len(content)}"
        )
    return content


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if isfinite(seconds) else None
