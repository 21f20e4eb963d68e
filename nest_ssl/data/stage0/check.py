"""An existing stage-0 folder checked completely: counts, audio, lengths, texts, leaks, and the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nest_ssl.data.manifest_check import Checked, Problem, check_manifests
from nest_ssl.data.messages import check_messages, read_messages_audio
from nest_ssl.data.stage0.channel import not_as_written
from nest_ssl.data.stage0.html import render_html
from nest_ssl.data.stage0.markdown import render_markdown
from nest_ssl.data.stage0.pipeline import SIDES, SetFiles
from nest_ssl.data.stage0.rows import count_rows, rows_in
from nest_ssl.text.llm_tokenizer import LlmTokenizer

OUT_RATE = 16000
DURATION_TOLERANCE_S = 0.001
REPORT = "STAGE0_REPORT"
LIMITS = "funasr_limits.yaml"


def check_folder(out: Path, tokenizer: LlmTokenizer | None, threads: int) -> tuple[int, list[Problem], bool]:
    """Give (messages lines, problems, whether text_length was recomputed) of a folder that stage 0 has made.

    Without `tokenizer` the one of the report is taken, where it still is.  Raises FileNotFoundError if there
    is no report.
    """
    path = out / f"{REPORT}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {out} is no folder that stage 0 has finished; "
            f"--check takes the folder that was given as --out"
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path}: not JSON: {error}; run prepare again, it writes the report anew"
        ) from error
    named = (report.get("tokenizer") or {}).get("folder")
    if tokenizer is None and named and Path(named).is_dir():
        tokenizer = LlmTokenizer(named)
    problems: list[Problem] = []
    limits = None
    if not (out / LIMITS).is_file():
        problems.append(Problem(out / LIMITS, 0, "missing", "the file of FunASR's limits is not there"))
    else:
        limits, faults = _limits(out / LIMITS, report)
        problems += faults
    files = {name: SetFiles(out / name) for name in report["sets"]}
    lines = 0
    for name, section in report["sets"].items():
        problems += _missing(files[name])
        if any(problem.kind == "missing" and problem.manifest != out / LIMITS for problem in problems):
            continue
        paths = [files[name].messages(side) for side in SIDES]
        found = check_messages(paths, tokenizer, limits, threads)
        lines += found.lines
        problems += found.problems
        manifests = [files[name].manifest(side) for side in SIDES]
        problems += check_manifests(manifests, Checked(), OUT_RATE, True, threads)
        for side in SIDES:
            problems += _sizes(files[name], side)
            problems += _lines_and_rows(files[name], side)
        problems += _counts(files[name], section)
    if not any(problem.kind == "missing" for problem in problems):
        problems += _leaks(files, {name: section["split"]["by"] for name, section in report["sets"].items()})
    problems += _pages(out, report)
    return lines, problems, tokenizer is not None


def _limits(path: Path, report: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Give FunASR's keys of the file; a problem if it cannot be read or has others than the report."""
    try:
        limits = dict(yaml.safe_load(path.read_text(encoding="utf-8"))["dataset_conf"])
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        return None, [Problem(path, 0, "bad YAML", " ".join(str(error).split()))]
    stated = report["funasr_limits"]["dataset_conf"]
    if limits != stated:
        changed = ", ".join(f"{key} {limits.get(key)}" for key in stated if limits.get(key) != stated[key])
        return limits, [Problem(path, 0, "other limits", f"{changed}: the report has other values")]
    return limits, []


def _sizes(files: SetFiles, side: str) -> Iterator[Problem]:
    manifest = files.manifest(side)
    for number, path, size in not_as_written(files.audio(side), manifest):
        if path.is_file():  # else it is missing, as the manifest's own check says
            detail = f"{path} has {path.stat().st_size} bytes, {size} were written"
            yield Problem(manifest, number, "changed audio", detail)


def _missing(files: SetFiles) -> list[Problem]:
    needed = (
        [files.messages(side) for side in SIDES] + [files.manifest(side) for side in SIDES] + [files.dropped]
    )
    return [
        Problem(path, 0, "missing", "stage 0 has written this file, it is not there")
        for path in needed
        if not path.is_file()
    ]


