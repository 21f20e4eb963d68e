"""What tells the content of a file from another."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK_BYTES = 1 << 24


def file_digest(path: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """Give 128 bits, in hexadecimal, of a file's content, or of all files below a folder with their names."""
    digest = hashlib.blake2b(digest_size=16)
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
        if file != path:
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as opened:
            while block := opened.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
