"""Files out of .deb packages and .tar.gz releases, read member by member, never extracted by name."""

from __future__ import annotations

import contextlib
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60
WAY_OUT = "remove it and fetch it again"
MAX_MEMBER_BYTES = 1 << 28  # far above any prompt; a broken size field must not fill the memory

# Where packages keep a prompt or a piece of music. Releases have the same paths with no folder above them,
# or one of the release's name.
FOLDER = re.compile(r"^(usr/share/asterisk/(sounds/[^/]+|moh)|asterisk-[^/]+)/")


def sound_files(archive: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Give (key, content) of every sound file; its key is the path below the voice's folder, no suffix."""
    for name, content in _members(archive, suffix):
        yield FOLDER.sub("", name, count=1).removesuffix(suffix), content


def prompt_texts(archive: Path, language: str) -> bytes:
    """Give core-sounds-LANGUAGE.txt, unpacked; ValueError if the archive has none."""
    wanted = f"core-sounds-{language}.txt"
    for name, content in _members(archive, (wanted, wanted + ".gz")):
        if name.endswith(".gz"):
            return zlib.decompress(content, wbits=zlib.MAX_WBITS | 16)
        return content
    raise ValueError(f"{archive}: has no {wanted}")


def _members(archive: Path, suffix: str | tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Give (path, content) of the regular files whose name ends so."""
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(archive, "rb"))
            if archive.suffix == ".deb":
                file = _data_of_package(file, archive)
            tar = stack.enter_context(tarfile.open(fileobj=file, mode="r|*"))
            for member in tar:
                if not member.isreg() or not member.name.endswith(suffix):
                    continue
                if member.size > MAX_MEMBER_BYTES:
                    raise ValueError(f"{archive}: {member.name} claims {member.size} bytes")
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                if len(content) != member.size:
                    raise ValueError(f"{archive}: {member.name} is cut off")
                yield member.name.removeprefix("./"), content
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(f"{archive}: damaged or incomplete ({error}); {WAY_OUT}") from error


def _data_of_package(file: IO[bytes], archive: Path) -> IO[bytes]:
    """Give the data.tar.* of a .deb, an `ar` archive (deb(5)), as a file that is read while it is used."""
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise ValueError(f"{archive}: is not a Debian package; {WAY_OUT}")
    while header := file.read(AR_HEADER_BYTES):
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        size_field = header[48:58].strip()
        if len(header) < AR_HEADER_BYTES or not size_field.isdigit() or header[58:60] != b"`\n":
            break
        size = int(size_field)
        if name.startswith("data.tar"):
            if archive.stat().st_size < file.tell() + size:
                break
            if name.endswith(".zst"):
                raise ValueError(
                    f"{archive}: packed with zstd, which python cannot read; use Debian's packages"
                )
            return io.BufferedReader(_Part(file, size))
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError(f"{archive}: damaged or incomplete (no whole data.tar in it); {WAY_OUT}")


class _Part(io.RawIOBase):
    """The next `size` bytes of a file as a file of their own."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)
