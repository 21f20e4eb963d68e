"""FunASR-Nano's training lines: chat messages around an audio path, with lengths in FunASR's units."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.manifest_check import Problem
from nest_ssl.text.llm_tokenizer import LlmTokenizer


@dataclass(frozen=True)
class PromptSettings:
    """What is said to the model besides the audio.

    system: system message, None leaves it out (FunASR then puts its own, the same as the default).
    language: "zh" or "en", that of the prompt.  target: a language name such as "中文", for
    语音转写成中文：, None for 语音转写：.  itn: False adds ，不进行文本规整 (numbers as they are spoken),
    "auto" where a text has no digits and no punctuation.  prompt: any other prompt, in place of all these.
    hotwords: "none", "field" (kept as the field that FunASR's MultiContextPrompt reads) or "prompt" (written
    before the prompt, as at inference).
    """

    system: str | None = "You are a helpful assistant."
    language: str = "zh"
    target: str | None = None
    itn: bool | str = True
    prompt: str | None = None
    hotwords: str = "field"

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None, name: str = "messages") -> PromptSettings:
        """Build from a YAML section; ValueError names the key."""
        raise NotImplementedError


def to_messages(
    row: Mapping[str, Any],
    prompt: PromptSettings,
    tokenizer: LlmTokenizer | None,
    manifest: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Give the messages line of a manifest row: key, messages, speech_length, text_length, FunASR's extras.

    A relative audio_filepath is resolved against `manifest`'s folder and written absolute.  Raises ValueError
    for a row whose audio is a part of a file (FunASR reads all of it), without text or duration, or with
    control tokens in its text or path, and where there is no tokenizer: text_length counts LLM tokens and is
    not guessed.
    """
    raise NotImplementedError


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
        """Give how many problems there are of each kind."""
        raise NotImplementedError


def check_messages(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    tokenizer: LlmTokenizer | None = None,
    limits: Mapping[str, Any] | None = None,
    threads: int = 4,
) -> MessagesReport:
    """Check messages files that belong together against themselves, their audio and the tokenizer.

    `limits`: FunASR's dataset_conf keys; lines that FunASR would leave out by them are problems too.  Each
    problem names file and line.
    """
    raise NotImplementedError


def read_messages_audio(line: Mapping[str, Any]) -> list[str]:
    """Give the audio paths of a line, in the order of its turns."""
    raise NotImplementedError


__all__ = ["MessagesReport", "Path", "PromptSettings", "check_messages", "read_messages_audio", "to_messages"]
