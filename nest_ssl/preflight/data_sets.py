"""The data sets as a whole: lines that are none, audio that is none, doubles, overlap of train and dev."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nest_ssl.files.audio import AudioInfo
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown
from nest_ssl.preflight.rows import Row, Rows

DURATION_TOLERANCE_S = 0.05
LINE_CURES = {
    "missing file": "Correct the path.",
    "empty file": "Write it again; the stage that made it has failed.",
    "bad JSON": "Each line is one JSON object; write the file again with nest_ssl.bin.prepare.",
    "bad roles": "Turns are user, assistant, user, assistant ...; a system turn may come first.",
    "bad audio": "A user turn holds <|startofspeech|>!/path/to.wav<|endofspeech|>, with the exclamation "
    "mark.",
}


def check_lines(context: Context) -> Iterator[Finding]:
    """Report lines that are no training rows, and sets without any row."""
    for name, found in context.sets:
        for kind, count in Counter(fault.kind for fault in found.faults).items():
            faults = [fault for fault in found.faults if fault.kind == kind]
            yield Finding(
                "error",
                "DATA.line",
                f"{kind} in {count} places of the {name} set, the first: {faults[0]}",
                "FunASR skips or replaces what it cannot read, so a run trains on less, or other, data than "
                "meant.",
                LINE_CURES.get(
                    kind, "Write the file again, for example with python -m nest_ssl.bin.prepare."
                ),
            )
        if not found.rows:
            yield Finding(
                "error",
                "DATA.empty",
                f"the {name} set has no usable row: {shown(found.files) or 'no file could be read'}",
                "There is nothing to learn from, or to validate on.",
                f"Give jsonl files with rows to --{name}.",
            )
    if context.train and not context.valid:
        monitor = context.value("train_conf.monitor", "val_loss")
        yield Finding(
            "warning",
            "DATA.valid",
            "no validation data are named",
            f"The best checkpoints and an early stop are chosen by {monitor}; without it the last weights "
            "are taken, over-fitted or not.",
            "Hold out some rows and give them to --valid.",
        )


def check_audio(context: Context) -> Iterator[Finding]:
    """Report files that are missing, empty, cut off or unreadable, and durations that do not fit."""
    bad: dict[str, list[tuple[Row, str]]] = {"missing": [], "damaged": []}
    several, short, total = [], [], len(context.opened)
    for row, _, head in context.opened:
        if isinstance(head, str):
            bad["missing" if "does not exist" in head else "damaged"].append((row, head))
            continue
        if head.channels > 1:
            several.append(row)
        if row.seconds is not None and row.offset + row.seconds > head.duration_s + DURATION_TOLERANCE_S:
            short.append((row, head))
    for kind, found in bad.items():
        if found:
            row, detail = found[0]
            relative = kind == "missing" and not all(Path(path).is_absolute() for path in row.audio)
            yield Finding(
                "error",
                f"DATA.{kind}",
                f"{len(found)} of {total} audio files that were opened are {kind}, such as {row.place}: "
                f"{detail}",
                "FunASR puts a random other row in its place, up to `retry` times, and says nothing."
                + (
                    " The path is relative: FunASR takes it from the folder it is started in."
                    if relative
                    else ""
                ),
                "Correct the paths (absolute ones stay right)."
                if kind == "missing"
                else "Fetch or convert the files again, or remove the rows.",
            )
    if short:
        row, head = short[0]
        yield Finding(
            "error",
            "DATA.duration",
            f"{len(short)} rows state audio beyond the end of their file, such as {row.place}: "
            f"{row.offset + (row.seconds or 0):.3f} s of {head.duration_s:.3f} s",
            "Row and file do not belong together, or the file was cut since.",
            "Write the manifest again from the files that are there.",
        )
    if several:
        yield Finding(
            "note",
            "DATA.channels",
            f"{len(several)} of {total} files have several channels, such as {several[0].place}",
            "FunASR averages all channels; in a stereo call that mixes both speakers.",
            "Write the speaker's channel to a file of its own, unless the mixture is meant.",
        )
    yield from _unopened(context)


def _unopened(context: Context) -> Iterator[Finding]:
    rows = sum(len(found) for _, found in context.sets)
    if context.options.files is not None and len(context.opened) < rows:
        silent = sum(not isinstance(head, AudioInfo) for _, _, head in context.opened)
        yield Finding(
            "note",
            "DATA.sample",
            f"the headers of {len(context.opened)} files of {rows} rows were read, {silent} of them bad",
            "The first rows and some at equal distances; what the others hold is not known.",
            "--files all reads them all.",
        )


def check_doubles(context: Context) -> Iterator[Finding]:
    """Report keys and audio that come twice in a set, and what training and validation share."""
    for name, found in context.sets:
        for what, values in _values(found).items():
            if what == "text":
                continue
            counts = Counter(values)
            twice = [value for value, count in counts.items() if count > 1]
            if twice:
                place = next(row.place for row in found.rows if twice[0] in _of(row, what))
                yield Finding(
                    "warning",
                    f"DATA.double_{what}",
                    f"{len(twice)} {'keys' if what == 'key' else 'audio files'} come more than once in the "
                    f"{name} set, such as {twice[0]!r} ({place})",
                    "Results are matched by key, and random streams are drawn by it: doubles would share "
                    "them."
                    if what == "key"
                    else "The utterance counts twice in every epoch.",
                    "Make keys unique." if what == "key" else "Remove one of the rows, unless it is meant.",
                )
    if not (context.train and context.valid):
        return
    same = {path.resolve() for path in context.training.files} & {
        p.resolve() for p in context.validation.files
    }
    if same:
        yield Finding(
            "error",
            "DATA.same_file",
            f"{shown(same)} is named for training and for validation",
            "The monitored metric would fall while the model learns the rows by heart; no early stop would "
            "come.",
            "Give rows to --valid that are not trained on.",
        )
        return
    trained, held = _values(context.training), _values(context.validation)
    for what, level in (("audio", "error"), ("key", "warning"), ("text", "note")):
        shared = set(trained[what]) & set(held[what])
        count = sum(value in shared for value in held[what])
        share = count / max(1, len(held[what]))
        if not shared or (what == "text" and share < 0.1):
            continue
        yield Finding(
            level,  # type: ignore[arg-type]
            f"DATA.overlap_{what}",
            f"{count} of {len(context.validation)} validation rows share their {what} with a training row, "
            f"such as {min(map(str, shared))[:80]!r}",
            {
                "audio": "The validation figure is that of known utterances: it chooses the wrong "
                "checkpoint.",
                "key": "One of them is probably the same recording, or its channel version.",
                "text": "Short answers repeat in telephone speech; of prompts it means that the language "
                "model may know the answers by heart.",
            }[what],
            "Split by key before anything is made of the data (nest_ssl.bin.prepare does), so that all "
            "versions of a recording are on one side.",
        )


def _values(found: Rows) -> dict[str, list[str]]:
    return {what: [v for row in found.rows for v in _of(row, what)] for what in ("audio", "key", "text")}


def _of(row: Row, what: str) -> list[str]:
    if what == "key":
        return [row.key]
    if what == "text":
        return [row.text.strip().lower()]
    # A part of a recording is an utterance of its own.
    return [f"{path}@{row.offset:g}" if row.offset else path for path in row.audio]
