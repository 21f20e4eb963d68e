"""FunASR-Nano's training lines: chat messages around an audio path, with lengths in FunASR's units."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nest_ssl.data.lengths import audio_tokens, speech_length
from nest_ssl.data.manifest_check import Problem
from nest_ssl.data.prompts import DEFAULT_SYSTEM, END, START, TURN_END, PromptSettings, source_pieces
from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.files.manifest import parse_row, read_lines
from nest_ssl.files.rows import audio_field, audio_path, row_identity
from nest_ssl.text.llm_tokenizer import LlmTokenizer

__all__ = [
    "MessagesReport",
    "PromptSettings",
    "check_messages",
    "form_problems",
    "read_messages_audio",
    "speech_length_detail",
    "to_messages",
]

# What FunASR's dataset reads of a line besides messages and lengths.
EXTRAS = ("hist_context", "one_pass_result", "one_pass_wer", "vad_segs", "word_list", "noised")
HOTWORD_FIELDS = ("hotwords", "asr_hotwords")
URLS = ("http://", "https://")
PLACEHOLDER = re.compile(re.escape(START) + "(.*?)" + re.escape(END))  # FunASR's: it ends at a line break
CONTROL = re.compile(r"<\|[^|<>]*\|>")
LINES_AT_ONCE = 1024


def to_messages(
    row: Mapping[str, Any],
    prompt: PromptSettings,
    tokenizer: LlmTokenizer | None,
    manifest: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Give the messages line of a manifest row: key, messages, speech_length, text_length, FunASR's extras.

    A relative audio_filepath is taken from `manifest`'s folder and written absolute.  Raises ValueError for a
    row whose audio is a part of a file (FunASR reads all of it), that lacks text or duration, that has
    control tokens in its text or path; and without a tokenizer: text_length counts LLM tokens, which nothing
    else can tell.
    """
    if tokenizer is None:
        raise ValueError("text_length counts tokens of the language model: give the folder of its tokenizer")
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text is {text!r}: a line without text teaches nothing")
    if token := _control_token(text, tokenizer):
        raise ValueError(f"text has {token!r}, which the language model reads as a command: {text[:60]!r}")
    if row.get("offset") not in (None, 0):
        raise ValueError(
            f"offset is {row['offset']!r}, but FunASR reads whole files: cut the segment out first"
        )
    if row.get("channel_selector") not in (None, "average"):
        raise ValueError(
            f"channel_selector is {row['channel_selector']!r}, but FunASR averages all channels of a file: "
            f"write the channel to a file first"
        )
    duration = row.get("duration")
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration < float("inf"):
        raise ValueError(f"duration is {duration!r}, not a positive number of seconds")
    frames = speech_length(duration)
    if frames < 1:
        raise ValueError(f"duration is {duration} s: below 25 ms there is not one frame")
    words = {name: _hotwords(row[name], name) for name in HOTWORD_FIELDS if row.get(name)}
    given = words.get("asr_hotwords") or words.get("hotwords")
    turns = [{"role": "system", "content": prompt.system}] if prompt.system is not None else []
    turns.append({"role": "user", "content": prompt.user(_audio(row, manifest), text, given)})
    turns.append({"role": "assistant", "content": text})
    line = {
        "key": row_identity(row),
        "messages": turns,
        "speech_length": frames,
        "text_length": tokenizer.count(text),
    }
    if prompt.hotwords == "field":
        line |= words
    return line | {name: row[name] for name in EXTRAS if row.get(name) is not None}


def read_messages_audio(line: Mapping[str, Any]) -> list[str]:
    """Give the audio paths of a line, in the order of its turns."""
    users = (turn["content"] for turn in line["messages"] if turn["role"] == "user")
    return [found.removeprefix("!") for user in users for found in PLACEHOLDER.findall(user)]


def sequence_length(line: Mapping[str, Any], tokenizer: LlmTokenizer, speech_lengths: Sequence[int]) -> int:
    """Give the LLM tokens of a line as FunASR's dataset builds it, without prompt_classes.

    speech_lengths: 10-ms frames of its audio files, in order.
    """
    turns = line["messages"]
    system = next((turn["content"] for turn in turns if turn["role"] == "system"), DEFAULT_SYSTEM)
    frames = iter(speech_lengths)
    tokens = 0
    for user, assistant in _pairs(turns):
        pieces = source_pieces(system, user["content"], tokens == 0)
        tokens += sum(map(tokenizer.count, pieces))
        if START in user["content"]:
            tokens += audio_tokens(next(frames))
        tokens += tokenizer.count(assistant.get("prev_content", ""))
        tokens += tokenizer.count(assistant["content"] + TURN_END)
    return tokens