def _lines_and_rows(files: SetFiles, side: str) -> Iterator[Problem]:
    """The messages lines say what the manifest of their audio says: id, text, file, length."""
    path, manifest = files.messages(side), files.manifest(side)
    gone = {row["id"] for row in rows_in(files.dropped) if row["step"] == "messages"}
    rows = (row for row in rows_in(manifest) if row["id"] not in gone)
    lines = enumerate(rows_in(path), start=1)
    for row in rows:
        number, line = next(lines, (0, None))
        if line is None:
            yield Problem(path, 0, "line missing", f"{row['id']} of {manifest} has no line")
            return
        if line.get("key") != row["id"]:
            yield Problem(
                path, number, "other row", f"key {line.get('key')!r} stands where {row['id']!r} is due"
            )
            return
        text = next((turn["content"] for turn in line["messages"] if turn["role"] == "assistant"), None)
        if text != row["text"]:
            yield Problem(path, number, "changed text", f"{text!r:.60}, the manifest has {row['text']!r:.60}")
        audio = [Path(name) for name in read_messages_audio(line)]
        wanted = manifest.parent / row["audio_filepath"]
        if len(audio) != 1 or not _same(audio[0], wanted):
            yield Problem(
                path, number, "other audio", f"{[str(p) for p in audio]}, the manifest has {wanted}"
            )
    for number, line in lines:
        yield Problem(path, number, "unknown line", f"key {line.get('key')!r} is in no row of {manifest}")


def _same(one: Path, other: Path) -> bool:
    return one.absolute() == other.absolute() or (one.exists() and other.exists() and one.samefile(other))


def _counts(files: SetFiles, section: Mapping[str, Any]) -> Iterator[Problem]:
    """The report's numbers are those of the files."""
    stated = section["counts"]
    found = {side: count_rows(files.messages(side)) for side in SIDES}
    found["dropped"] = count_rows(files.dropped)
    for name, count in found.items():
        if stated[name] != count:
            path = files.dropped if name == "dropped" else files.messages(name)
            yield Problem(path, 0, "wrong count", f"it has {count} lines, the report says {stated[name]}")
    if stated["raw"] != sum(found.values()):
        said = " + ".join(f"{count} {name}" for name, count in found.items())
        yield Problem(files.folder, 0, "wrong sum", f"{stated['raw']} raw rows are not {said}")
    reasons: dict[str, int] = {}
    for row in rows_in(files.dropped):
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    if reasons != {drop["reason"]: drop["rows"] for drop in section["dropped"]}:
        yield Problem(files.dropped, 0, "wrong count", f"it has {reasons}, the report says otherwise")
    for side in SIDES:
        gone = {row["id"] for row in rows_in(files.dropped) if row["step"] == "messages"}
        seconds = sum(row["duration"] for row in rows_in(files.manifest(side)) if row["id"] not in gone)
        hours = round(seconds / 3600, 4)
        if abs(hours - section["hours"][side]) > 2e-4:
            yield Problem(
                files.manifest(side), 0, "wrong hours", f"{hours} h, the report says {section['hours'][side]}"
            )


def _leaks(files: Mapping[str, SetFiles], by: Mapping[str, Sequence[str]]) -> Iterator[Problem]:
    """No recording, and no value of what a set is divided by, is on the train side of a set and on the dev
    side of one."""
    seen: dict[str, str] = {}
    for name, each in files.items():
        for row in rows_in(each.manifest("dev")):
            for value in _origins(name, row, by[name]):
                seen.setdefault(value, f"{name} dev, {row['id']}")
    for name, each in files.items():
        for number, row in enumerate(rows_in(each.manifest("train")), start=1):
            shared = next((value for value in _origins(name, row, by[name]) if value in seen), None)
            if shared:
                what, value = shared.split("\x1f")[-2:]
                detail = f"{what} {value} of {row['id']} is also in {seen[shared]}"
                yield Problem(each.manifest("train"), number, "leak", detail)


def _origins(name: str, row: Mapping[str, Any], by: Sequence[str]) -> Iterator[str]:
    for field in by:
        if field not in ("id", "recording") and row.get(field) not in (None, ""):
            yield f"{name}\x1f{field}\x1f{row[field]}"
    yield f"recording\x1f{row.get('recording')}"  # the same file in two sets is a leak, too


def _pages(out: Path, report: Mapping[str, Any]) -> Iterator[Problem]:
    for suffix, render in (("md", render_markdown), ("html", render_html)):
        path = out / f"{REPORT}.{suffix}"
        if not path.is_file():
            yield Problem(path, 0, "missing", "the page of the report is not there")
        elif path.read_text(encoding="utf-8") != render(report):
            detail = "the page is not what the numbers in STAGE0_REPORT.json give; run prepare again"
            yield Problem(path, 0, "other report", detail)
