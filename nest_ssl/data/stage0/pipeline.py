"""Stage 0 of one set, step by step: read, annotation, length, split, channel, messages.

In OUT/NAME/ lie train.jsonl and dev.jsonl (messages), audio/train, audio/dev with their manifests beside
them, dropped.jsonl, and work/ with what each step left.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.annotation import AnnotationRules
from nest_ssl.data.prompts import PromptSettings, prompt_tokens
from nest_ssl.data.stage0.annotate import changed_audio, facts_path, filter_annotation, measure
from nest_ssl.data.stage0.channel import ChannelSettings, make_audio, not_as_written
from nest_ssl.data.stage0.divide import divide
from nest_ssl.data.stage0.lengths import filter_lengths, preview_limits, usable_limits
from nest_ssl.data.stage0.lines import write_messages
from nest_ssl.data.stage0.read import audio_has_come, read_sources
from nest_ssl.data.stage0.rows import count_rows, rows_in
from nest_ssl.data.stage0.settings import SetSettings
from nest_ssl.data.stage0.steps import Bars, Steps, file_fact, no_bars, write_json
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import write_rows
from nest_ssl.text.llm_tokenizer import LlmTokenizer

SIDES = ("train", "dev")
STEPS = ("read", "annotation", "length", "split", "channel", "messages")
log = logging.getLogger(__name__)

Advance = Callable[[int], Any]
Counted = Callable[[str, int | None, Callable[[Advance], object]], Callable[[], None]]


@dataclass(frozen=True)
class Run:
    """What all sets share: `limit` rows per set in a test; show: prints a text to who runs it."""

    out: Path
    seed: int
    workers: int
    tokenizer: LlmTokenizer | None = None
    limit: int | None = None
    redo: tuple[str, ...] = ()
    preview_only: bool = False
    bars: Bars = no_bars
    show: Callable[[str], object] = print


@dataclass
class SetFiles:
    """Where the files of a set are."""

    folder: Path
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.work = self.folder / "work"

    def messages(self, side: str) -> Path:
        """The FunASR-Nano lines of train or dev."""
        return self.folder / f"{side}.jsonl"

    def audio(self, side: str) -> Path:
        """The folder of the audio; its manifest lies beside it."""
        return self.folder / "audio" / side

    def manifest(self, side: str) -> Path:
        """The manifest of the audio, with all that was drawn for each file."""
        return self.folder / "audio" / f"{side}.jsonl"

    def failed(self, side: str) -> Path:
        """Rows that the channel could not make, with reasons."""
        return self.work / f"channel-{side}-dropped.jsonl"

    @property
    def dropped(self) -> Path:
        """Every row that was left out, with all its reasons, to look at."""
        return self.folder / "dropped.jsonl"

    def dropped_parts(self) -> list[Path]:
        """What each step has dropped, in their order."""
        names = ["read-dropped", "annotation-dropped", "length-dropped"]
        names += [f"channel-{side}-dropped" for side in SIDES] + [
            f"messages-{side}-dropped" for side in SIDES
        ]
        return [self.work / f"{name}.jsonl" for name in names]


def prepare_set(settings: SetSettings, run: Run, channel: ChannelSettings) -> bool:
    """Make one set; gives False where it had to stop early (a preview, or no tokenizer).

    Raises ValueError for bad input, an empty side, or a sum that does not add up.
    """
    files = SetFiles(run.out / settings.name)
    work = files.work
    work.mkdir(parents=True, exist_ok=True)
    rules = AnnotationRules.from_config(settings.annotation, f"sets.{settings.name}.annotation")
    prompt = PromptSettings.from_config(settings.prompt, f"sets.{settings.name}.prompt")
    limits, waiting = usable_limits(settings.length, run.tokenizer, f"sets.{settings.name}.length")
    steps = Steps(work, settings.name, run.redo)
    tokens = prompt_tokens(prompt, run.tokenizer) if run.tokenizer else 0

    def counted(
        step: str, total: int | None, body: Callable[[Callable[[int], Any]], object]
    ) -> Callable[[], None]:
        def with_bar() -> None:
            with run.bars(total, f"{settings.name}: {step}") as bar:
                body(bar.update)

        return with_bar

    rows = work / "rows.jsonl"
    if come := audio_has_come(work / "read-dropped.jsonl"):
        steps.forget(["read"], f"{come:,} utterances whose audio was missing have it now")
    steps.run(
        "read",
        {
            "sources": [str(source) for source in settings.sources],
            "root": str(settings.root) if settings.root else None,
            "extension": settings.audio_extension,
            "selection": asdict(settings.selection),
            "max_utterances": settings.max_utterances,
            "channels": dict(settings.channels),
            "recording_pattern": settings.split.recording_pattern,
            "seed": run.seed if settings.max_utterances else None,
            "limit": run.limit,
        },
        [source.path for source in settings.sources],
        [rows, work / "read-dropped.jsonl", work / "read.json"],
        counted("read", run.limit, lambda advance: read_sources(
            settings, work, run.seed, run.workers * 4, run.limit, advance)),
    )  # fmt: skip

    annotated = work / "annotated.jsonl"
    facts = facts_path(work, rows)
    if "annotation" in run.redo:
        facts.unlink(missing_ok=True)
    if changed := changed_audio(rows, facts):
        again = ["annotation", *(f"channel-{side}" for side in SIDES), "measure"]
        steps.forget(again, f"{len(changed):,} audio files have changed, such as {min(changed)}")

    def annotation(advance: Callable[[int], Any]) -> None:
        measure(rows, facts, run.workers, advance)
        filter_annotation(rows, facts, rules, work)

    steps.run(
        "annotation",
        rules.as_dict(),
        [rows],
        [annotated, work / "annotation-dropped.jsonl", work / "annotation.json"],
        counted("annotation", count_rows(rows), annotation),
    )
    _not_empty(annotated, settings, work / "annotation-dropped.jsonl")

    if waiting:
        log.warning(
            "%s: the limits on %s wait for --tokenizer DIR, since they count LLM tokens",
            settings.name,
            ", ".join(waiting),
        )
    table = preview_limits(annotated, work, limits, run.tokenizer, tokens)
    run.show(f"{settings.name}: what the length limits remove of {count_rows(annotated)} rows\n\n{table}\n")
    if run.preview_only:
        return False
    fitting = work / "fitting.jsonl"
    needs_tokens = run.tokenizer is not None and any(
        unit in ("text_length", "sampler_length", "sequence_length") for unit in limits.units()
    )
    steps.run(
        "length",
        {
            "limits": [vars(limit) for limit in limits.limits],
            "tokenizer": tokenizer_fact(run.tokenizer) if needs_tokens else None,
            "prompt tokens": tokens if "sequence_length" in limits.units() else None,
        },
        [annotated],
        [fitting, work / "length-dropped.jsonl"],
        counted("length", count_rows(annotated), lambda advance: filter_lengths(
            annotated, work, limits, run.tokenizer, tokens, advance)),
    )  # fmt: skip
    _not_empty(fitting, settings, work / "length-dropped.jsonl")

    places = (source.path.absolute() for source in settings.sources)
    roots = [(place if place.is_dir() else place.parent).as_posix() for place in places]
    split_inputs = [fitting] + ([settings.split.dev_list] if settings.split.dev_list else [])
    sides = {side: work / f"{side}.jsonl" for side in SIDES}
    steps.run(
        "split",
        asdict(settings.split) | {"dev_list": str(settings.split.dev_list), "seed": run.seed, "roots": roots},
        split_inputs,
        [*sides.values(), work / "split.json"],
        lambda: _split(fitting, sides, settings, run.seed, work, roots),
    )

    for side in SIDES:
        files.audio(side).parent.mkdir(exist_ok=True)
        if f"channel-{side}" in run.redo:
            shutil.rmtree(files.audio(side) / "records", ignore_errors=True)  # what is done is in there
        if other := next(not_as_written(files.audio(side), files.manifest(side)), None):
            steps.forget([f"channel-{side}", "measure"], f"{other[1]} is not as it was written")
        _channel_step(steps, files, side, settings, channel, counted)
    if run.tokenizer is None:
        _gather_dropped(files)
        return False
    for side in SIDES:
        _messages_step(steps, files, side, prompt, run.tokenizer, counted)
    _gather_dropped(files)
    check_sum(files, settings.name)
    return True


def _channel_step(
    steps: Steps,
    files: SetFiles,
    side: str,
    settings: SetSettings,
    channel: ChannelSettings,
    counted: Counted,
) -> None:
    rows = files.work / f"{side}.jsonl"

    def body(advance: Advance) -> None:
        make_audio(settings.channel, rows, files.audio(side), files.failed(side), channel, advance)

    steps.run(
        f"channel-{side}",
        {"channel": settings.channel, **channel.facts()},
        [rows, *channel.inputs()],
        [files.manifest(side), files.failed(side)],
        counted(f"channel {side}", count_rows(rows), body),
    )


def _messages_step(
    steps: Steps,
    files: SetFiles,
    side: str,
    prompt: PromptSettings,
    tokenizer: LlmTokenizer,
    counted: Counted,
) -> None:
    manifest, dropped = files.manifest(side), files.work / f"messages-{side}-dropped.jsonl"

    def body(advance: Advance) -> None:
        write_messages(manifest, files.messages(side), dropped, prompt, tokenizer, advance)

    # lines name audio by absolute paths: in another place they are written again
    settings = {"prompt": asdict(prompt), "tokenizer": tokenizer_fact(tokenizer)}
    steps.run(
        f"messages-{side}",
        settings | {"folder": str(files.folder.absolute())},
        [manifest],
        [files.messages(side), dropped],
        counted(f"messages {side}", count_rows(manifest), body),
    )


def check_sum(files: SetFiles, name: str) -> dict[str, int]:
    """Give the counts of a set; ValueError unless every raw row is in train, in dev or dropped."""
    raw = json.loads((files.work / "read.json").read_text(encoding="utf-8"))["raw"]
    counts = {side: count_rows(files.messages(side)) for side in SIDES}
    counts["dropped"] = count_rows(files.dropped)
    if raw != sum(counts.values()):
        said = " + ".join(f"{number} {what}" for what, number in counts.items())
        raise ValueError(f"{name}: {raw} raw rows are not {said}; run again with --redo read")
    return {"raw": raw, **counts}


def tokenizer_fact(tokenizer: LlmTokenizer | None) -> str | None:
    """Give what tells a tokenizer from another: a digest of its files."""
    if tokenizer is None:
        return None
    names = ("tokenizer.json", "vocab.json", "merges.txt")
    return " ".join(file_fact(tokenizer.folder / name) for name in names)


def _split(
    fitting: Path,
    sides: dict[str, Path],
    settings: SetSettings,
    seed: int,
    work: Path,
    roots: list[str],
) -> None:
    division = divide(fitting, settings.split, seed, settings.name, roots)
    groups = {side: set() for side in SIDES}  # type: dict[str, set[str]]
    rows: Counter[str] = Counter()
    with ExitStack() as stack:
        opened = {
            side: stack.enter_context(
                open(stack.enter_context(replaced(path)), "w", encoding="utf-8", newline="\n")
            )
            for side, path in sides.items()
        }
        for row in rows_in(fitting):
            side = division.side(row)
            groups[side].add(division.groups.of(row))
            rows[side] += 1
            opened[side].write(json.dumps(row, ensure_ascii=False) + "\n")
    if division.note:
        log.warning("%s: %s", settings.name, division.note)
    facts = {side: {"rows": rows[side], "groups": len(groups[side])} for side in SIDES}
    write_json(work / "split.json", facts | {"note": division.note})


def _gather_dropped(files: SetFiles) -> None:
    work = files.work.absolute()
    rows = (row for path in files.dropped_parts() if path.is_file() for row in rows_in(path))
    write_rows(
        files.dropped,
        (
            row | {"audio_filepath": (work / row["audio_filepath"]).as_posix()}
            if row.get("audio_filepath")
            else row
            for row in rows
        ),
    )


def _not_empty(path: Path, settings: SetSettings, dropped: Path) -> None:
    if path.stat().st_size:
        return
    reasons = Counter(row["reason"] for row in rows_in(dropped))
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(4)) or "there were none"
    first = next((row for row in rows_in(dropped)), None)
    example = f" The first: {first['place']}: {first['details'][0]}." if first else ""
    raise ValueError(
        f"{settings.name}: no row is left: {why}.{example} {dropped} has them with their reasons; "
        f"mend the source, or change the limits in --config or by KEY=VALUE words"
    )