@dataclass
class MessagesReport:
    """What check_messages found; `tokens_verified` is False without a tokenizer."""

    lines: int = 0
    seconds: float = 0.0
    tokens_verified: bool = False
    not_opened: int = 0  # audio behind a URL
    problems: list[Problem] = field(default_factory=list)

    @property
    def by_kind(self) -> dict[str, int]:
        """Give how many problems there are of each kind, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())


def check_messages(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    tokenizer: LlmTokenizer | None = None,
    limits: Mapping[str, Any] | None = None,
    threads: int = 4,
) -> MessagesReport:
    """Check messages files that belong together against themselves, their audio and the tokenizer.

    A key or an audio file may come once in all of them.  `limits`: FunASR's dataset_conf keys; lines that
    FunASR would leave out by them are problems too.  Each problem names file and line.  Without a tokenizer
    text_length is only looked at, and the report says so.
    """
    report = MessagesReport(tokens_verified=tokenizer is not None)
    checker = _Checker(tokenizer, dict(limits or {}), report)
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for path in map(Path, files):
            before = report.lines
            lines = read_lines(path)
            while batch := list(islice(lines, LINES_AT_ONCE)):
                checker.take(path, batch, pool)
            if report.lines == before:
                report.problems.append(Problem(path, 0, "empty file", "it has no lines"))
    return report


class _Checker:
    def __init__(self, tokenizer: LlmTokenizer | None, limits: dict[str, Any], report: MessagesReport):
        self.tokenizer, self.limits, self.report = tokenizer, limits, report
        self.keys: dict[str, str] = {}
        self.audio: dict[str, str] = {}

    def take(self, path: Path, batch: list[tuple[int, bytes]], pool: ThreadPoolExecutor) -> None:
        """Check a batch of lines: their form one after another, their audio in the pool."""
        parsed: list[tuple[int, dict[str, Any] | None]] = []
        for number, content in batch:
            self.report.lines += 1
            try:
                parsed.append((number, parse_row(content, path, number)))
            except ValueError as error:
                parsed.append((number, None))
                detail = str(error).removeprefix(f"{path}:{number}: ")
                self.report.problems.append(Problem(path, number, "bad JSON", detail))
        forms = {n: list(form_problems(line, self.tokenizer)) for n, line in parsed if line is not None}
        sound = [(n, line) for n, line in parsed if line is not None and not forms[n]]
        durations = dict(
            zip((n for n, _ in sound), pool.map(_durations, (line for _, line in sound)), strict=True)
        )
        for number, line in parsed:
            if line is None:
                continue
            found = forms[number] or list(self._lengths(line, durations[number]))
            found += self._doubles(line, f"{path}:{number}") if not forms[number] else []
            self.report.problems += [Problem(path, number, kind, detail) for kind, detail in found]

    def _lengths(self, line: Mapping[str, Any], audio: list[float | str | None]) -> Iterator[tuple[str, str]]:
        """Compare the stated lengths with audio and text; `audio`: seconds, a message, or None for a URL."""
        for seconds in audio:
            if isinstance(seconds, str):
                yield "missing audio" if "does not exist" in seconds else "unreadable audio", seconds
            elif seconds is None:
                self.report.not_opened += 1
            else:
                self.report.seconds += seconds
        stated = _as_list(line["speech_length"])
        for number, seconds in zip(stated, audio, strict=False):
            if isinstance(seconds, float) and number not in _accepted(seconds):
                yield "wrong speech_length", speech_length_detail(number, seconds)
        if self.tokenizer is not None:
            replies = [assistant for _, assistant in _pairs(line["messages"])]
            for number, reply in zip(_as_list(line["text_length"]), replies, strict=False):
                tokens = self.tokenizer.count(reply.get("prev_content", "") + reply["content"])
                if number not in (tokens, self.tokenizer.count(reply["content"])):
                    yield "wrong text_length", f"{number} is stated, the text has {tokens} LLM tokens"
        yield from self._left_out(line, stated[0], _as_list(line["text_length"])[0], audio)

    def _left_out(
        self, line: Mapping[str, Any], speech: int, text: int, audio: list[float | str | None]
    ) -> Iterator[tuple[str, str]]:
        """Find what FunASR would drop without a word, by the limits."""
        limits = self.limits
        found = [
            ("max_source_length", speech, "speech_length"),
            ("max_target_length", text, "text_length"),
            ("max_token_length", speech + text, "speech_length + text_length"),
        ]
        if self.tokenizer is not None and all(isinstance(seconds, float) for seconds in audio):
            frames = [speech_length(seconds) for seconds in audio if isinstance(seconds, float)]
            tokens = sequence_length(line, self.tokenizer, frames)
            found.append(("max_token_length", tokens, "LLM tokens of the whole line"))
        for key, value, what in found:
            if limits.get(key) is not None and value > limits[key]:
                yield "left out by FunASR", f"{what} {value} > {key} {limits[key]}"
        if limits.get("min_source_length") is not None and speech < limits["min_source_length"]:
            detail = f"speech_length {speech} < min_source_length {limits['min_source_length']}"
            yield "left out by FunASR", detail

    def _doubles(self, line: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
        if line.get("key") is not None:
            first = self.keys.setdefault(str(line["key"]), place)
            if first != place:
                yield "double key", f"{line['key']!r} is also that of {first}"
        for audio in read_messages_audio(line):
            first = self.audio.setdefault(audio, place)
            if first != place:
                yield "double audio", f"{audio} is also in {first}"


def form_problems(line: Mapping[str, Any], tokenizer: LlmTokenizer | None) -> Iterator[tuple[str, str]]:
    """Find what is wrong with the layout of a messages line: (kind, detail), nothing of a sound one."""
    turns = line.get("messages")
    if not isinstance(turns, list) or not turns:
        yield "bad messages", f"messages is {turns!r:.60}, not a list of turns"
        return
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str) or "role" not in turn:
            yield "bad messages", f"a turn is {turn!r:.80}; it has a role and a content"
            return
    roles = [turn["role"] for turn in turns]
    body = roles[1:] if roles[0] == "system" else roles
    if not body or body != ["user", "assistant"] * (len(body) // 2):
        yield (
            "bad roles",
            f"{', '.join(map(str, roles))}; user and assistant take turns, a system may be first",
        )
        return
    for user, assistant in _pairs(turns):
        yield from _user_form(user["content"])
        text = assistant["content"]
        if not text.strip():
            yield "no text", f"the assistant's content is {text!r}"
        elif token := _control_token(text, tokenizer):
            yield "control token", f"the assistant's content has {token!r}"
    count = len(body) // 2
    for name, least in (("speech_length", 1), ("text_length", 1)):
        values = _as_list(line.get(name))
        whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values)
        if not values or not whole or len(values) not in (1, count):
            yield (
                f"bad {name}",
                f"{line.get(name)!r} is no whole number from {least} on, or a list of one per turn",
            )


def _user_form(content: str) -> Iterator[tuple[str, str]]:
    found = PLACEHOLDER.findall(content)
    if len(found) != 1 or content.count(START) != 1 or content.count(END) != 1:
        yield (
            "bad audio",
            f"{len(found)} of {START}!PATH{END} in {content[:80]!r}; there is one in each user turn",
        )
    elif not found[0].startswith("!") or not found[0][1:].strip():
        yield "bad audio", f"{found[0]!r} is not ! and a path"
    elif not found[0][1:].startswith(URLS) and not Path(found[0][1:]).is_absolute():
        yield "relative path", f"{found[0][1:]}: FunASR takes it from the folder it is started in"
    elif token := CONTROL.search(PLACEHOLDER.sub("", content)):
        yield "control token", f"the prompt has {token.group()!r}"


def _durations(line: Mapping[str, Any]) -> list[float | str | None]:
    """Give the seconds of each audio of a line, or why there are none; None behind a URL, not opened."""
    found: list[float | str | None] = []
    for path in read_messages_audio(line):
        if path.startswith(URLS):
            found.append(None)
            continue
        try:
            info = audio_info(path)
            if info.missing_frames or not info.num_frames:
                read_audio(path, channel="average")  # raises what is wrong
            found.append(info.duration_s)
        except (ValueError, OSError) as error:
            found.append(str(error))
    return found


def _accepted(seconds: float) -> set[int]:
    """Give the speech_length of audio, and what FunASR's converter makes of it in floating point."""
    return {speech_length(seconds), int((seconds * 1000 - 25) // 10 + 1)}


def speech_length_detail(stated: int, seconds: float) -> str:
    """Say how a stated speech_length differs from that of audio, and what was probably counted."""
    right = speech_length(seconds)
    ratio = stated / max(1, right)
    hint = ""
    if 0.14 < ratio < 0.19:
        hint = "; it seems to count 60-ms frames"
    elif 0.45 < ratio < 0.55 or 1.9 < ratio < 2.1:
        hint = "; it seems to be computed with another sample rate"
    return f"{stated} is stated, {seconds:.4f} s of audio are {right} frames of 10 ms{hint}"


def _pairs(turns: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    body = [turn for turn in turns if turn["role"] != "system"]
    return list(zip(body[::2], body[1::2], strict=True))


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _control_token(text: str, tokenizer: LlmTokenizer | None) -> str | None:
    found = CONTROL.search(text)
    return found.group() if found else tokenizer.special_in(text) if tokenizer else None


def _audio(row: Mapping[str, Any], manifest: str | os.PathLike | None) -> str:
    audio = audio_field(row)
    if isinstance(audio, str) and audio.startswith(URLS):
        found = audio
    else:
        if manifest is None and isinstance(audio, str) and not Path(audio).is_absolute():
            raise ValueError(f"audio_filepath {audio} is relative, and it is not said to which manifest")
        found = str(audio_path(row, Path(manifest or "")).absolute())
    if CONTROL.search(found) or "\n" in found or found != found.strip():
        raise ValueError(f"audio_filepath {found!r} has a control token, a line break or outer spaces")
    return found


def _hotwords(value: Any, name: str) -> list[str]:
    """Give a list; FunASR splits a text at ", "."""
    words = value.split(", ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise ValueError(f"{name} is a list of words, or a text of words with ', ' between, not {value!r}")
    return words
