"""Headers of a tar archive, read strictly: what is damaged, compressed or no plain file is refused.

Formats: POSIX.1-1988 ustar, POSIX.1-2001 pax (path, size) and GNU (long names, sizes in base 256).
Python's tarfile takes a damaged header in the middle for the end of the archive; here it is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nest_ssl.files.system import read_at

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20  # long names and pax records; the archive of an attacker may claim any size
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"M": "a part of a file that continues in another archive",
}

log = logging.getLogger(__name__)


class TarEntry(NamedTuple):
    """One file of an archive: its name, where its bytes begin, how many they are."""

    name: str
    offset: int
    size: int


def tar_entries(path: Path, descriptor: int, archive_size: int) -> Iterator[TarEntry]:
    """Give the files of an archive in its order; ValueError names the archive, the byte and the way out."""
    position = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    everywhere: dict[str, str] = {}
    while True:
        block = read_at(descriptor, BLOCK, position)
        if len(block) < BLOCK:
            if block or position == 0:
                raise _fault(path, position, block, "the archive is cut off")
            log.warning("%s has no end mark: if it was cut off, members are missing", path)
            return
        if not block.strip(b"\0"):
            return
        if not _checksum_fits(block):
            raise _fault(path, position, block, "the header is damaged")
        size = _number(block[124:136])
        kind = block[156:157]
        records = {**everywhere, **pax}
        if kind not in (b"x", b"g", b"L", b"K") and "size" in records:
            size = int(records["size"]) if records["size"].isdigit() else -1
        start = position + BLOCK
        if size < 0 or start + size > archive_size:
            raise _fault(path, position, block, f"the archive is cut off inside of a member of {size} bytes")
        position = start + -(-size // BLOCK) * BLOCK
        if kind in (b"L", b"K", b"x", b"g"):
            if size > MAX_EXTENSION_BYTES:
                raise _fault(path, start - BLOCK, block, f"a name or record of {size} bytes")
            content = read_at(descriptor, size, start)
            if kind == b"L":
                long_name = _text(content)
            elif kind == b"x":
                pax = _pax_records(path, start, content)
            elif kind == b"g":
                everywhere.update(_pax_records(path, start, content))
            continue
        name = long_name or records.get("path") or _name(block)
        long_name, pax = None, {}
        if kind == b"5":
            continue
        if kind not in (b"0", b"\0", b"7") or any(key.startswith("GNU.sparse") for key in records):
            what = REFUSED.get(kind, "a sparse file" if kind in (b"0", b"\0") else f"of the type {kind!r}")
            raise ValueError(
                f"{path}: the member {name!r} is {what}; only plain files are read: make the archive anew "
                "from copies of the files (tar --dereference --hard-dereference)"
            )
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{path}: the member {name!r} lies outside of the archive's folder: refused")
        yield TarEntry(name, start, size)


def _checksum_fits(block: bytes) -> bool:
    stated = _number(block[148:156])
    blanked = block[:148] + b" " * 8 + block[156:]
    # Old archives have the sum of signed bytes.
    return stated in (sum(blanked), sum(blanked) - 256 * sum(byte > 127 for byte in blanked))


def _number(field: bytes) -> int:
    """A field in octal digits, or in base 256 where its first bit is set; -1 for what is neither."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") if field[0] == 0x80 else -1
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return -1


def _name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _pax_records(path: Path, start: int, content: bytes) -> dict[str, str]:
    """Records are "LENGTH KEY=VALUE" and a newline, LENGTH counting all of it."""
    records, position = {}, 0
    while position < len(content) and content[position] != 0:
        digits, blank, _ = content[position : position + 24].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = content[position + len(digits) + 1 : position + length - 1]
        key, equals, value = record.partition(b"=")
        if not equals or position + length > len(content):
            raise ValueError(f"{path}: a pax record at byte {start + position} is damaged; fetch it again")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        position += length
    return records


def _fault(path: Path, position: int, block: bytes, what: str) -> ValueError:
    if position == 0:
        for magic, name in COMPRESSED.items():
            if block.startswith(magic):
                return ValueError(
                    f"{path} is compressed ({name}): its members cannot be reached one by one; unpack it "
                    "to a .tar (audio hardly shrinks by it) and name that"
                )
        return ValueError(f"{path} is no tar archive, or an empty or damaged one")
    return ValueError(f"{path}: {what} (byte {position}); fetch or make the archive again")
