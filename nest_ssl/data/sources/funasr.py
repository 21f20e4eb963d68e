"""FunASR's data: messages jsonl (Fun-ASR-Nano), key/source/target jsonl, wav.scp beside text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.record import (
    SourceOptions,
    Unusable,
    Utterance,
    find_audio,
    missing_audio,
)
from nest_ssl.data.sources.text_table import read_table, text_lines
from nest_ssl.files.manifest import read_rows

SPEECH = re.compile(r"<\|startofspeech\|>(.*?)<\|endofspeech\|>", flags=re.DOTALL)
TAG = re.compile(r"<\|([^|]*)\|>")
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
TEXT_NAMES = ("text", "text.txt", "transcript.txt", "trans.txt")


def funasr_utterances(path: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    """Give the utterances of a .jsonl file, a list of such files, a wav.scp, or a folder with scp files.

    A list is a text file with one jsonl path per line.  A wav.scp takes its transcripts from --text, or from
    `text` or `text.txt` beside it; X_wav.scp from X_text.txt.
    """
    if path.is_dir():
        scp_files = sorted(path.glob("*.scp"))
        if not scp_files:
            raise FileNotFoundError(f"{path} holds no .scp file; --from funasr takes .jsonl files, too")
        for scp in scp_files:
            yield from _scp(scp, options)
    elif path.suffix == ".scp":
        yield from _scp(path, options)
    elif path.suffix in (".jsonl", ".json"):
        yield from _jsonl(path, options)
    else:
        for number, line in text_lines(path):
            listed = Path(line.strip())
            found = next((each for each in (listed, path.parent / listed) if each.is_file()), None)
            if found is None or listed.suffix not in (".jsonl", ".json"):
                raise ValueError(
                    f"{path}:{number}: {line.strip()!r} is no .jsonl file; --from funasr takes .jsonl files, "
                    f"a list of them, a wav.scp or a folder with one"
                )
            yield from _jsonl(found, options)


def _jsonl(path: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    for number, row in read_rows(path):
        place = f"{path}:{number}"
        if "messages" in row:
            yield from _turns(path, place, row, options)
        elif "source" in row:
            yield _classic(path, place, row, options)
        else:
            name = str(row.get("key", place))
            detail = (
                f"a row has messages, or key, source and target; this one has {', '.join(row) or 'nothing'}"
            )
            yield Unusable(name, place, "bad line", detail)


def _turns(
    path: Path, place: str, row: dict[str, Any], options: SourceOptions
) -> Iterator[Utterance | Unusable]:
    """One utterance per user turn with audio; its text is the assistant's answer that follows."""
    messages = row["messages"]
    name = str(row.get("key") or "")
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages
    ):
        detail = "messages must be a list of objects with role and content (text)"
        yield Unusable(name or place, place, "bad line", detail)
        return
    turns = [at for at, message in enumerate(messages) if SPEECH.search(message["content"])]
    if not turns:
        detail = "no message holds <|startofspeech|>!PATH<|endofspeech|>"
        yield Unusable(name or place, place, "no audio", detail)
        return
    for number, at in enumerate(turns, start=1):
        found = SPEECH.findall(messages[at]["content"])
        written = found[0].strip()
        identity = name or written.removeprefix("!")
        if len(turns) > 1:
            identity = f"{identity}-{number}"
        if len(found) > 1 or not written.startswith("!"):
            detail = (
                f"a turn holds one <|startofspeech|>!PATH<|endofspeech|>, not {messages[at]['content']!r}"
            )
            yield Unusable(identity, place, "bad line", detail)
            continue
        answer = messages[at + 1] if at + 1 < len(messages) else {}
        fields = {"text": answer["content"]} if answer.get("role") == "assistant" else {}
        yield _utterance(identity, place, written[1:], path, fields, options)


def _classic(path: Path, place: str, row: dict[str, Any], options: SourceOptions) -> Utterance | Unusable:
    """key, source, target; text_language "<|zh|>" becomes lang."""
    source = row["source"]
    name = str(row.get("key") or source)
    if not isinstance(source, str):
        return Unusable(
            name, place, "bad line", f"source is {json.dumps(source)[:80]}, not the path of a file"
        )
    fields: dict[str, Any] = {}
    if row.get("target") is not None:
        fields["text"] = str(row["target"])
    language = row.get("text_language")
    if isinstance(language, str) and language:
        fields["lang"] = TAG.sub(r"\1", language)
    return _utterance(name, place, source, path, fields, options)


def _scp(scp: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    unusable: list[Unusable] = []
    recordings = read_table(scp, unusable)
    text = _text_of(scp, options)
    texts = read_table(text, unusable, may_be_empty=True) if text else {}
    for key, (line, _) in texts.items():
        if key not in recordings:
            detail = f"{key!r} is not in {scp.name}"
            unusable.append(Unusable(key, f"{text}:{line}", "text without audio", detail))
    yield from sorted(unusable, key=lambda found: (found.id, found.place))
    for key, (line, written) in sorted(recordings.items()):
        place = f"{scp}:{line}"
        if written.endswith("|"):
            yield Unusable(
                key, place, "pipe", "the audio is what a command prints; use --from kaldi --allow-pipes"
            )
            continue
        fields = {"text": texts[key][1]} if key in texts else {}
        yield _utterance(key, place, written, scp, fields, options)


def _text_of(scp: Path, options: SourceOptions) -> Path | None:
    if options.texts is not None:
        return options.texts
    stem = scp.stem
    prefix = stem.removesuffix("wav").rstrip("_-.") if stem.endswith("wav") else stem
    names = [f"{prefix}_text.txt", f"{prefix}_text", f"{prefix}.text", f"text_{prefix}"] if prefix else []
    names += list(TEXT_NAMES) if not prefix or stem == "wav" else []
    return next((scp.parent / name for name in names if (scp.parent / name).is_file()), None)


def _utterance(
    name: str, place: str, written: str, beside: Path, fields: dict[str, Any], options: SourceOptions
) -> Utterance | Unusable:
    if URL.match(written):
        return Unusable(
            name, place, "address", f"{written} is not on this machine; download it and name the file"
        )
    audio = find_audio(written, beside, options)
    if audio is None:
        return missing_audio(name, place, written, beside, options)
    return Utterance(name, place, audio, fields=fields)
