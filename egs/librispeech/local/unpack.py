"""Unpacking an archive of a corpus: only plain files, only below the one folder that it is to hold."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

COPY_BYTES = 1 << 20


def unpack(
    archive: Path, folder: str, root: Path, advance: Callable[[int], object] = lambda size: None
) -> int:
    """Unpack the files of `archive` under `folder` to ROOT/FOLDER, which appears only when whole.

    Gives the number of files.  Links, devices, paths that lead out and files that come twice are refused with
    a ValueError; files beside the folder (LibriSpeech's README in every archive) are left out.  advance is
    told the bytes of every file, for a progress bar.
    """
    target = root / folder
    work = root / f".unpacking-{archive.name}"
    if work.exists():  # of a run that was stopped
        shutil.rmtree(work)
    count = 0
    try:
        for name, size, content in members(archive):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise ValueError(f"{archive}: the member {name!r} leads out of its folder; not unpacked")
            if not path.is_relative_to(folder):
                continue
            place = work / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(place, "xb") as file:
                    shutil.copyfileobj(content, file, COPY_BYTES)
            except FileExistsError:
                raise ValueError(f"{archive}: the member {name!r} comes twice; not unpacked") from None
            if place.stat().st_size != size:
                raise ValueError(f"{archive}: {name} is cut off; remove the archive and fetch it again")
            count += 1
            advance(size)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive}: damaged ({error}); remove it and fetch it again") from error
    if not count:
        raise ValueError(f"{archive}: has nothing under {folder}/; is it the right archive?")
    target.parent.mkdir(parents=True, exist_ok=True)
    work.replace(target)
    return count


def members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Give (name, size, content) of every file; ValueError for what is neither file nor folder."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as pack:
            for info in pack.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise ValueError(
                        f"{archive}: the member {info.filename!r} is no plain file; not unpacked"
                    )
                if not info.is_dir():
                    with pack.open(info) as content:
                        yield info.filename, info.file_size, content
        return
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if member.isdir():
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise ValueError(f"{archive}: the member {member.name!r} is no plain file; not unpacked")
            yield member.name.removeprefix("./"), member.size, content
