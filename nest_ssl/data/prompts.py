"""What Fun-ASR-Nano is told besides the audio: system message, transcription prompt, hot words."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nest_ssl.config import suggestion
from nest_ssl.text.chat import DEFAULT_SYSTEM, END, HOTWORD_HEADER, START, TURN_END, source_pieces
from nest_ssl.text.llm_tokenizer import LlmTokenizer

__all__ = ["DEFAULT_SYSTEM", "END", "START", "TURN_END", "PromptSettings", "prompt_tokens", "source_pieces"]

LANGUAGES = ("zh", "en")
HOTWORDS = ("none", "field", "prompt")


@dataclass(frozen=True)
class PromptSettings:
    """What is said to the model besides the audio.

    system: system message; None writes none, and FunASR puts its own, the same as the default.
    language: "zh" or "en", that of the prompt.  target: a language as the prompt names it, such as 中文, for
    语音转写成中文：; None for 语音转写：.  itn: False asks for numbers as they are spoken,
    ，不进行文本规整 (Chinese prompts only); "auto" does so where a text has no digits and no punctuation.
    prompt: a whole prompt, in place of language, target and itn.
    hotwords, of rows that have some: "none" leaves them out, "field" keeps the fields hotwords and
    asr_hotwords, which FunASR's MultiContextPrompt reads, "prompt" writes them before the prompt as FunASR
    does at inference (then train with prompt_classes null).
    """

    system: str | None = DEFAULT_SYSTEM
    language: str = "zh"
    target: str | None = None
    itn: bool | str = True
    prompt: str | None = None
    hotwords: str = "field"

    def __post_init__(self) -> None:
        self._check("prompt")

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None, name: str = "prompt") -> PromptSettings:
        """Build from a YAML section; ValueError names the key."""
        if section is not None and not isinstance(section, Mapping):
            raise ValueError(f"{name}: keys such as {{target: 英文}} are needed, not {section!r}")
        given = dict(section or {})
        for key in given:
            if key not in asdict(cls()):
                raise ValueError(f"{name}.{key}: there is no such key; {suggestion(str(key), asdict(cls()))}")
        try:
            return cls(**given)
        except ValueError as error:
            raise ValueError(name + str(error).removeprefix("prompt")) from error

    def text(self, transcript: str = "") -> str:
        """Give the prompt for audio of this transcript."""
        if self.prompt is not None:
            return self.prompt
        if self.language == "en":
            return f"Transcribe speech into {self.target}:" if self.target else "Speech transcription:"
        spoken = self.itn is False or (self.itn == "auto" and not has_digits_or_punctuation(transcript))
        return f"语音转写{'成' + self.target if self.target else ''}{'，不进行文本规整' if spoken else ''}："

    def user(self, audio: str, transcript: str = "", hotwords: list[str] | None = None) -> str:
        """Give the user's message: hot words if they go into the prompt, the prompt, the audio."""
        header = ""
        if hotwords and self.hotwords == "prompt":
            header = HOTWORD_HEADER.format(words=", ".join(hotwords))
        return f"{header}{self.text(transcript)}{START}!{audio}{END}"

    def _check(self, name: str) -> None:
        for key in ("system", "target", "prompt"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ValueError(f"{name}.{key} is a text or null, not {value!r}")
            if value is not None and "<|" in value:
                raise ValueError(f"{name}.{key}: {value!r} holds control tokens; they are put around it")
        if self.language not in LANGUAGES:
            raise ValueError(f"{name}.language is one of {', '.join(LANGUAGES)}, not {self.language!r}")
        if not isinstance(self.itn, bool) and self.itn != "auto":
            raise ValueError(f"{name}.itn is true, false or auto, not {self.itn!r}")
        if self.itn is not True and self.language != "zh" and self.prompt is None:
            raise ValueError(
                f"{name}.itn: {self.itn!r} is known for Chinese prompts only; write {name}.prompt"
            )
        if self.hotwords not in HOTWORDS:
            raise ValueError(f"{name}.hotwords is one of {', '.join(HOTWORDS)}, not {self.hotwords!r}")


def has_digits_or_punctuation(text: str) -> bool:
    """True for a text with a digit, a punctuation mark or a symbol: it was normalised in writing."""
    return any(c.isdigit() or unicodedata.category(c)[0] in "PS" for c in text)


def prompt_tokens(prompt: PromptSettings, tokenizer: LlmTokenizer) -> int:
    """Give the LLM tokens of a line without audio and text: what `prompt_tokens` of the lengths means.

    Hot words and FunASR's MultiContextPrompt come on top: they differ from row to row.
    """
    longest = max((prompt.text(text) for text in ("", "。")), key=len)
    pieces = source_pieces(prompt.system or DEFAULT_SYSTEM, f"{longest}{START}!a{END}")
    return sum(map(tokenizer.count, pieces))
