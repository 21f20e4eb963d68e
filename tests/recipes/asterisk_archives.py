"""Packages and tarballs like those of the Asterisk prompts, made of the few real prompts in tests/data."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "egs" / "asterisk" / "local"
PROMPTS = ROOT / "tests" / "data" / "asterisk"
sys.path.insert(0, str(LOCAL))

import checksums  # noqa: E402
from packages import LANGUAGES, Source, sources  # noqa: E402

FORMATS = ("g722", "gsm", "wav")
MUSIC_SECONDS = 2


def tar_bytes(files: dict[str, bytes], mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def write_package(path: Path, files: dict[str, bytes]) -> None:
    """Write a .deb: an `ar` archive of debian-binary, control.tar.xz and data.tar.xz."""
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": tar_bytes({"./control": b"Package: x\n"}, "w:xz")}
    parts["data.tar.xz"] = tar_bytes({f"./{name}": data for name, data in files.items()}, "w:xz")
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, data in parts.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
            file.write(data + b"\n" * (len(data) % 2))


def music() -> bytes:
    """A G.722 stream that needs no encoder: any bytes are one."""
    return np.random.default_rng(4).integers(0, 256, MUSIC_SECONDS * 8000).astype(np.uint8).tobytes()


def sound_files(source: Source) -> dict[str, bytes]:
    """Files of an archive by key.suffix."""
    if source.language == "moh":
        return {"made-for-this-test.g722": music()}
    folder = PROMPTS / source.language
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob(f"*.{source.format}"))
    }


def text_of(language: str) -> bytes:
    return (PROMPTS / language / f"core-sounds-{language}.txt").read_bytes()


def write_packages(folder: Path) -> None:
    """Fill `folder` with .deb files like Debian's."""
    for source in sources(list(LANGUAGES), list(FORMATS)):
        version = "2.03-1.1" if source.language == "moh" else "1.6.1-1"
        if source.format == "txt":
            name = f"usr/share/doc/{source.package}/core-sounds-{source.language}.txt.gz"
            files = {name: gzip.compress(text_of(source.language))}
        else:
            voice = "moh" if source.language == "moh" else f"sounds/{LANGUAGES[source.language].voice}"
            files = {f"usr/share/asterisk/{voice}/{name}": data for name, data in sound_files(source).items()}
            files[f"usr/share/doc/{source.package}/copyright"] = b"..."
        write_package(folder / f"{source.package}_{version}_all.deb", files)


def write_tarballs(folder: Path) -> None:
    """Fill `folder` with releases: the same paths without a folder above them, and the texts in each."""
    for source in sources(list(LANGUAGES), list(FORMATS)):
        if source.format != "txt":
            files = {f"./{name}": data for name, data in sound_files(source).items()}
            if source.language != "moh":
                files[f"./core-sounds-{source.language}.txt"] = text_of(source.language)
            (folder / source.tarball).write_bytes(tar_bytes(files, "w:gz"))


def write_table(path: Path) -> None:
    """Write the table of checksums of these files."""
    values = {
        (source.language, source.format, name.rsplit(".", 1)[0]): checksums.digest(data)
        for source in sources(list(LANGUAGES), list(FORMATS))
        if source.format != "txt"
        for name, data in sound_files(source).items()
    }
    path.write_text("\n".join(checksums.table_lines(values, FORMATS, "for a test")) + "\n")
