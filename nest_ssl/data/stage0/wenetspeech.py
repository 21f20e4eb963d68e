"""WenetSpeech.json, a file of several gigabytes, read one recording at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.record import Unusable

CHUNK_BYTES = 1 << 20
LONGEST_RECORDING = 1 << 28  # characters of JSON; the longest of WenetSpeech has a few million
BLANK = " \t\r\n"
SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Selection:
    """Which segments are wanted; None = all.

    subsets: names as the corpus has them (L, M, S, W, DEV, TEST_NET, TEST_MEETING); min_confidence: of the
    transcript, 0 to 1; sources: youtube, podcast.
    """

    subsets: tuple[str, ...] | None = None
    min_confidence: float | None = None
    sources: tuple[str, ...] | None = None


@dataclass
class SourceCount:
    """What the file holds: segments, those left out by the selection and why, names that were seen."""

    segments: int = 0
    not_selected: Counter[str] = field(default_factory=Counter)
    subsets: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)


def wenetspeech_rows(
    path: Path, root: Path, selection: Selection, count: SourceCount, per_recording: int | None = None
) -> Iterator[dict[str, Any] | Unusable]:
    """Give a row per selected segment, in the order of the file; audio paths start at `root`.

    Rows have id, audio_filepath, offset, duration (s), text, key and recording (the aid), source, subset,
    confidence, and place (FILE:LINE of the segment).  `per_recording`: at most so many of each recording.
    Raises FileNotFoundError, and ValueError naming the place of what is no WenetSpeech.json.
    """
    for audio, line, text in recordings(path):
        found = 0
        position = 0
        for number, segment in enumerate(_segments(audio, path, line)):
            count.segments += 1
            reason = _not_selected(audio, segment, selection, count)
            if reason:
                count.not_selected[reason] += 1
                continue
            if per_recording is not None and found >= per_recording:
                count.not_selected["enough of its recording"] += 1
                continue
            found += 1
            position, here = _line_of(segment, text, position, line)
            line = here
            yield _row(audio, segment, number, root, f"{path}:{here}")


def check_selection(path: Path, selection: Selection, count: SourceCount) -> None:
    """Raise ValueError if a subset or source that was asked for does not exist in the file."""
    for wanted, seen, what in (
        (selection.subsets, count.subsets, "subset"),
        (selection.sources, count.sources, "source"),
    ):
        unknown = sorted(set(wanted or ()) - set(seen))
        if unknown:
            there = ", ".join(f"{name} ({number})" for name, number in sorted(seen.items())) or "none"
            raise ValueError(f"{path}: there is no {what} {', '.join(unknown)}; the file has {there}")


def recordings(path: Path) -> Iterator[tuple[dict[str, Any], int, str]]:
    """Give (audio object, line on which it begins, its JSON text) of each entry of "audios".

    Memory is that of one recording.  Bytes that are no UTF-8 become lone surrogates, so that one bad text
    costs one segment and not the file.
    """
    if not path.is_file():
        kind = "is a folder; name the file WenetSpeech.json in it" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {kind}")
    with open(path, "rb") as file:
        scanner = _Scanner(path, file)
        scanner.expect("{")
        empty = True
        while True:
            if scanner.peek() == "}":
                break
            key = scanner.value()[0]
            scanner.expect(":")
            if key == "audios":
                empty = False
                scanner.expect("[")
                while scanner.peek() != "]":
                    audio, line, text = scanner.value()
                    if not isinstance(audio, dict):
                        raise ValueError(f"{path}:{line}: an entry of audios is no object but {audio!r:.60}")
                    yield audio, line, text
                    if scanner.peek() == ",":
                        scanner.expect(",")
                scanner.expect("]")
            else:
                scanner.value()
            if scanner.peek() == ",":
                scanner.expect(",")
        if empty:
            raise ValueError(
                f'{path}: no key "audios" at the top; this is not the layout of WenetSpeech.json'
            )


class _Scanner:
    """JSON values one after another out of a file, with the line where each begins."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._parse = json.JSONDecoder().raw_decode
        self._buffer, self._position, self._line = "", 0, 1
        self._ended = False

    def _more(self, size: int) -> None:
        content = self._file.read(size)
        self._ended = not content
        self._buffer = self._buffer[self._position :] + self._decode(content, self._ended)
        self._position = 0

    def _advance(self, position: int) -> None:
        self._line += self._buffer.count("\n", self._position, position)
        self._position = position

    def peek(self) -> str:
        """Give the next character that is no blank; ValueError at the end of the file."""
        while True:
            position = self._position
            while position < len(self._buffer) and self._buffer[position] in BLANK:
                position += 1
            self._advance(position)
            if position < len(self._buffer):
                return self._buffer[position]
            if self._ended:
                raise self._fault("the file ends in the middle; fetch it again")
            self._more(CHUNK_BYTES)

    def expect(self, mark: str) -> None:
        """Step over `mark`."""
        found = self.peek()
        if found != mark:
            shown = self._buffer[self._position : self._position + 40].encode("utf-8", "replace").decode()
            raise self._fault(f"{mark!r} is expected, not {shown!r}; is this WenetSpeech.json?")
        self._position += 1

    def value(self) -> tuple[Any, int, str]:
        """Give (value, line, text) of the next value."""
        self.peek()
        line = self._line
        size = CHUNK_BYTES
        while True:
            try:
                value, end = self._parse(self._buffer, self._position)
            except json.JSONDecodeError as error:
                cut = "Unterminated" in error.msg or error.pos >= len(self._buffer) - 16
                if self._ended or not cut or len(self._buffer) - self._position > LONGEST_RECORDING:
                    at = line + self._buffer.count("\n", self._position, error.pos)
                    what = "the file ends in the middle; fetch it again" if cut else error.msg
                    raise ValueError(f"{self._path}:{at}: no valid JSON: {what}") from error
            except RecursionError as error:
                raise self._fault("nested too deeply") from error
            else:
                if end < len(self._buffer) or self._ended:  # else a number may go on
                    text = self._buffer[self._position : end]
                    self._advance(end)
                    return value, line, text
            if self._ended:
                raise self._fault("the file ends in the middle; fetch it again")
            self._more(size)
            size *= 2  # a value is parsed again from its start each time: few times

    def _fault(self, what: str) -> ValueError:
        return ValueError(f"{self._path}:{self._line}: {what}")


