"""Checks of a manifest against itself and against its audio; every problem is named with file and line."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nest_ssl.data.sources.build import BuildOptions, SourceReport, rows_of
from nest_ssl.data.sources.nemo import is_tarred
from nest_ssl.data.sources.record import Unusable
from nest_ssl.data.splits import double_digests, positive_seconds
from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.files.manifest import parse_row, read_lines
from nest_ssl.files.rows import audio_field, resolve_audio_path, row_id, row_identity, text_digest

# Manifests round durations, mostly to 1 or 10 ms; half a hop of the usual front end more changes nothing.
TOLERANCE_S = 0.015
ROWS_UNDER_WAY = 1024


class Problem(NamedTuple):
    """A problem: manifest, line from 1 (0 = the whole file, or what it says), kind, and what was found."""

    manifest: Path | str
    line: int
    kind: str
    detail: str

    def __str__(self) -> str:
        place = f"{self.manifest}:{self.line}" if self.line else str(self.manifest)
        return f"{place}: {self.kind}: {self.detail}"


@dataclass
class Checked:
    """Sums over the rows that were parsed.

    several_channels: rows that need channel_selector to be used; in_archives: rows of tarred manifests, whose
    audio is not looked at.
    """

    rows: int = 0
    seconds: float = 0.0
    several_channels: int = 0
    in_archives: int = 0
    advance: Callable[[int], object] = lambda count: None  # told of every row, for a progress bar

    def count_row(self) -> None:
        self.rows += 1
        self.advance(1)


def check_manifests(
    manifests: Sequence[Path],
    checked: Checked,
    sample_rate: int | None = None,
    decode: bool = False,
    threads: int = 8,
) -> Iterator[Problem]:
    """Give the problems of manifests that belong together, in the order of their lines.

    An id may come once in all of them: a row of train.jsonl and of test.jsonl is a leak.  Adds what they hold
    to `checked`.  Reads the header of every audio file in `threads` threads; `decode` reads all of the audio,
    which alone finds damage behind the header.  `sample_rate`: the rate that every file should have, None =
    any.
    """
    doubles = double_digests(name for manifest in manifests for name in _names(manifest))
    seen: dict[str, str] = {}
    for manifest in manifests:
        yield from _check_manifest(manifest, checked, doubles, seen, sample_rate, decode, threads)


def check_source(
    kind: str,
    inputs: Sequence[str],
    checked: Checked,
    options: BuildOptions,
) -> Iterator[Problem]:
    """Give the problems of data that another tool keeps: what would not become a row, and why.

    Nothing is written; the commands of pipes and the audio in tables are decoded.
    """
    report = SourceReport()
    for found in rows_of(kind, inputs, Path(), options, report, dry=True):
        checked.count_row()
        if isinstance(found, Unusable):
            yield Problem(found.place, 0, found.reason, found.detail)
    checked.seconds, checked.several_channels = report.seconds, report.several_channels
    checked.in_archives = report.not_looked_at
    if checked.rows == 0:
        yield Problem(", ".join(inputs), 0, "empty", "there are no utterances")


def _check_manifest(
    manifest: Path,
    checked: Checked,
    doubles: set[int],
    seen: dict[str, str],
    sample_rate: int | None,
    decode: bool,
    threads: int,
) -> Iterator[Problem]:
    """`doubles`: digests of the names that come more than once; `seen`: where each of these came first."""
    empty = True
    tarred = is_tarred(manifest)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        under_way: deque[tuple[list[Problem], Future[list[Problem]] | None]] = deque()
        for line_number, content in read_lines(manifest):
            empty = False
            try:
                row = parse_row(content, manifest, line_number)
            except ValueError as error:
                detail = str(error).removeprefix(f"{manifest}:{line_number}: ")
                under_way.append(([Problem(manifest, line_number, "bad JSON", detail)], None))
                continue
            checked.count_row()
            problems = [Problem(manifest, line_number, *found) for found in _check_fields(row, checked)]
            name = _name(row, manifest) if doubles else ""
            if doubles and text_digest(name) in doubles:
                place = f"{manifest}:{line_number}"
                first = seen.setdefault(name, place)
                if first != place:
                    detail = f"{row_identity(row)!r} is also that of {first}"
                    problems.append(Problem(manifest, line_number, "double id", detail))
            if tarred or "shard_id" in row:
                checked.in_archives += 1
                under_way.append((problems, None))
                continue
            arguments = (row, manifest, line_number, checked, sample_rate, decode)
            under_way.append((problems, pool.submit(_check_audio, *arguments)))
            if len(under_way) >= ROWS_UNDER_WAY:
                yield from _finished(under_way.popleft())
        while under_way:
            yield from _finished(under_way.popleft())
    if empty:
        yield Problem(manifest, 0, "empty manifest", "it has no rows")


def _finished(entry: tuple[list[Problem], Future[list[Problem]] | None]) -> list[Problem]:
    problems, audio = entry
    return problems + (audio.result() if audio else [])


def _names(manifest: Path) -> Iterator[str]:
    for line_number, content in read_lines(manifest):
        try:
            yield _name(parse_row(content, manifest, line_number), manifest)
        except ValueError:
            continue  # reported by the pass that follows


def _name(row: dict[str, Any], manifest: Path) -> str:
    """What no other row may have: the id, or the audio, which manifests of two folders may write alike."""
    audio = audio_field(row)
    if row_id(row) is None and isinstance(audio, str):
        row = row | {"audio_filepath": str(resolve_audio_path(audio, manifest).resolve())}
    return row_identity(row)


def _check_fields(row: dict[str, Any], checked: Checked) -> Iterator[tuple[str, str]]:
    audio = audio_field(row)
    if not audio:
        yield "missing key", f"there is no audio_filepath; the row has {', '.join(row) or 'no fields'}"
    elif not isinstance(audio, str):
        yield "bad value", f"audio_filepath is {audio!r}, not a path"
    duration, offset = row.get("duration"), row.get("offset")
    if duration is None:
        yield "missing key", "there is no duration"
    elif not positive_seconds(duration):
        yield "bad duration", f"{duration!r} is not a positive number of seconds"
    else:
        checked.seconds += duration
    if offset is not None and not (offset == 0 or positive_seconds(offset)):
        yield "bad value", f"offset is {offset!r}, not a number of seconds from 0"


def _check_audio(
    row: dict[str, Any], manifest: Path, line: int, checked: Checked, sample_rate: int | None, decode: bool
) -> list[Problem]:
    audio = audio_field(row)
    if not isinstance(audio, str):
        return []
    path = resolve_audio_path(audio, manifest)
    if not path.is_file():
        detail = f"{audio} is neither there nor in {manifest.parent}"
        return [Problem(manifest, line, "missing audio", detail)]
    try:
        info = audio_info(path)
        if decode:
            read_audio(path, channel="average")
    except (ValueError, OSError) as error:
        return [Problem(manifest, line, "unreadable audio", str(error))]
    problems = []
    if info.missing_frames:
        detail = f"{path}: it ends {info.missing_frames / info.sample_rate:.3f} s before its header says"
        problems.append(Problem(manifest, line, "unreadable audio", detail))
    if info.num_frames == 0:
        problems.append(Problem(manifest, line, "unreadable audio", f"{path}: it has no samples"))
    if info.channels > 1:
        checked.several_channels += 1
    if sample_rate is not None and info.sample_rate != sample_rate:
        detail = f"{path} has {info.sample_rate} Hz, not {sample_rate}"
        problems.append(Problem(manifest, line, "wrong sample rate", detail))
    stated_rate = row.get("orig_sample_rate")
    if stated_rate not in (None, info.sample_rate):
        detail = f"{path} has {info.sample_rate} Hz, orig_sample_rate is {stated_rate!r}"
        problems.append(Problem(manifest, line, "wrong sample rate", detail))
    difference = _difference(row, info.duration_s)
    if difference:
        problems.append(Problem(manifest, line, "wrong duration", f"{difference} of {path}"))
    return problems


def _difference(row: dict[str, Any], whole_s: float) -> str:
    """What is wrong with the times of a row, for audio of `whole_s` s; with an offset it may be a part."""
    duration: Any = row.get("duration")
    offset: Any = row.get("offset")
    if not positive_seconds(duration):
        return ""
    if positive_seconds(offset) or offset == 0:
        end = offset + duration
        return (
            f"offset {offset} s and duration {duration} s reach behind the {whole_s:.3f} s"
            if (end > whole_s + TOLERANCE_S)
            else ""
        )
    return f"{duration} s do not match the {whole_s:.3f} s" if abs(duration - whole_s) > TOLERANCE_S else ""
