"""What is asked for: the sources of a set and its settings, checked where they enter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.build import READERS
from nest_ssl.data.stage0.wenetspeech import Selection
from nest_ssl.files.manifest import read_lines
from nest_ssl.telephone.upsampling import QUALITIES

KINDS = ("wenetspeech", "manifest", *(kind for kind in READERS if kind != "nemo"))
CHANNELS = ("simulate", "upsample")
SPLIT_FIELDS = ("recording", "speaker", "key", "id")


@dataclass(frozen=True)
class Source:
    """Where utterances come from: `kind` is one of KINDS."""

    kind: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind}={self.path}"


@dataclass(frozen=True)
class SplitSettings:
    """How a set is divided.

    by: fields of which no value may be on both sides; recording_pattern: regular expression whose first
    group names a recording in a file's path (agent and customer in two files are one call); dev: share of
    the groups; dev_list: file of ids, recordings, speakers or keys for dev; dev_subsets: of WenetSpeech.
    """

    by: tuple[str, ...] = ("recording",)
    recording_pattern: str | None = None
    dev: float = 0.1
    dev_list: Path | None = None
    dev_subsets: tuple[str, ...] = ()


@dataclass(frozen=True)
class SetSettings:
    """One set: its name, sources, what becomes of its audio, and the sections of its filters."""

    name: str
    sources: tuple[Source, ...]
    channel: str
    root: Path | None
    audio_extension: str | None
    selection: Selection
    max_utterances: int | None
    channels: Mapping[str, int]
    split: SplitSettings
    annotation: Mapping[str, Any]
    length: Mapping[str, Any]
    prompt: Mapping[str, Any]
    simulate: Mapping[str, Any] = field(default_factory=dict)
    quality: str = "hq"


def parse_source(text: str) -> Source:
    """Read KIND=PATH, or PATH alone where its name tells the kind; FileNotFoundError or ValueError."""
    kind, equals, rest = text.partition("=")
    if equals and kind in KINDS:
        source = Source(kind, Path(rest).expanduser())
        if not source.path.exists():
            raise FileNotFoundError(f"{text}: {source.path} does not exist")
        return source
    path = Path(text).expanduser()
    if not path.exists():
        if equals and re.fullmatch(r"\w+", kind):
            raise ValueError(f"{text!r}: there is no kind of source {kind!r}; known are {', '.join(KINDS)}")
        raise FileNotFoundError(f"{text} does not exist; sources are given as PATH or KIND=PATH")
    return Source(_kind_of(path), path)


def _kind_of(path: Path) -> str:
    """Tell the kind of a source by its name and its first line."""
    if path.is_dir():
        if (path / "wav.scp").is_file():
            return "kaldi"
        if (path / "WenetSpeech.json").is_file():
            raise ValueError(f"{path} is WenetSpeech's folder; name the file: {path / 'WenetSpeech.json'}")
        if any(path.glob("*.tsv")):
            return "calls"  # tables of turns
        return "folder"
    if path.suffix == ".json" and path.stem.lower().startswith("wenetspeech"):
        return "wenetspeech"
    if path.suffix in (".jsonl", ".json"):
        first = next((line for _, line in read_lines(path)), b"")
        if b'"audios"' in first[:4096] or first.strip() == b"{":
            return "wenetspeech"
        return "funasr" if b'"messages"' in first else "manifest"
    raise ValueError(
        f"{path}: its name does not tell what it is; give KIND={path}, KIND being {', '.join(KINDS)}"
    )


def set_settings(name: str, section: Mapping[str, Any], sources: tuple[Source, ...]) -> SetSettings:
    """Give the checked settings of a set from plain dicts of the configuration; ValueError names the key."""
    where = f"sets.{name}"
    channel = _choice(section["channel"], CHANNELS, f"{where}.channel")
    wenet = section["wenetspeech"]
    confidence = wenet["min_confidence"]
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"{where}.wenetspeech.min_confidence: {confidence!r} is no number from 0 to 1")
    most = section["max_utterances"]
    if most is not None and (not isinstance(most, int) or most < 2):
        raise ValueError(f"{where}.max_utterances: {most!r} is neither null nor a whole number from 2")
    channels = section["channels"]
    if not all(isinstance(number, int) and number >= 0 for number in channels.values()):
        raise ValueError(f"{where}.channels: {channels!r}; a party's channel is a number from 0")
    return SetSettings(
        name=name,
        sources=sources,
        channel=channel,
        root=Path(section["root"]).expanduser() if section["root"] else None,
        audio_extension=wenet["audio_extension"],
        selection=Selection(_names(wenet["subsets"]), confidence, _names(wenet["sources"])),
        max_utterances=most,
        channels=channels,
        split=_split_settings(section["split"], f"{where}.split"),
        annotation=section["annotation"],
        length=section["length"],
        prompt=section["prompt"],
        simulate=section.get("simulate") or {},
        quality=_choice(section.get("quality", "hq"), tuple(QUALITIES), f"{where}.quality"),
    )


def _split_settings(section: Mapping[str, Any], where: str) -> SplitSettings:
    by = _names(section["by"]) or ()
    for name in by:
        _choice(name, SPLIT_FIELDS, f"{where}.by")
    if not by:
        raise ValueError(f"{where}.by is empty: rows of one recording could be on both sides")
    pattern = section["recording_pattern"]
    if pattern is not None:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"{where}.recording_pattern: {pattern!r}: {error}") from error
        if groups < 1:
            raise ValueError(
                f"{where}.recording_pattern: {pattern!r} has no group ( ) that names the recording"
            )
    dev = section["dev"]
    if not isinstance(dev, int | float) or not 0 < dev < 1:
        raise ValueError(f"{where}.dev: {dev!r} is no share between 0 and 1")
    dev_list = Path(section["dev_list"]).expanduser() if section["dev_list"] else None
    if dev_list is not None and not dev_list.is_file():
        raise FileNotFoundError(f"{where}.dev_list: {dev_list} does not exist")
    return SplitSettings(by, pattern, float(dev), dev_list, _names(section["dev_subsets"]) or ())


def _names(value: Any) -> tuple[str, ...] | None:
    """A list of names, or one name, as a tuple; None for none given."""
    if value in (None, "", []):
        return None
    return (value,) if isinstance(value, str) else tuple(str(name) for name in value)


def _choice(value: Any, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        raise ValueError(f"{where}: {value!r} is none of {', '.join(known)}")
    return value
