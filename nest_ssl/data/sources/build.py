"""From a source to a manifest: rows with durations from the audio, and an account of what was left out."""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.calls import calls_utterances
from nest_ssl.data.sources.folder import folder_utterances
from nest_ssl.data.sources.funasr import funasr_utterances
from nest_ssl.data.sources.huggingface import huggingface_utterances
from nest_ssl.data.sources.kaldi import kaldi_utterances
from nest_ssl.data.sources.lhotse import lhotse_utterances
from nest_ssl.data.sources.nemo import manifest_names, nemo_utterances
from nest_ssl.data.sources.record import AudioFile, SourceOptions, Unusable, Utterance
from nest_ssl.data.sources.recordings import NotUsable, Recording, Recordings
from nest_ssl.files.atomic import replaced

Reader = Callable[[Path, SourceOptions], Iterator[Utterance | Unusable]]

READERS: dict[str, Reader] = {
    "kaldi": kaldi_utterances,
    "funasr": funasr_utterances,
    "folder": folder_utterances,
    "calls": calls_utterances,
    "huggingface": huggingface_utterances,
    "nemo": nemo_utterances,
    "lhotse": lhotse_utterances,
}
# Sources round times, mostly to 1 or 10 ms; half a hop of the usual front end more changes nothing.
TOLERANCE_S = 0.015
SHOWN_IDS = 20
SHOWN_PROBLEMS = 5
UNDER_WAY_PER_JOB = 8


