"""One conversation for Fun-ASR-Nano, out of a FunASR messages line or out of a plain manifest row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nest_ssl.data.corpus import CHANNEL_FIELD
from nest_ssl.data.messages import CONTROL, EXTRAS, HOTWORD_FIELDS, PLACEHOLDER, URLS
from nest_ssl.data.prompts import DEFAULT_SYSTEM, END, START, PromptSettings
from nest_ssl.files.audio import Channel
from nest_ssl.files.rows import audio_field, audio_path, resolve_audio_path, row_id, row_identity, text_digest
from nest_ssl.telephone.noise import prompt_key


@dataclass(frozen=True)
class AudioSpan:
    """A file or a part of it; duration_s None reads to the end; channel as files.audio.read_audio has it."""

    path: Path
    offset_s: float = 0.0
    duration_s: float | None = None
    channel: Channel = "average"


@dataclass(frozen=True)
class Turn:
    """What the user says, with the audio's placeholder in it, and what the assistant answers.

    before: what the assistant is given of its answer (prev_content), None without.
    """

    user: str
    text: str
    before: str | None = None
    audio: AudioSpan | None = None

    @property
    def transcript(self) -> str:
        """The whole text of the audio."""
        return (self.before or "") + self.text


@dataclass(frozen=True)
class Conversation:
    """One row.  utterance_id names its random streams; prompt_key is what versions of one prompt share.

    speech_lengths, text_lengths: as stated, one per turn or one in all; empty where the row states none.
    row: the fields that MultiContextPrompt reads.  place: "file:line".
    """

    utterance_id: str
    prompt_key: str
    system: str
    turns: tuple[Turn, ...]
    speech_lengths: tuple[int, ...]
    text_lengths: tuple[int, ...]
    row: Mapping[str, Any]
    place: str


def conversation_of(row: Mapping[str, Any], path: Path, line: int, prompt: PromptSettings) -> Conversation:
    """Give the conversation of a row that has `messages`, or audio_filepath and text.

    A manifest row gets `prompt`; its part of a file (offset, duration) is what is read.  Relative audio paths
    are taken from the file's folder if they are there, otherwise as written.  Raises ValueError "path:line:
    ..." for another layout, audio behind a URL, and several audios in one turn.
    """
    place = f"{path}:{line}"
    try:
        if "messages" in row:
            return _of_messages(row, path, place)
        if audio_field(row) is not None:
            return _of_manifest(row, path, place, prompt)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}") from error
    raise ValueError(
        f"{place}: the row has neither messages nor audio_filepath, but {', '.join(map(str, row))}; "
        f"a FunASR line has messages, a manifest row audio_filepath, duration and text"
    )


def _of_messages(row: Mapping[str, Any], path: Path, place: str) -> Conversation:
    messages = row["messages"]
    if not isinstance(messages, list) or not all(isinstance(turn, Mapping) for turn in messages):
        raise ValueError(f"messages is {messages!r:.80}, not a list of turns with role and content")
    turns_of: dict[str, list[Mapping[str, Any]]] = {"system": [], "user": [], "assistant": []}
    for turn in messages:
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(content, str):
            raise ValueError(f"the content of a turn is {content!r:.80}, not a text")
        if role not in turns_of:
            raise ValueError(f"role {role!r} is not one of system, user, assistant")
        turns_of[role].append(turn)
    users, replies = turns_of["user"], turns_of["assistant"]
    roles = [turn["role"] for turn in messages if turn["role"] != "system"]
    if not users or roles != ["user", "assistant"] * len(users):
        raise ValueError(f"roles {', '.join(roles) or 'missing'}: user and assistant must take turns")
    turns = []
    for user, reply in zip(users, replies, strict=True):
        before = reply.get("prev_content")
        if before is not None and not isinstance(before, str):
            raise ValueError(f"prev_content is {before!r}, not a text")
        turns.append(Turn(user["content"], reply["content"], before, _audio_in(user["content"], path)))
    key = row.get("key")
    key = key[0] if isinstance(key, list) and key else key
    stated = row_id(row) if key in (None, "") else str(key)
    words = "\x1f".join(f"{turn.user}\x1f{turn.text}" for turn in turns)
    return Conversation(
        utterance_id=stated or f"{text_digest(words):016x}",
        prompt_key=str(row.get("prompt_key") or stated or text_digest(words)),
        system=turns_of["system"][0]["content"] if turns_of["system"] else DEFAULT_SYSTEM,
        turns=tuple(turns),
        speech_lengths=_lengths(row, "speech_length"),
        text_lengths=_lengths(row, "text_length"),
        row={name: row[name] for name in (*HOTWORD_FIELDS, *EXTRAS) if row.get(name) is not None},
        place=place,
    )


def _of_manifest(row: Mapping[str, Any], path: Path, place: str, prompt: PromptSettings) -> Conversation:
    text = row.get("text")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"text must be a text, not {text!r}")
    text = text or ""
    if token := CONTROL.search(text):
        raise ValueError(f"text has {token.group()!r}, which the language model reads as a command")
    numbers = {}
    for name in ("offset", "duration"):
        value = row.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name} must be a number of seconds, not {value!r}")
        numbers[name] = None if value is None else float(value)
    audio = audio_field(row)
    _refuse_url(str(audio))
    words = row.get("asr_hotwords") or row.get("hotwords")
    words = words.split(", ") if isinstance(words, str) else words
    offset = numbers["offset"] or 0.0
    span = AudioSpan(
        audio_path(row, path),
        offset,
        # Without an offset the file is the utterance: a rounded duration must not cut its last sample.
        numbers["duration"] if offset else None,
        row.get("channel_selector", row.get(CHANNEL_FIELD)),
    )
    return Conversation(
        utterance_id=row_identity(row),
        prompt_key=prompt_key(row),
        system=prompt.system or DEFAULT_SYSTEM,
        turns=(Turn(prompt.user("audio", text, words), text, None, span),),
        speech_lengths=(),
        text_lengths=(),
        row={name: row[name] for name in (*HOTWORD_FIELDS, *EXTRAS) if row.get(name) is not None},
        place=place,
    )


def _audio_in(user: str, path: Path) -> AudioSpan | None:
    found = PLACEHOLDER.findall(user)
    if not found and START not in user and END not in user:
        return None
    if len(found) != 1 or user.count(START) != 1 or user.count(END) != 1:
        raise ValueError(f"{user[:80]!r} has {len(found)} of {START}!PATH{END}; a turn has one at most")
    if not found[0].startswith("!") or not found[0][1:].strip():
        raise ValueError(f"the audio {found[0]!r} is not ! and a path")
    _refuse_url(found[0][1:])
    return AudioSpan(resolve_audio_path(found[0][1:], path))


def _refuse_url(audio: str) -> None:
    if audio.startswith(URLS):
        raise ValueError(
            f"the audio {audio} is behind a URL; nothing is downloaded in training: fetch it first"
        )


def _lengths(row: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value = row.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    found = []
    for number in values:
        if isinstance(number, bool) or not isinstance(number, int | float) or number != number:
            raise ValueError(f"{name} is {value!r}, not a whole number or a list of them")
        found.append(int(number))
    return tuple(found)
