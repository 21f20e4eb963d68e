"""Files and directories that are complete or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from nest_ssl.files.system import flush_to_disk


@contextlib.contextmanager
def replaced(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    On any exception the temporary file is removed and an older `path` is left as it was.  The name keeps the
    suffix of `path`, for writers that choose a format by it.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


@contextlib.contextmanager
def replaced_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Give an empty temporary directory beside `path`; on success its files are synced and it is renamed
    to `path`.

    An existing `path` is replaced: it is moved aside first and removed last, so that a crash leaves the old
    directory, the new one, or the old one under a name from which `mend` brings it back.
    """
    path = Path(path)
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                flush_to_disk(file)
        flush_to_disk(temporary)
        if path.exists():
            aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            path.replace(aside)
            temporary.replace(path)
            shutil.rmtree(aside)
        else:
            temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    flush_to_disk(path.parent)


def remove_directory(path: str | os.PathLike) -> None:
    """Remove a directory as a whole: a crash leaves it complete, or under a name that nothing reads."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    path.replace(aside)
    shutil.rmtree(aside)


def mend(folder: str | os.PathLike) -> None:
    """Remove what killed writers left in `folder`, and give a directory that was moved aside its name back.

    Only for a folder that no other process writes at the moment.
    """
    for aside in Path(folder).glob(".*.old"):
        original = aside.with_name(aside.name[1:].rsplit(".", 2)[0])
        if original.exists():
            shutil.rmtree(aside)
        else:  # killed between the two renames of replaced_directory
            aside.replace(original)
    for leftover in Path(folder).glob(".*.tmp*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