@dataclass
class SourceReport:
    """What came out: rows and seconds, sample rates, and what was left out, by reason."""

    rows: int = 0
    seconds: float = 0.0
    without_text: int = 0
    several_channels: int = 0
    written: int = 0
    cut_at_the_end: int = 0
    not_looked_at: int = 0
    sample_rates: Counter[int] = field(default_factory=Counter)
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give the report as JSON has it; of the ids left out the first 20 (the dropped list has all)."""
        return {
            "rows": self.rows,
            "hours": round(self.seconds / 3600, 4),
            "rows_without_text": self.without_text,
            "rows_of_several_channels": self.several_channels,
            "rows_cut_at_the_end_of_their_recording": self.cut_at_the_end,
            "rows_whose_audio_is_in_archives": self.not_looked_at,
            "rows_of_written_audio": self.written,
            "rows_by_sample_rate": {str(rate): count for rate, count in sorted(self.sample_rates.items())},
            "dropped": {
                reason: {"rows": len(ids), "first_ids": ids[:SHOWN_IDS]}
                for reason, ids in sorted(self.dropped.items())
            },
        }


@dataclass(frozen=True)
class BuildOptions:
    """How rows are made: see SourceOptions and Recordings; drop_bad: leave out what cannot be used;
    durations in seconds; sample_rate: that all audio should have, in Hz; keep_origin: rows get the place
    that names them and the recording that their audio is a part of."""

    source: SourceOptions = field(default_factory=SourceOptions)
    audio_dir: Path | None = None
    convert: bool = False
    jobs: int = 8
    drop_bad: bool = False
    min_duration: float | None = None
    max_duration: float | None = None
    sample_rate: int | None = None
    keep_origin: bool = False


Count = Callable[[int], object]


def build_manifest(
    kind: str, inputs: Sequence[str], out: Path, options: BuildOptions, count: Count = lambda done: None
) -> SourceReport:
    """Write the manifest `out` of sources of a kind, NAME.dropped.jsonl and NAME.report.json beside it.

    Paths become relative to the folder of `out` unless the source wrote them absolute.  What cannot be used
    raises ValueError after all was read, or is left out with `drop_bad`; rows outside the durations are left
    out and counted.  `count` is called with the number of utterances that are done.
    """
    report = SourceReport()
    problems: list[Unusable] = []
    with ExitStack() as stack:
        files = []
        for path in (out, beside(out, "dropped.jsonl")):
            temporary = stack.enter_context(replaced(path))
            files.append(stack.enter_context(open(temporary, "w", encoding="utf-8", newline="\n")))
        for item in rows_of(kind, inputs, out.parent, options, report):
            if isinstance(item, Unusable):
                if len(problems) < SHOWN_PROBLEMS and not _wanted(item):
                    problems.append(item)
                row = {"id": item.id, "reason": item.reason, "row": item.place, "detail": item.detail}
                files[1].write(json.dumps(row, ensure_ascii=False) + "\n")
            else:
                files[0].write(json.dumps(item, ensure_ascii=False) + "\n")
            count(1)
        _check(report, problems, inputs, options)
    facts = {"from": kind, "inputs": list(inputs), **report.as_dict()}
    with replaced(beside(out, "report.json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def beside(out: Path, name: str) -> Path:
    """Give the path of what is written beside a manifest: train.jsonl -> train.NAME."""
    return out.with_name(f"{out.stem}.{name}")


def rows_of(
    kind: str,
    inputs: Sequence[str],
    folder: Path,
    options: BuildOptions,
    report: SourceReport,
    dry: bool = False,
) -> Iterator[dict[str, Any] | Unusable]:
    """Give the rows of sources, with paths as a manifest in `folder` names them, and what gives none.

    An id comes once.  `dry` writes no audio.
    """
    seen: dict[str, str] = {}
    recordings = Recordings(options.audio_dir, options.convert, options.jobs, dry)
    under_way: deque[tuple[Utterance | Unusable, Future[Recording] | None]] = deque()

    def finished() -> dict[str, Any] | Unusable:
        found, recording = under_way.popleft()
        row = found if isinstance(found, Unusable) else _row(found, recording, folder, options, report)
        if isinstance(row, Unusable):
            report.dropped.setdefault(row.reason, []).append(row.id)
        else:
            report.rows += 1
            report.seconds += row.get("duration") or 0.0
            report.without_text += "text" not in row
        return row

    try:
        for name in _named(kind, inputs):
            for found in READERS[kind](name, options.source):
                if isinstance(found, Utterance):
                    first = seen.setdefault(found.id, found.place)
                    if first != found.place:
                        detail = f"{found.id!r} is also that of {first}"
                        found = Unusable(found.id, found.place, "double id", detail, _known(found))
                if isinstance(found, Utterance) and found.ready is None:
                    under_way.append((found, recordings.submit(found)))
                else:
                    under_way.append((found, None))
                if len(under_way) >= UNDER_WAY_PER_JOB * max(1, options.jobs):
                    yield finished()
        while under_way:
            yield finished()
    finally:
        recordings.close()


def _named(kind: str, inputs: Sequence[str]) -> Iterator[Path]:
    for text in inputs:
        yield from manifest_names(text) if kind == "nemo" else [Path(text)]


def _row(
    found: Utterance,
    recording: Future[Recording] | None,
    folder: Path,
    options: BuildOptions,
    report: SourceReport,
) -> dict[str, Any] | Unusable:
    """The row of an utterance, once its recording is open."""

    def unusable(reason: str, detail: str) -> Unusable:
        return Unusable(found.id, found.place, reason, detail, _known(found))

    if recording is None:
        assert found.ready is not None
        report.not_looked_at += 1
        return found.ready
    try:
        audio = recording.result()
    except NotUsable as problem:
        return unusable(problem.reason, str(problem))
    whole = audio.info.duration_s
    offset = found.offset_s or 0.0
    duration = found.duration_s if found.duration_s is not None else whole - offset
    over = offset + duration - whole
    if not found.part and found.duration_s is not None and abs(duration - whole) > TOLERANCE_S:
        detail = f"{duration} s are stated, {audio.path} lasts {whole:.3f} s"
        return unusable("wrong duration", detail)
    if offset >= whole or over > max(TOLERANCE_S, found.tail_s):
        detail = f"it ends at {offset + duration:.3f} s of {audio.path}, which lasts {whole:.3f} s"
        return unusable("behind the end of the recording", detail)
    if over > 0:
        report.cut_at_the_end += over > TOLERANCE_S
        duration = whole - offset
    stated_rate = found.fields.get("orig_sample_rate")
    if options.sample_rate not in (None, audio.info.sample_rate):
        detail = f"{audio.path} has {audio.info.sample_rate} Hz, not {options.sample_rate}"
        return unusable("wrong sample rate", detail)
    if stated_rate not in (None, audio.info.sample_rate) and not audio.written:
        detail = f"orig_sample_rate is {stated_rate}, {audio.path} has {audio.info.sample_rate} Hz"
        return unusable("wrong sample rate", detail)
    if options.min_duration is not None and duration < options.min_duration:
        return unusable(f"shorter than {options.min_duration} s", f"{duration:.3f} s")
    if options.max_duration is not None and duration > options.max_duration:
        return unusable(f"longer than {options.max_duration} s", f"{duration:.3f} s")
    report.several_channels += audio.info.channels > 1
    report.written += audio.written
    report.sample_rates[audio.info.sample_rate] += 1
    as_absolute = isinstance(found.audio, AudioFile) and found.audio.absolute and not audio.written
    path = str(audio.path.absolute()) if as_absolute else _relative(audio.path, folder)
    row: dict[str, Any] = {"id": found.id} if found.gets_id else {}
    row |= {"audio_filepath": Path(path).as_posix(), "duration": round(duration, 4)}
    if found.offset_s is not None:
        row["offset"] = found.offset_s
    if options.keep_origin:
        row |= {"place": found.place, "recording": found.audio.key.lstrip("\0")}
    return row | found.fields


def _known(found: Utterance) -> dict[str, Any]:
    """What is known of an utterance that gives no row."""
    known: dict[str, Any] = {"text": found.fields.get("text"), "offset": found.offset_s}
    if isinstance(found.audio, AudioFile):
        known["audio_filepath"] = str(found.audio.path)
    return known | {"duration": found.duration_s, "channel_selector": found.channel}


def _relative(path: Path, folder: Path) -> str:
    try:
        return os.path.relpath(path.absolute(), folder.absolute())
    except ValueError:  # Windows: another drive
        return str(path.absolute())


def _wanted(item: Unusable) -> bool:
    """True for rows that the durations leave out: that is no fault."""
    return item.reason.startswith(("shorter than ", "longer than "))


def _check(
    report: SourceReport, problems: Sequence[Unusable], inputs: Sequence[str], options: BuildOptions
) -> None:
    number = sum(
        len(ids)
        for reason, ids in report.dropped.items()
        if not reason.startswith(("shorter than ", "longer than "))
    )
    if number and not options.drop_bad:
        shown = "\n  ".join(f"{each.place}: {each.reason}: {each.detail}" for each in problems)
        more = f"\n  and {number - len(problems)} more" if number > len(problems) else ""
        raise ValueError(
            f"{number} utterances cannot be used; repair them, or leave them out and have them counted with "
            f"--drop-bad:\n  {shown}{more}"
        )
    if report.rows == 0:
        reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in sorted(report.dropped.items()))
        raise ValueError(f"no row of {', '.join(inputs)} is left: " + (reasons or "there are none"))
