"""Markers of finished stages, .done/3-pretrain: are the files that a stage was made from still the same?

A marker has one fact a line, written by utils/recipe/fingerprint.sh, then its outputs and when it ended:

    command pretrain
    variable max_steps = 2000
    settings @checkout@/conf/nest_fast-conformer.yaml = sha256 d047e3e78d99b4bdb13991a6c6745695
    input @data@/manifests/train.jsonl = sha256 8b7c3fd0f1c94b209823d0b1ace89daa
    output @exp@/pretrain/final.nemo
    # 2026-11-22 12:30:28, took 6 min 17 s

A line `place FOLDER` before the last says that outputs name files in FOLDER, the stage's, by full paths.

Facts about files are compared here as the recipe does it.  Commands, functions and variables are not: what
they are now, only the recipe itself knows (`bash run.sh --status`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from nest_ssl.files.digests import file_digest

WHOLE_BYTES = 64 * 2**20  # of larger files size and time count; the same limit as in fingerprint.sh
DIGITS = 32  # of a SHA-256 that a marker has
EXP, DATA, CHECKOUT = "@exp@", "@data@", "@checkout@"  # what paths in a marker begin with
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def places_of(experiment: Path, data: Path | None) -> dict[str, Path]:
    """Give what the names at the begin of paths stand for; a folder that is not there is left out.

    The checkout is the one that the experiment lies in, or else the one of this package.
    """
    above = (*experiment.parents, PACKAGE_ROOT)
    checkout = next((path for path in above if (path / "utils" / "recipe.sh").is_file()), None)
    found = {EXP: experiment, DATA: data, CHECKOUT: checkout}
    return {name: path for name, path in found.items() if path is not None and path.is_dir()}


def changes_since(marker: str, at: Path, places: Mapping[str, Path]) -> tuple[str, list[str]]:
    """Give why a stage is stale, "" where nothing has changed, and a line for each file that has.

    at: the folder of the stage, which its marker lies in.
    Facts about a folder that `places` lacks are left out: a copy of exp/TAG is read without its data, too.
    """
    changes: list[str] = []
    missing: list[Path] = []
    lost: list[Path] = []
    former = None
    for line in marker.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind == "place" and Path(rest).resolve() != at:
            former = rest
        if kind not in ("input", "settings", "output"):
            continue
        name, _, fact = (rest, "", "") if kind == "output" else rest.rpartition(" = ")
        path = _resolved(name, places)
        if path is None:
            continue
        if kind == "settings" and not path.is_file():
            changes.append(f"was: {kind} {_shown(path)}")
        elif kind != "settings" and not _is_present(path):
            (lost if kind == "output" else missing).append(path)
        elif kind != "output" and _fingerprint(path) != fact:
            changes.append(f"changed: {kind} {_shown(path)}")
    if missing:
        return f"its input {_shown(missing[0])} is missing or empty", []
    if changes:
        return "changed since it was done", changes
    if lost:
        return f"its output {_shown(lost[0])} is missing or empty", []
    return (f"its outputs name files in {former}, from where they were moved" if former else ""), []


def _resolved(name: str, places: Mapping[str, Path]) -> Path | None:
    first, _, below = name.partition("/")
    if first not in (EXP, DATA, CHECKOUT):
        return Path(name)
    return places[first] / below if first in places else None


def _shown(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")


def _is_present(path: Path) -> bool:
    """A file with something in it, or a folder with an entry."""
    try:
        return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
    except OSError:
        return False


def _fingerprint(path: Path) -> str:
    try:
        if path.is_dir():
            return f"listing {_listing(path)}"
        facts = path.stat()
        if facts.st_size > WHOLE_BYTES:
            return f"size {facts.st_size}, changed {_clock(facts.st_mtime_ns)}"
        return f"sha256 {_digest(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)}"
    except OSError as error:
        return f"not readable ({error.strerror})"


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """A watch looks every two seconds: what has neither another size nor another time is not read again."""
    return file_digest(path)[:DIGITS]


def _listing(folder: Path) -> str:
    """Of names, sizes and times of all files, as `find -H FOLDER -type f -printf '%P %s %T@\\n'` has them."""
    lines = []
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode):
                text = f" {facts.st_size} {_clock(facts.st_mtime_ns)}0\n"
                lines.append(os.fsencode(path.relative_to(folder)) + text.encode())
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()[:DIGITS]


def _clock(time_ns: int) -> str:
    return f"{time_ns // 10**9}.{time_ns % 10**9:09d}"
