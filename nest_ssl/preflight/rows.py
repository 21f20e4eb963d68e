"""The rows of a data set as checks look at them: FunASR's messages lines and plain manifests alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.lengths import speech_length
from nest_ssl.data.messages import URLS, form_problems, read_messages_audio
from nest_ssl.data.prompts import END, START
from nest_ssl.files.manifest import parse_row, read_lines
from nest_ssl.files.rows import audio_path, resolve_audio_path, row_id

JSONL = (".jsonl", ".json")
# Faults of a line that have checks of their own, which say more than that the line is bad.
ELSEWHERE = ("bad speech_length", "bad text_length", "control token", "no text", "relative path")


@dataclass(frozen=True)
class Row:
    """One training row.

    place: "file:line".  audio: absolute paths or addresses, one per turn.  texts: what the model is to say,
    one per turn.  frames: 10-ms frames as stated, or computed from the stated duration; None where neither is
    there.  stated: speech_length as the line has it (a messages line only).  seconds: duration as a manifest
    states it.  prompt: of the first user turn, without audio.
    """

    place: str
    key: str
    audio: tuple[str, ...]
    texts: tuple[str, ...]
    frames: int | None
    stated: int | None
    text_length: int | None
    seconds: float | None
    prompt: str | None
    offset: float
    line: Mapping[str, Any]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@dataclass(frozen=True)
class Fault:
    """A line that is no training row: where, which kind of fault, what was seen."""

    place: str
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.place}: {self.detail}"


@dataclass
class Rows:
    """The rows of some files, and the lines that are none."""

    files: list[Path] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)


def read_rows_of(paths: Iterable[Path]) -> Rows:
    """Read messages jsonl, manifests, and text lists of such files (a name without .jsonl is a list).

    Nothing is raised for bad lines or missing files: they are faults, for a check to report all of them.
    """
    found = Rows()
    for path in _expanded(paths, found.faults):
        found.files.append(path)
        before = len(found.rows) + len(found.faults)
        try:
            for number, content in read_lines(path):
                _take(path, number, content, found)
        except (ValueError, OSError) as error:
            found.faults.append(Fault(str(path), "unreadable file", str(error)))
        if len(found.rows) + len(found.faults) == before:
            found.faults.append(Fault(str(path), "empty file", "the file has no lines"))
    return found


def _expanded(paths: Iterable[Path], faults: list[Fault]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_file():
            kind = "is a folder, not a jsonl file" if path.is_dir() else "does not exist"
            faults.append(Fault(str(path), "missing file", f"the data file {kind}"))
        elif path.suffix in JSONL:
            files.append(path)
        else:
            files += _listed(path, faults)
    return files


def _listed(path: Path, faults: list[Fault]) -> list[Path]:
    files: list[Path] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        detail = (
            "a data file that is not named .jsonl is read as a text list of jsonl files; this is no text "
            f"({error.reason})"
        )
        faults.append(Fault(str(path), "unreadable file", detail))
        return files
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        named = Path(line.strip())
        each = next((one for one in (named, path.parent / named) if one.is_file()), None)
        if each is None:
            detail = f"{line.strip()[:80]!r} is no file; a data file not named .jsonl lists jsonl files"
            faults.append(Fault(f"{path}:{number}", "missing file", detail))
        else:
            files.append(each)
    return files


def _take(path: Path, number: int, content: bytes, found: Rows) -> None:
    place = f"{path}:{number}"
    try:
        line = parse_row(content, path, number)
    except ValueError as error:
        found.faults.append(Fault(place, "bad JSON", str(error).removeprefix(f"{place}: ")))
        return
    taken = _messages(path, place, line) if "messages" in line else _manifest(path, place, line)
    if isinstance(taken, Row):
        found.rows.append(taken)
    else:
        found.faults.append(taken)


def _messages(path: Path, place: str, line: Mapping[str, Any]) -> Row | Fault:
    for kind, detail in form_problems(line, None):
        silent = kind == "bad audio" and not any(mark in str(line["messages"]) for mark in (START, END))
        if kind not in ELSEWHERE and not silent:
            return Fault(place, kind, detail)
    turns = line["messages"]
    texts = tuple(turn["content"] for turn in turns if turn["role"] == "assistant")
    user = next(turn["content"] for turn in turns if turn["role"] == "user")
    stated = _whole(line.get("speech_length"))
    return Row(
        place=place,
        key=str(line.get("key") or place),
        audio=tuple(_found(audio, path) for audio in read_messages_audio(line)),
        texts=texts,
        frames=stated,
        stated=stated,
        text_length=_whole(line.get("text_length")),
        seconds=None,
        prompt=user.partition(START)[0],
        offset=0.0,
        line=line,
    )


def _found(audio: str, path: Path) -> str:
    """Give an address as it is, a relative path from the file's folder if it is there."""
    return audio if is_address(audio) else str(resolve_audio_path(audio.removeprefix("!"), path))


def _manifest(path: Path, place: str, line: Mapping[str, Any]) -> Row | Fault:
    try:
        audio = str(audio_path(line, path))
    except ValueError as error:
        named = ", ".join(line) or "nothing"
        detail = f"{error}: a line has messages, or audio_filepath and text; this one has {named}"
        return Fault(place, "bad line", detail)
    text = line.get("text")
    if not isinstance(text, str):
        return Fault(place, "no text", f"text is {text!r}, not a transcript")
    seconds = line.get("duration")
    sound = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < float("inf")
    length = float(seconds) if sound and seconds is not None else None
    return Row(
        place=place,
        key=row_id(line) or f"{audio}@{line.get('offset') or 0}",
        audio=(audio,),
        texts=(text,),
        frames=speech_length(length) if length is not None else None,
        stated=None,
        text_length=None,
        seconds=length,
        prompt=None,
        offset=float(line.get("offset") or 0.0),
        line=line,
    )


def is_address(audio: str) -> bool:
    """True for audio behind a URL, which is not opened."""
    return audio.startswith(URLS)


def spread(rows: Sequence[Row], first: int, more: int) -> list[Row]:
    """Give the first rows and some more at equal distances in the rest: a sample that is always the same."""
    rest = rows[first:]
    step = max(1, -(-len(rest) // max(1, more)))
    return [*rows[:first], *(rest[step - 1 :: step] if more else [])]


def _whole(value: Any) -> int | None:
    """Give a length as FunASR reads it: of a list the first; None where it is no whole number."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, int) and not isinstance(first, bool) else None
