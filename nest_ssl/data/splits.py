"""Division of manifests into train, dev and test, such that what belongs together stays together."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from nest_ssl.files.atomic import replaced
from nest_ssl.files.audio import audio_info
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import audio_field, resolve_audio_path, row_identity, split_of, text_digest

SPLITS = ("train", "dev", "test")
SHOWN_IDS = 20
SHOWN_PROBLEMS = 5


@dataclass(frozen=True)
class SplitOptions:
    """split_by: field whose value decides on the split; dev, test: shares of its values; durations in s."""

    split_by: str = "key"
    dev: float = 0.05
    test: float = 0.05
    min_duration: float | None = None
    max_duration: float | None = None
    seed: int = 0
    drop_bad: bool = False

    def __post_init__(self) -> None:
        for name, share in (("dev", self.dev), ("test", self.test)):
            if not 0 <= share < 1:
                raise ValueError(f"--{name} is a share from 0 to 1, not {share}")
        if self.dev + self.test >= 1:
            raise ValueError(f"--dev {self.dev} and --test {self.test} leave nothing to train on")


@dataclass
class SplitReport:
    """What went where: rows and seconds per split and reason of dropping, values of the field per split."""

    rows: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    keys: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    dropped_rows: Counter[str] = field(default_factory=Counter)
    dropped_seconds: Counter[str] = field(default_factory=Counter)
    dropped_ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def as_dict(self) -> dict[str, Any]:
        """Give the report as JSON has it; of the dropped rows' ids the first 20 (dropped.jsonl has all)."""
        return {
            "splits": {
                split: {
                    "rows": self.rows[split],
                    "hours": round(self.seconds[split] / 3600, 4),
                    "keys": len(self.keys[split]),
                }
                for split in SPLITS
            },
            "dropped": {
                reason: {
                    "rows": count,
                    "hours": round(self.dropped_seconds[reason] / 3600, 4),
                    "first_ids": self.dropped_ids[reason],
                }
                for reason, count in sorted(self.dropped_rows.items())
            },
        }


class BadRow(ValueError):
    """A row that cannot be used; `reason` is the same for all rows of its kind."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def split_manifests(inputs: Sequence[Path], out_dir: Path, options: SplitOptions) -> SplitReport:
    """Write train, dev, test and dropped.jsonl and report.json into `out_dir`; gives the report.

    Rows keep their fields; audio_filepath becomes relative to `out_dir` unless it is absolute, so that data
    and manifests can be moved together; a missing duration is read from the audio header.  Rows outside the
    durations are dropped and counted; rows that cannot be used (no audio file, no split field, an id seen
    before, a duration that is no positive number) raise ValueError after all were read, or are dropped as
    well with `drop_bad`.  Also raises if a wanted split comes out empty.
    """
    report = SplitReport()
    problems: list[str] = []
    doubles = _doubles(inputs)
    seen: dict[str, str] = {}
    splits = [split for split in SPLITS if split == "train" or getattr(options, split) > 0]
    out_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files: dict[str, TextIO] = {}
        for name in [*splits, "dropped"]:
            temporary = stack.enter_context(replaced(out_dir / f"{name}.jsonl"))
            files[name] = stack.enter_context(open(temporary, "w", encoding="utf-8", newline="\n"))
        for manifest in inputs:
            for line_number, row in read_rows(manifest):
                place = f"{manifest}:{line_number}"
                identity = row_identity(row)
                try:
                    _check_double(identity, place, doubles, seen)
                    value, row = _usable(row, manifest, out_dir, options)
                    reason = _outside(row["duration"], options)
                except BadRow as problem:
                    problems.append(f"{place}: {problem}")
                    reason = problem.reason
                if reason:
                    _count_dropped(report, reason, identity, row)
                    _write(files["dropped"], {"id": identity, "reason": reason, "row": place})
                    continue
                split = split_of(value, options.dev, options.test, options.seed)
                report.rows[split] += 1
                report.seconds[split] += row["duration"]
                report.keys[split].add(hashlib.blake2b(value.encode(), digest_size=8).digest())
                _write(files[split], row)
        if problems and not options.drop_bad:
            shown = "\n  ".join(problems[:SHOWN_PROBLEMS])
            more = f"\n  and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
            raise ValueError(
                f"{len(problems)} rows cannot be used; repair them, or drop and count them with --drop-bad:\n"
                f"  {shown}{more}"
            )
        _check_not_empty(report, splits, inputs, options)
    for split in set(SPLITS) - set(splits):
        (out_dir / f"{split}.jsonl").unlink(missing_ok=True)  # of a former run with other shares
    facts = {"inputs": [str(path) for path in inputs], "options": vars(options), **report.as_dict()}
    with replaced(out_dir / "report.json") as temporary:
        temporary.write_text(dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def double_digests(identities: Iterator[str]) -> set[int]:
    """Give the digests of the texts that come more than once, in 8 bytes per text."""
    digests = np.frombuffer(array("Q", map(text_digest, identities)), np.uint64)
    digests = np.sort(digests)
    return set(digests[1:][digests[1:] == digests[:-1]].tolist())


def positive_seconds(value: Any) -> bool:
    """True for a finite number above zero."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _doubles(inputs: Sequence[Path]) -> set[int]:
    return double_digests(row_identity(row) for manifest in inputs for _, row in read_rows(manifest))


