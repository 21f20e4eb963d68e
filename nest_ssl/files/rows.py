"""What a manifest row says of itself, read alike everywhere: its id, its audio, its place in a split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ID_FIELDS = ("id", "utt", "utterance_id")


def row_id(row: Mapping[str, Any]) -> str | None:
    """Give the id that a row states: the first of ID_FIELDS that is there and not empty; None without one."""
    for field in ID_FIELDS:
        if row.get(field) not in (None, ""):
            return str(row[field])
    return None


def row_identity(row: Mapping[str, Any]) -> str:
    """Give a row's id, or what stands for it: its audio as it is written, and the offset in seconds.

    It names random streams, so it depends on the row alone and stays when data move.
    """
    stated = row_id(row)
    return f"{audio_field(row)}@{_offset(row)}" if stated is None else stated


def audio_field(row: Mapping[str, Any]) -> Any:
    """Give the value that names a row's audio, under either of NeMo's names for it; None without one."""
    return row.get("audio_filepath") or row.get("audio_filename") or None


def audio_path(row: Mapping[str, Any], manifest: Path) -> Path:
    """Give where the audio of a row of `manifest` is; ValueError for a row that names none."""
    audio = audio_field(row)
    if audio is None:
        raise ValueError("the row has no audio_filepath")
    if not isinstance(audio, str):
        raise ValueError(f"audio_filepath must be a path, not {audio!r}")
    return resolve_audio_path(audio, manifest)


def resolve_audio_path(audio: str, manifest: Path) -> Path:
    """Give where a row's audio is: relative to the manifest's folder if it is there, else as written."""
    path = Path(audio)
    if path.is_absolute():
        return path
    beside = manifest.parent / path
    return beside if beside.is_file() else path.expanduser()


def text_digest(text: str) -> int:
    """Give 64 bits that stand for a text, the same on every machine."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def split_position(value: str, seed: int) -> int:
    """Give where a value of the split field lies, from 0 to 2**64: fixed by the value and the seed alone."""
    return text_digest(f"{seed}\x1f{value}")


def split_of(value: str, dev: float, test: float, seed: int) -> str:
    """Give the split of a value, for shares `dev` and `test`: it stays when other rows come or go."""
    position = split_position(value, seed) / 2**64
    return "test" if position < test else "dev" if position < test + dev else "train"


def _offset(row: Mapping[str, Any]) -> Any:
    offset = row.get("offset") or 0.0
    try:
        return float(offset)  # 1 and 1.0 are the same place
    except (TypeError, ValueError, OverflowError):
        return offset  # a bad value has its own message where the audio is read
