"""Recorded calls in a folder: one channel per party, transcripts beside the audio."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.folder import AUDIO_SUFFIXES, walk
from nest_ssl.data.sources.record import AudioFile, SourceOptions, Unusable, Utterance
from nest_ssl.data.sources.text_table import text_lines

TAIL_S = 0.5  # a segment that ends so far behind its recording is cut there, as in Kaldi directories
HEADER = re.compile(r"(?i)start|begin")


def calls_utterances(folder: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    """Give the utterances of a folder of calls, in the order of their paths.

    Beside NAME.wav (any audio suffix) lies NAME.tsv with lines START END CHANNEL TEXT, separated by tabs
    (seconds; the channel is a party of `options.channels`, a number from 0, or empty where there is one);
    or NAME.PARTY.txt with all that a party says; or NAME.txt for audio of one channel.  Fields: text, key
    (NAME), party.  Raises FileNotFoundError if there is no audio.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; calls are read from a folder of audio files")
    empty = True
    for here, names in walk(folder):
        there = set(names)
        for name in names:
            if Path(name).suffix.lower() not in AUDIO_SUFFIXES:
                continue
            empty = False
            path = here / name
            call = path.relative_to(folder).with_suffix("").as_posix()
            yield from _call(path, call, there, options)
    if empty:
        raise FileNotFoundError(
            f"{folder} holds no audio file; calls are files such as call1.wav with call1.tsv beside them"
        )


def _call(path: Path, call: str, there: set[str], options: SourceOptions) -> Iterator[Utterance | Unusable]:
    audio = AudioFile(path, path.is_absolute())
    if f"{path.stem}.tsv" in there:
        yield from _segments(path.with_name(f"{path.stem}.tsv"), call, audio, options)
        return
    parties = [party for party in options.channels if f"{path.stem}.{party}.txt" in there]
    for party in parties:
        fields = {"text": _text(path.with_name(f"{path.stem}.{party}.txt")), "key": call, "party": party}
        channel = options.channels[party]
        yield Utterance(f"{call}-{party}", str(path), audio, channel=channel, fields=fields)
    if not parties:
        fields = {"key": call}
        if f"{path.stem}.txt" in there:
            fields["text"] = _text(path.with_name(f"{path.stem}.txt"))
            yield Utterance(call, str(path), audio, fields=fields)
        else:
            wanted = ", ".join(
                [
                    f"{path.stem}.tsv",
                    f"{path.stem}.txt",
                    *(f"{path.stem}.{party}.txt" for party in options.channels),
                ]
            )
            yield Unusable(call, str(path), "no transcript", f"none of {wanted} lies beside {path}")


def _segments(
    table: Path, call: str, audio: AudioFile, options: SourceOptions
) -> Iterator[Utterance | Unusable]:
    for number, line in text_lines(table):
        place = f"{table}:{number}"
        words = line.split("\t", maxsplit=3)
        if number == 1 and HEADER.match(line):
            continue
        identity = f"{call}-{number:05}"
        if len(words) != 4:
            detail = f"a line is START END CHANNEL TEXT with tabs between, not {line!r:.80}"
            yield Unusable(identity, place, "bad line", detail)
            continue
        seen = {"text": words[3].strip(), "audio_filepath": str(audio.path)}
        start, end = _seconds(words[0]), _seconds(words[1])
        if start is None or end is None or not 0 <= start < end < float("inf"):
            detail = f"it begins at {words[0]!r} s and ends at {words[1]!r} s"
            yield Unusable(identity, place, "bad segment", detail, seen)
            continue
        party = words[2].strip()
        fields: dict[str, Any] = {"text": words[3].strip(), "key": call}
        if not party:
            channel = None
        elif party in options.channels:
            channel, fields["party"] = options.channels[party], party
        elif party.isdecimal():
            channel = int(party)
        else:
            known = ", ".join(options.channels)
            detail = f"the channel is {party!r}; known are {known}, and numbers from 0"
            yield Unusable(identity, place, "no such channel", detail, seen)
            continue
        yield Utterance(
            f"{identity}-{party}" if party else identity,
            place,
            audio,
            offset_s=start,
            duration_s=round(end - start, 4),
            channel=channel,
            fields=fields,
            tail_s=TAIL_S,
        )


def _text(path: Path) -> str:
    return " ".join(line.strip() for _, line in text_lines(path))


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
