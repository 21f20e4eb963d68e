"""What is to be decoded: manifest rows, FunASR's messages lines or audio files, each with its prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.data.fun_asr_rows import AudioSpan, Conversation, conversation_of
from nest_ssl.data.prompts import DEFAULT_SYSTEM, END, HOTWORD_HEADER, START, PromptSettings
from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.files.manifest import parse_row, read_lines

COPIED = ("lang", "channel", "speaker", "prompt_key")  # fields of a row that its hypothesis carries on


@dataclass(frozen=True)
class PromptOptions:
    """What the user chose for all rows.

    settings: the prompt of rows that bring none.  hotwords: come before those of the row.  prev_text: how
    every answer begins.  overridden: language or itn were chosen, so that the prompts of messages lines go.
    """

    settings: PromptSettings = field(default_factory=PromptSettings)
    hotwords: tuple[str, ...] = ()
    prev_text: str | None = None
    overridden: bool = False

    def prompt(self, own: str | None, row: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Give what is said before the audio, and the hot words in it; `own`: the prompt that a line has."""
        words = list(dict.fromkeys([*self.hotwords, *row_hotwords(row)]))
        header = HOTWORD_HEADER.format(words=", ".join(words)) if words else ""
        return header + (self.settings.text() if own is None or self.overridden else own), words


@dataclass(frozen=True)
class Item:
    """An utterance to decode.  key: unique; error: why it cannot be decoded, where its line says so."""

    key: str
    place: str
    span: AudioSpan | None = None
    prompt: str = ""
    system: str = DEFAULT_SYSTEM
    prev_text: str | None = None
    hotwords: tuple[str, ...] = ()
    reference: str | None = None
    copied: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def identity(self) -> str:
        """What its result depends on besides settings and model: prompt and file, with size and time."""
        facts: list[Any] = [self.key, self.prompt, self.system, self.prev_text, self.error]
        if self.span is not None:
            path = self.span.path
            facts += [str(path), self.span.offset_s, self.span.duration_s, self.span.channel]
            if path.is_file():
                facts += [path.stat().st_size, path.stat().st_mtime_ns]
        content = json.dumps(facts, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=12).hexdigest()

    def length_s(self) -> float:
        """Give the seconds of audio by the header; 0 where it cannot be read: decoding will say so."""
        if self.span is None:
            return 0.0
        if self.span.duration_s is not None:
            return self.span.duration_s
        try:
            return max(0.0, audio_info(self.span.path).duration_s - self.span.offset_s)
        except (ValueError, OSError):
            return 0.0

    def read(self, sample_rate: int) -> np.ndarray:
        """Give (T,) float32, resampled as FunASR does; ValueError or OSError name the file."""
        if self.span is None:
            raise ValueError(self.error or f"{self.place}: there is no audio")
        from nest_ssl.data.fun_asr_features import resampled

        span = self.span
        samples, rate = read_audio(span.path, None, span.offset_s, span.duration_s, span.channel)
        return resampled(samples, rate, sample_rate)


def items_of_files(files: Sequence[Path], options: PromptOptions, channel: Any = None) -> list[Item]:
    """Give whole audio files as items; keys are their paths as written.

    Raises FileNotFoundError for one that does not exist.
    """
    for path in files:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; name audio files")
    prompt, words = options.prompt(None, {})
    found = [
        Item(str(path), str(path), AudioSpan(path, channel="average" if channel is None else channel), prompt,
             prev_text=options.prev_text, hotwords=tuple(words))
        for path in files
    ]  # fmt: skip
    return unique(found)


def items_of_rows(paths: Sequence[Path], options: PromptOptions, channel: Any = None) -> list[Item]:
    """Give the rows of manifests and messages files in order; a bad line becomes an item with an error.

    Rows may have `hotwords` (a list, or one text with ", " between them).  Each turn of a messages line that
    has audio is an item of its own, without what was said before it.  channel: of files with several, where
    the row names none.  Raises FileNotFoundError for a missing file, ValueError for one without lines.
    """
    found: list[Item] = []
    for path in paths:
        before = len(found)
        for number, content in read_lines(path):
            try:
                row = parse_row(content, path, number)
                # A reference is not read by the model, so that whatever it holds may stay.
                silent = row if "messages" in row else {**row, "text": ""}
                conversation = conversation_of(silent, path, number, PromptSettings())
                found += _items(conversation, row, options, channel)
            except ValueError as error:
                found.append(Item(f"{path}:{number}", f"{path}:{number}", error=str(error)))
        if len(found) == before:
            raise ValueError(f"{path} has no lines: there is nothing to decode")
    return unique(found)


def unique(items: Sequence[Item]) -> list[Item]:
    """Give the items with keys of their own: a key that comes again gets #2, #3 ..."""
    seen: dict[str, int] = {}
    taken = {item.key for item in items}
    found = []
    for item in items:
        seen[item.key] = seen.get(item.key, 0) + 1
        key = item.key
        while seen[item.key] > 1 and key in taken:
            key = f"{item.key}#{seen[item.key]}"
            seen[item.key] += key in taken
        taken.add(key)
        found.append(replace(item, key=key))
    return found


def shard_of(items: Sequence[Item], number: int, count: int) -> list[Item]:
    """Give part `number` (from 1) of `count`: neighbours, so that the parts' results joined are in order."""
    start, end = (len(items) * n // count for n in (number - 1, number))
    return list(items[start:end])


def row_hotwords(row: Mapping[str, Any]) -> list[str]:
    """Give the hot words of a row, FunASR's asr_hotwords before hotwords; ValueError for what is neither
    a list of texts nor a text."""
    words = row.get("asr_hotwords") or row.get("hotwords") or []
    words = words.split(", ") if isinstance(words, str) else words
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"hotwords is {words!r:.60}, not a list of words")
    return [word.strip() for word in words if word.strip()]


def read_hotwords(path: Path) -> list[str]:
    """Give the hot words of a text file, one a line, without doubles."""
    if not path.is_file():
        raise FileNotFoundError(f"hot words {path}: no such file; it has one hot word or phrase a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"hot words {path}: not UTF-8 text: {error.reason}") from error
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise ValueError(f"hot words {path}: the file is empty; it has one hot word or phrase a line")
    return list(dict.fromkeys(words))


def _items(
    conversation: Conversation, row: Mapping[str, Any], options: PromptOptions, channel: Any
) -> Iterator[Item]:
    copied = {name: row[name] for name in COPIED if row.get(name) is not None}
    with_audio = [turn for turn in conversation.turns if turn.audio is not None]
    if not with_audio:
        raise ValueError(f"{conversation.place}: the line has no audio")
    for number, turn in enumerate(with_audio, start=1):
        own = None
        if "messages" in row:
            own, _, rest = turn.user.partition(START)
            if behind := rest.partition(END)[2].strip():
                raise ValueError(
                    f"{conversation.place}: {behind[:40]!r} follows the audio; it must be the end"
                )
        try:
            prompt, words = options.prompt(own, row)
        except ValueError as error:
            raise ValueError(f"{conversation.place}: {error}") from error
        span = turn.audio
        assert span is not None
        reference = turn.transcript if "messages" in row else row.get("text")
        yield Item(
            conversation.utterance_id if number == 1 else f"{conversation.utterance_id}#{number}",
            conversation.place,
            replace(span, channel=channel) if channel is not None and span.channel is None else span,
            prompt,
            conversation.system,
            turn.before if options.prev_text is None else options.prev_text,
            tuple(words),
            reference if isinstance(reference, str) else None,
            copied,
        )