def _check_double(identity: str, place: str, doubles: set[int], seen: dict[str, str]) -> None:
    if doubles and text_digest(identity) in doubles:
        if identity in seen:
            raise BadRow("double id", f"{identity!r} is also that of {seen[identity]}")
        seen[identity] = place


def _usable(
    row: dict[str, Any], manifest: Path, out_dir: Path, options: SplitOptions
) -> tuple[str, dict[str, Any]]:
    """Give the value of the split field and the row as it is written; raises BadRow."""
    audio = audio_field(row)
    if not audio or not isinstance(audio, str):
        raise BadRow("no audio_filepath", f"the row has {', '.join(row) or 'no fields'}")
    path = resolve_audio_path(audio, manifest)
    if not path.is_file():
        raise BadRow("audio missing", f"{audio} is neither there nor in {manifest.parent}")
    value = row.get(options.split_by)
    if value in (None, "") or isinstance(value, dict | list):
        raise BadRow(
            f"no {options.split_by}",
            f"--split-by {options.split_by} needs that field; the row has {', '.join(row)}",
        )
    duration = row.get("duration")
    if duration is None:
        try:
            duration = round(audio_info(path).duration_s - (row.get("offset") or 0.0), 4)
        except (ValueError, TypeError) as error:
            raise BadRow("unreadable audio", str(error)) from error
    if not positive_seconds(duration):
        raise BadRow("bad duration", f"{duration!r} is not a positive number of seconds")
    if not Path(audio).is_absolute():
        audio = Path(os.path.relpath(path.absolute(), out_dir.absolute())).as_posix()
    row = {key: kept for key, kept in row.items() if key != "audio_filename"}
    return str(value), row | {"audio_filepath": audio, "duration": duration}


def _outside(duration: float, options: SplitOptions) -> str:
    if options.min_duration is not None and duration < options.min_duration:
        return f"shorter than {options.min_duration} s"
    if options.max_duration is not None and duration > options.max_duration:
        return f"longer than {options.max_duration} s"
    return ""


def _count_dropped(report: SplitReport, reason: str, identity: str, row: dict[str, Any]) -> None:
    report.dropped_rows[reason] += 1
    if positive_seconds(row.get("duration")):
        report.dropped_seconds[reason] += row["duration"]
    if len(report.dropped_ids[reason]) < SHOWN_IDS:
        report.dropped_ids[reason].append(identity)


def _check_not_empty(
    report: SplitReport, splits: Sequence[str], inputs: Sequence[Path], options: SplitOptions
) -> None:
    kept = sum(report.rows.values())
    named = ", ".join(str(path) for path in inputs)
    if kept == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.dropped_rows.items())
        raise ValueError(f"no row of {named} is left: " + (reasons or "the manifests are empty"))
    for split in splits:
        if report.rows[split] == 0:
            keys = sum(len(values) for values in report.keys.values())
            share = "the rest" if split == "train" else f"--{split} {getattr(options, split)}"
            raise ValueError(
                f"the split {split} is empty: {keys} values of {options.split_by!r} are few for {share}; "
                f"change the share or --seed"
            )


def _write(file: TextIO, row: dict[str, Any]) -> None:
    file.write(dumps(row, ensure_ascii=False) + "\n")
