"""What every kind of source gives: utterances that say where their audio is, and lines that give none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AudioFile:
    """Audio in a file of its own; absolute: the row names it so, else relative to the manifest's folder."""

    path: Path
    absolute: bool = True

    @property
    def key(self) -> str:
        """Names the recording, the same for all parts of it."""
        return str(self.path)


@dataclass(frozen=True)
class MadeAudio:
    """Audio that is no file: what a command prints, a part of an archive, bytes in a table.

    name: what the file that is written begins with; origin: tells it from all other audio, so that a folder
    may serve several sources; `content` gives its bytes, in a format that audio_info
    reads, and raises ValueError; suffix: of these bytes where they do not tell their format (".ul"), or "";
    keep: True writes the bytes as they are, False as 16-bit FLAC.
    """

    name: str
    origin: str
    content: Callable[[], bytes]
    suffix: str = ""
    keep: bool = False

    @property
    def key(self) -> str:
        """Names the recording, the same for all parts of it."""
        return f"\0{self.origin}"


@dataclass(frozen=True)
class Utterance:
    """One utterance of a source.

    place: file and line that name it; offset_s, duration_s: None = from the start, to the end of the
    recording; channel: None = the file has one; fields: what else the row of the manifest gets;
    part: True if the duration says which part is meant, False if it should be that of the recording;
    tail_s: so many seconds beyond the recording are cut instead of refused; ready: the row is written as it
    is, its audio is not looked at; gets_id: False if the fields hold the id, or the source knows none.
    """

    id: str
    place: str
    audio: AudioFile | MadeAudio
    offset_s: float | None = None
    duration_s: float | None = None
    channel: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    part: bool = True
    tail_s: float = 0.0
    ready: dict[str, Any] | None = None
    gets_id: bool = True


@dataclass(frozen=True)
class Unusable:
    """A line that gives no row; `reason` is the same for all of its kind, `detail` a sentence.

    known: fields of the row that it would have been (text, audio_filepath, offset, duration), to review it.
    """

    id: str
    place: str
    reason: str
    detail: str
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read.

    root: folder that relative audio paths start from (None: the working folder, then the folder of the file
    that names them); texts: transcripts of a wav.scp; allow_pipes: commands in wav.scp are run; audio_column,
    text_column, id_column: of tables, None = found by their usual names; channels: of the parties of calls.
    """

    root: Path | None = None
    texts: Path | None = None
    allow_pipes: bool = False
    audio_column: str | None = None
    text_column: str | None = None
    id_column: str | None = None
    split: str | None = None
    channels: Mapping[str, int] = field(default_factory=lambda: {"agent": 0, "customer": 1})


def find_audio(written: str, beside: Path, options: SourceOptions) -> AudioFile | None:
    """Give the file that a source means by `written`, None if it is not there.

    Absolute, or relative to `root`; without a root to the working folder, else to the folder of `beside`.
    """
    path = Path(written).expanduser()
    absolute = path.is_absolute()
    if options.root is not None:
        path = options.root / path
    if path.is_file():
        return AudioFile(path, absolute)
    near = beside.parent / path
    return AudioFile(near, False) if options.root is None and not absolute and near.is_file() else None


def missing_audio(name: str, place: str, written: str, beside: Path, options: SourceOptions) -> Unusable:
    """Say that the audio of an utterance is not there, and where it was looked for."""
    if Path(written).expanduser().is_absolute():
        detail = f"{written} does not exist"
    elif options.root is not None:
        detail = f"{written} is not in {options.root}"
    else:
        folders = f"neither in {Path.cwd()} nor in {beside.parent.absolute()}"
        detail = f"{written} is {folders}; --root DIR names its folder"
    return Unusable(name, place, "audio missing", detail)
