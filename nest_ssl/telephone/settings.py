"""What the bytes of a corpus depend on, and the refusal to mix outputs of two states of it in one folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import soundfile
import soxr

import nest_ssl
from nest_ssl.files.atomic import replaced
from nest_ssl.telephone.records import record_files

SETTINGS = "settings.json"
SUPERSEDED = "superseded-"  # records of earlier settings that --force has taken the place of
DIFFERENCES_SHOWN = 8


def library_versions() -> dict[str, str]:
    """Give the versions and the machine that results depend on, apart from those of codecs."""
    return {
        "nest_ssl": nest_ssl.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "soxr": soxr.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
        "machine": platform.machine(),
    }


@lru_cache
def library_line() -> str:
    """Give the same as text, for a record."""
    return " ".join(f"{name} {version}" for name, version in library_versions().items())


def plain(value: Any) -> Any:
    """Give settings as JSON types: dataclasses and mappings as objects, keys as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Give 16 characters that stand for the settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def claim(records: Path, settings: Mapping[str, Any], out: Path, verb: str, force: bool) -> Path:
    """Give the folder of the records written under `settings`, with the settings beside them.

    Raises ValueError, naming what differs, if `records` holds outputs of other settings; with `force` those
    are marked as superseded: their records are not used any more and `remove_superseded` clears them away.
    """
    own = records / settings_digest(settings)
    for folder in _others(records, own):
        if not force:
            raise ValueError(_refusal(folder, settings, out, verb))
        with contextlib.suppress(FileNotFoundError):  # another shard was faster
            folder.rename(folder.with_name(f"{SUPERSEDED}{time.time_ns()}-{folder.name}"))
    if not (own / SETTINGS).is_file():
        with replaced(own / SETTINGS) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return own


def refuse_mix(records: Path, settings: Mapping[str, Any], out: Path, verb: str) -> None:
    """Raise ValueError if `records` holds outputs of other settings."""
    for folder in _others(records, records / settings_digest(settings)):
        raise ValueError(_refusal(folder, settings, out, verb))


def superseded(records: Path) -> list[Path]:
    """Give the folders of records that newer settings have taken the place of."""
    return sorted(records.glob(SUPERSEDED + "*"))


def remove_superseded(records: Path, out: Path, kept: set[int], digest: Any) -> int:
    """Remove superseded records and those of their audio files that are not of the new manifest.

    kept: `digest` of the audio_filepath of every row of the new manifest.  Gives the number of files removed.
    """
    removed = 0
    for folder in superseded(records):
        for path in record_files(folder):
            with open(path, "rb") as file:
                for name in _audio_names(file):
                    audio = out.parent / name
                    if digest(name) not in kept and out in audio.parents and ".." not in audio.parts:
                        with contextlib.suppress(OSError):
                            audio.unlink()
                            removed += 1
        shutil.rmtree(folder, ignore_errors=True)
    return removed


def _audio_names(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        try:
            rows = json.loads(line).get("manifest") or []
        except ValueError:
            continue  # cut off by a kill
        yield from (row["audio_filepath"] for row in rows)


def _others(records: Path, own: Path) -> list[Path]:
    """Folders of records of other settings that hold anything."""
    return [
        folder
        for folder in sorted(records.glob("*"))
        if folder != own
        and not folder.name.startswith(SUPERSEDED)
        and any(path.stat().st_size for path in record_files(folder))
    ]


def _refusal(folder: Path, settings: Mapping[str, Any], out: Path, verb: str) -> str:
    try:
        earlier = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = {}
    found = list(differences(earlier, plain(settings)))
    shown = "".join(f"\n  {line}" for line in found[:DIFFERENCES_SHOWN])
    if len(found) > DIFFERENCES_SHOWN:
        shown += f"\n  and {len(found) - DIFFERENCES_SHOWN} more"
    return (
        f"{out} holds outputs of {verb} with other settings or library versions, and one corpus must not mix "
        f"both; what differs (earlier -> now):{shown}\nGo on with the earlier ones, make everything anew in "
        f"place with --force, or take another --out"
    )


def differences(earlier: Any, now: Any, where: str = "") -> Iterator[str]:
    """Give one line, "key: earlier -> now", for every value that differs between two trees of settings."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*earlier, *now]):
            place = f"{where}.{key}" if where else key
            yield from differences(earlier.get(key, "(none)"), now.get(key, "(none)"), place)
    elif isinstance(earlier, list) and isinstance(now, list) and len(earlier) == len(now):
        for number, (old, new) in enumerate(zip(earlier, now, strict=True)):
            yield from differences(old, new, f"{where}.{number}")
    elif earlier != now:
        yield f"{where}: {_shown(earlier)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
