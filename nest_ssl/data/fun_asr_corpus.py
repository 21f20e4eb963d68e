"""The conversations of FunASR jsonl files, lists of them, and plain manifests; numbers stay in memory."""

from __future__ import annotations

import hashlib
import logging
import os
from array import array
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nest_ssl.data.fun_asr_rows import Conversation, conversation_of
from nest_ssl.data.lengths import speech_length
from nest_ssl.data.prompts import PromptSettings
from nest_ssl.files.audio import audio_info
from nest_ssl.files.manifest import BYTE_ORDER_MARK, check_is_file, parse_row
from nest_ssl.files.system import open_for_reading, read_at

if TYPE_CHECKING:  # data files are looked for before torch is loaded
    from nest_ssl.data.fun_asr_sample import SampleBuilder

JSON_LINES = (".jsonl", ".json")
NOT_JSON = "not a JSON object"
NO_SPEECH_LENGTH = "without speech_length"
NO_TEXT = "text_length below 1, or none"
ROWS_PER_LOG_LINE = 500_000

log = logging.getLogger(__name__)


class MessagesCorpus:
    """The rows that FunASR's index keeps, in order; `corpus[i]` reads one again from its file.

    files: jsonl files of messages lines or manifest rows.  slices: [(first, last + 1)] of items, for files
    in FunASR's data slices.  limits: max_source_length, min_source_length (10-ms frames), max_target_length
    (LLM tokens), each inclusive; None has no limit.  prompt: what manifest rows are asked with.  bad_lines:
    so many lines that are no JSON are left out, as FunASR does with any number of them.
    speech_lengths, text_lengths: (N,) int64 of the first turn, as FunASR counts them.  source_lens: (N,)
    their sum.  audio_tokens, sequence_lengths: (N,) LLM tokens of the audio, and of all.  feature_frames:
    (N,) of the longest audio.  seconds: (N,) float32 of all audio.  left_out: reason -> ids.
    Raises ValueError "file:line: ..." for a row of another layout, and for rows of which none is left.
    """

    def __init__(
        self,
        files: Sequence[Path],
        builder: SampleBuilder,
        frontend: Any,
        prompt: PromptSettings,
        limits: Mapping[str, int | None],
        *,
        slices: Sequence[Sequence[Path]] | None = None,
        bad_lines: int = 0,
        name: str = "train_data_set_list",
    ) -> None:
        self.files = list(files)
        self.prompt = prompt
        self.name = name
        self.left_out: dict[str, list[str]] = {}
        self.num_rows = 0
        self._builder, self._frontend = builder, frontend
        self._frames: dict[int, int] = {}
        self._bad_lines = bad_lines
        self._descriptors: dict[int, int] = {}
        self._digest = hashlib.blake2b(digest_size=16)
        self._place = {name: array("q") for name in ("file", "line", "offset", "size")}
        columns = {name: array("q") for name in ("speech", "text", "audio", "sequence", "frames")}
        seconds = array("f")
        starts = []
        for number, path in enumerate(self.files):
            starts.append(len(seconds))
            self._scan(number, path, limits, columns, seconds)
        self.speech_lengths, self.text_lengths = _whole(columns["speech"]), _whole(columns["text"])
        self.source_lens = self.speech_lengths + self.text_lengths
        self.audio_tokens, self.sequence_lengths = _whole(columns["audio"]), _whole(columns["sequence"])
        self.feature_frames = _whole(columns["frames"])
        self.seconds = np.array(seconds, np.float32)
        self.slices = _item_slices([*starts, len(seconds)], [len(part) for part in slices or [self.files]])
        if not len(self):
            raise ValueError(f"{name}: of {self.num_rows} rows none is left: {self.reasons()}")

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, i: int) -> Conversation:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.name} gives {len(self)} rows, there is no number {i}")
        number, line = self._place["file"][i], self._place["line"][i]
        if number not in self._descriptors:
            self._descriptors[number] = open_for_reading(self.files[number])
        content = read_at(self._descriptors[number], self._place["size"][i], self._place["offset"][i])
        path = self.files[number]
        try:
            return conversation_of(parse_row(content, path, line), path, line, self.prompt)
        except ValueError as error:
            raise ValueError(f"{error}; if it was right at the start, {path} has changed since") from error

    def reasons(self) -> str:
        """Give what was left out as a text, with the first ids."""
        parts = []
        for reason, ids in self.left_out.items():
            more = ", ..." if len(ids) > 5 else ""
            parts.append(f"{len(ids)} {reason} ({', '.join(ids[:5])}{more})")
        return "; ".join(parts) or "the files are empty"

    def leave_out(self, i: int, reason: str) -> None:
        """Note that an item is left out of the batches."""
        self.left_out.setdefault(reason, []).append(self[i].utterance_id)

    def fingerprint(self) -> str:
        """Give a text that differs between rows of other content, wherever the files are."""
        return self._digest.hexdigest()

    def place(self, i: int) -> str:
        """Give "file:line" of an item."""
        return f"{self.files[self._place['file'][i]]}:{self._place['line'][i]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptors": {}, "_digest": _Digest(self.fingerprint())}

    def __del__(self, close: Any = os.close) -> None:  # when Python ends, the name `os` is gone
        for descriptor in self.__dict__.get("_descriptors", {}).values():
            close(descriptor)

    def _scan(
        self, number: int, path: Path, limits: Mapping[str, int | None], columns: dict, seconds: array
    ) -> None:
        check_is_file(path)
        position = 0
        with open(path, "rb", buffering=1 << 20) as file:
            for line, content in enumerate(file, start=1):
                start, position = position, position + len(content)
                if line == 1 and content.startswith(BYTE_ORDER_MARK):
                    start, content = start + len(BYTE_ORDER_MARK), content[len(BYTE_ORDER_MARK) :]
                if not content.strip():
                    continue
                self.num_rows += 1
                self._digest.update(content)
                found = self._measured(content, path, line, limits)
                if found is None:
                    continue
                for name, value in found.items():
                    (seconds if name == "seconds" else columns[name]).append(value)
                for name, value in zip(self._place, (number, line, start, len(content)), strict=True):
                    self._place[name].append(value)
                if len(seconds) % ROWS_PER_LOG_LINE == 0:
                    log.info("%s rows %d", path, len(seconds))

    def _measured(
        self, content: bytes, path: Path, line: int, limits: Mapping[str, int | None]
    ) -> dict[str, Any] | None:
        """Give the lengths of a row; None for one that is left out."""
        try:
            row = parse_row(content, path, line)
        except ValueError as error:
            found = self.left_out.setdefault(NOT_JSON, [])
            found.append(f"{path}:{line}")
            if len(found) > self._bad_lines:
                raise ValueError(
                    f"{error}\nrepair it, or set dataset_conf.max_corrupt=N to go on without N such rows"
                ) from error
            return None
        conversation = conversation_of(row, path, line, self.prompt)
        spoken, texts = self._lengths(row, conversation)
        speech, text = spoken[0], texts[0]
        if reason := _outside(speech, text, limits):
            self.left_out.setdefault(reason, []).append(conversation.utterance_id)
            return None
        turns = conversation.turns[: self._builder.settings.multiturn_num_max]
        if cut := len(conversation.turns) - len(turns):
            reason = f"turns above multiturn_num_max {len(turns)}"
            self.left_out.setdefault(reason, []).extend([conversation.utterance_id] * cut)
        heard = [spoken[min(k, len(spoken) - 1)] for k, turn in enumerate(turns) if turn.audio is not None]
        answered = sum(texts[min(k, len(texts) - 1)] for k in range(len(turns)))
        frames = [self._feature_frames(spoken_frames) for spoken_frames in heard]
        audio = sum(map(self._builder.audio_tokens, frames))
        return {
            "speech": speech,
            "text": text,
            "audio": audio,
            "sequence": self._builder.prompt_tokens(conversation) + audio + answered,
            "frames": max(frames, default=0),
            "seconds": sum(heard) / 100.0,
        }

    def _lengths(
        self, row: Mapping[str, Any], conversation: Conversation
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give 10-ms frames and LLM tokens of a row, 0 where it should state them and does not."""
        if "messages" in row:
            return conversation.speech_lengths or (0,), conversation.text_lengths or (0,)
        (turn,) = conversation.turns
        duration = row.get("duration")
        if duration is None or not duration > 0:
            assert turn.audio is not None
            try:
                duration = audio_info(turn.audio.path).duration_s - turn.audio.offset_s
            except (ValueError, OSError) as error:
                raise type(error)(f"{conversation.place}: {error}") from error
        return (speech_length(duration),), (len(self._builder.tokenizer.encode(turn.text)),)

    def _feature_frames(self, speech_frames: int) -> int:
        """Give the front end's frames of audio with so many 10-ms frames, the shortest such audio."""
        if speech_frames not in self._frames:
            samples = int((speech_frames * 10 + 15) * self._frontend.fs / 1000)
            self._frames[speech_frames] = self._frontend.frames_of(samples)
        return self._frames[speech_frames]


class _Digest:
    """The digest of a corpus that was sent to another process."""

    def __init__(self, text: str) -> None:
        self.text = text

    def hexdigest(self) -> str:
        return self.text


def data_files(paths: Any, data_split_num: int = 1, name: str = "train_data_set_list") -> list[list[Path]]:
    """Give the jsonl files of a set by FunASR's data slices.

    paths: a file or a list of them; what ends in .jsonl or .json holds rows, any other file names such files
    line by line, relative ones beside it or as written.  Raises ValueError or FileNotFoundError.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths or ())
    if not given or not all(isinstance(path, str | os.PathLike) and str(path) for path in given):
        raise ValueError(f"{name}: give a jsonl file, a list of such files, or both, not {paths!r}")
    files: list[Path] = []
    for path in map(Path, given):
        if path.suffix in JSON_LINES:
            files.append(path)
            continue
        files += _listed(path, name)
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{name}: {file} does not exist")
    size = (len(files) - 1) // max(1, data_split_num) + 1
    return [files[start : start + size] for start in range(0, len(files), size)]


def _listed(path: Path, name: str) -> list[Path]:
    """Give the files that a list names."""
    check_is_file(path)
    wanted = f"{name}: {path} does not end in .jsonl, so it must list jsonl files, one in a line; it"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{wanted} is no text at all") from error
    named = [Path(line) for line in lines if line]
    if not named or len(named[0].name) > 200 or named[0].as_posix().startswith("{"):
        raise ValueError(f"{wanted} holds {lines[:1]!r:.80}")
    files = [
        line if line.is_absolute() or not (path.parent / line).is_file() else path.parent / line
        for line in named
    ]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{wanted} names {str(file)!r:.80}, which does not exist")
    return files


def _outside(speech: int, text: int, limits: Mapping[str, int | None]) -> str | None:
    """Give why FunASR's index leaves a row out; None for one that it keeps."""
    most, least = limits.get("max_source_length"), limits.get("min_source_length")
    longest = limits.get("max_target_length")
    if text < 1:
        return NO_TEXT
    if speech < 1:
        return NO_SPEECH_LENGTH
    if most is not None and speech > most:
        return f"speech_length above max_source_length {most} (10-ms frames)"
    if least is not None and speech < least:
        return f"speech_length below min_source_length {least} (10-ms frames)"
    if longest is not None and text > longest:
        return f"text_length above max_target_length {longest} (LLM tokens)"
    return None


def _item_slices(starts: list[int], files: list[int]) -> list[tuple[int, int]]:
    ends = np.cumsum([0, *files]).tolist()
    pairs = [(starts[a], starts[b]) for a, b in pairwise(ends)]
    return [(a, b) for a, b in pairs if b > a]


def _whole(values: array) -> np.ndarray:
    return np.array(values, np.int64)