def _segments(audio: dict[str, Any], path: Path, line: int) -> Sequence[dict[str, Any]]:
    segments = audio.get("segments")
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise ValueError(
            f"{path}:{line}: recording {audio.get('aid')!r} has no list of segments; "
            f"this is not the layout of WenetSpeech.json"
        )
    return segments


def _not_selected(
    audio: dict[str, Any], segment: dict[str, Any], selection: Selection, count: SourceCount
) -> str:
    """Why a segment is not wanted, or an empty string; what it belongs to is counted."""
    subsets = [str(name) for name in segment.get("subsets") or audio.get("subsets") or ()]
    source = str(audio.get("source"))
    count.subsets.update(subsets)
    count.sources[source] += 1
    if selection.subsets is not None and not set(subsets) & set(selection.subsets):
        return "other subset"
    if selection.sources is not None and source not in selection.sources:
        return "other source"
    confidence = segment.get("confidence")
    if selection.min_confidence is not None:
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            return "without confidence"
        if not confidence >= selection.min_confidence:
            return f"confidence below {selection.min_confidence}"
    return ""


def _line_of(segment: dict[str, Any], text: str, position: int, line: int) -> tuple[int, int]:
    """Where the segment's sid stands in its recording's text, and on which line of the file."""
    found = text.find(json.dumps(segment.get("sid"), ensure_ascii=False), position)
    if found < 0:
        return position, line
    return found, line + text.count("\n", position, found)


def _row(
    audio: dict[str, Any], segment: dict[str, Any], number: int, root: Path, place: str
) -> dict[str, Any] | Unusable:
    aid = str(audio.get("aid"))
    sid = str(segment.get("sid") or f"{aid}_{number}")
    text = segment.get("text")
    # bytes that were no UTF-8 show as U+FFFD, which the annotation filter finds
    text = SURROGATES.sub("\ufffd", text) if isinstance(text, str) else ""
    known = {"text": text}
    begin, end = segment.get("begin_time"), segment.get("end_time")
    if not isinstance(audio.get("path"), str):
        detail = f"recording {aid} has path {audio.get('path')!r}"
        return Unusable(sid, place, "no audio path", detail, known)
    times_are_numbers = all(
        isinstance(time, int | float) and not isinstance(time, bool) for time in (begin, end)
    )
    if not times_are_numbers or not 0 <= begin < end < float("inf"):  # type: ignore[operator]
        detail = f"it begins at {begin!r} s and ends at {end!r} s"
        return Unusable(
            sid, place, "bad segment", detail, known | {"audio_filepath": str(root / audio["path"])}
        )
    subsets = segment.get("subsets") or audio.get("subsets") or []
    return {
        "id": sid,
        "audio_filepath": str(root / audio["path"]),
        "offset": begin,
        "duration": round(end - begin, 4),  # type: ignore[operator]
        "text": text,
        "key": aid,
        "recording": aid,
        "source": str(audio.get("source")),
        "subset": [str(name) for name in subsets],
        "confidence": segment.get("confidence"),
        "place": place,
    }
