"""Plain folders of audio files, with transcripts beside them or in LibriSpeech's *.trans.txt."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.record import AudioFile, SourceOptions, Unusable, Utterance
from nest_ssl.data.sources.text_table import read_table, text_lines
from nest_ssl.files.decode import SOX_SUFFIXES, STREAM_SUFFIXES
from nest_ssl.files.telephone_formats import HEADERLESS

SNDFILE_SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".aif",
    ".aiff",
    ".aifc",
    ".au",
    ".snd",
    ".caf",
    ".w64",
    ".rf64",
    ".voc",
)
AUDIO_SUFFIXES = frozenset(
    (*SNDFILE_SUFFIXES, *STREAM_SUFFIXES, *SOX_SUFFIXES, *HEADERLESS, ".sph", ".nist", ".wv1", ".amr", ".awb")
)
TEXT_SUFFIXES = (".normalized.txt", ".txt", ".lab")
LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+")


def folder_utterances(folder: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    """Give all audio files under a folder in the order of their paths; the id is the path without suffix.

    Where two files differ by the suffix alone, both ids keep it.  The text is that of NAME.normalized.txt,
    NAME.txt or NAME.lab beside the file, or of the line with its name in a *.trans.txt of the same folder.
    Raises FileNotFoundError if there is no audio.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; --from folder takes a folder of audio files")
    others: Counter[str] = Counter()
    empty = True
    for here, files in walk(folder):
        audio = [name for name in files if Path(name).suffix.lower() in AUDIO_SUFFIXES]
        stems = Counter(Path(name).stem for name in audio)
        unusable: list[Unusable] = []
        texts: dict[str, tuple[int, str]] = {}
        for name in files:
            if name.endswith(".trans.txt"):
                texts |= read_table(here / name, unusable, may_be_empty=True)
            elif name not in audio:
                others[Path(name).suffix] += 1
        yield from unusable
        for name in audio:
            empty = False
            path = here / name
            relative = path.relative_to(folder)
            identity = (relative if stems[path.stem] > 1 else relative.with_suffix("")).as_posix()
            fields: dict[str, Any] = {}
            text = texts[path.stem][1] if path.stem in texts else _beside(path, set(files))
            if text is not None:
                fields["text"] = text
            match = LIBRISPEECH.fullmatch(path.stem)
            if match and path.stem in texts:
                fields["speaker"] = match[1]
            yield Utterance(identity, str(path), AudioFile(path, path.is_absolute()), fields=fields)
    if empty:
        found = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in others.most_common(5))
        raise FileNotFoundError(
            f"{folder} holds no audio file; the suffixes looked for are {' '.join(sorted(AUDIO_SUFFIXES))}; "
            f"found: {found or 'nothing'}"
        )


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder once, through links too, with its files; hidden names are left out."""
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        real = str(Path(here).resolve())
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(here), sorted(name for name in files if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


def _beside(path: Path, files: set[str]) -> str | None:
    for suffix in TEXT_SUFFIXES:
        name = path.stem + suffix
        if name in files:
            return " ".join(line.strip() for _, line in text_lines(path.with_name(name)))
    return None
