"""NIST SPHERE audio (.sph, .wv1): PCM, mu-law, A-law, several channels, shorten-compressed or not."""

from __future__ import annotations

import io
from typing import IO, NamedTuple

import numpy as np
import soundfile

from nest_ssl.files.shorten import MAGIC as SHORTEN_MAGIC
from nest_ssl.files.shorten import decode_shorten

MAGIC = b"NIST_1A"
LONGEST_HEADER = 1 << 20


class SphereHeader(NamedTuple):
    """size: bytes before the audio; num_frames: stated samples per channel, -1 = not stated; coding: "pcm",
    "ulaw" or "alaw"; big_endian: of PCM samples."""

    size: int
    sample_rate: int
    num_frames: int
    channels: int
    coding: str
    sample_bytes: int
    big_endian: bool
    compressed: bool


def read_sphere_header(file: IO[bytes]) -> SphereHeader:
    """Read the header at the start of `file`; ValueError says what is wrong or missing."""
    file.seek(0)
    size_line = file.read(16).split(b"\n")[1:2]
    try:
        size = int(size_line[0])
    except (IndexError, ValueError):
        raise ValueError("the SPHERE header states no size") from None
    if not 16 <= size <= LONGEST_HEADER:
        raise ValueError(f"a SPHERE header of {size} bytes")
    file.seek(0)
    lines = file.read(size).decode("latin-1").split("\n")
    fields: dict[str, str] = {}
    for line in lines[2:]:
        if line.strip() == "end_head":
            break
        words = line.split(None, 2)
        if len(words) == 3 and not line.startswith(";"):
            fields[words[0]] = words[2].strip()
    else:
        raise ValueError("the SPHERE header has no end_head: the file is cut off or damaged")
    coding, _, compression = fields.get("sample_coding", "pcm").lower().partition(",")
    coding = {"mu-law": "ulaw", "mulaw": "ulaw", "a-law": "alaw"}.get(coding, coding)
    if coding not in ("pcm", "ulaw", "alaw"):
        raise ValueError(
            f"SPHERE sample_coding {fields['sample_coding']} is not known; sph2pipe may decode the file"
        )
    if compression and not compression.startswith("embedded-shorten"):
        raise ValueError(f"SPHERE compression {compression} is not decoded here; NIST's w_decode decodes it")
    sample_bytes = _number(fields, "sample_n_bytes", 1 if coding != "pcm" else 2)
    if sample_bytes not in ((1, 2, 3, 4) if coding == "pcm" else (1,)):
        raise ValueError(f"SPHERE sample_n_bytes {sample_bytes} with sample_coding {coding}")
    return SphereHeader(
        size=size,
        sample_rate=_number(fields, "sample_rate", None),
        num_frames=_number(fields, "sample_count", -1),
        channels=_number(fields, "channel_count", 1),
        coding=coding,
        sample_bytes=sample_bytes,
        big_endian=fields.get("sample_byte_format", "01").strip() not in ("01", "0123", "012"),
        compressed=bool(compression),
    )


def _number(fields: dict[str, str], name: str, default: int | None) -> int:
    text = fields.get(name)
    if text is None and default is not None:
        return default
    try:
        number = int(float(text or ""))
    except (ValueError, OverflowError):
        raise ValueError(f"SPHERE header: {name} is {text!r}, not a number") from None
    if number <= 0 and name != "sample_count":
        raise ValueError(f"SPHERE header: {name} is {number}")
    return number


class SphereReader:
    """Reads parts of a SPHERE file; `missing_frames` are those the header states and the file lacks."""

    format = "NIST SPHERE"
    exact = True
    slack = 0.0

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.header = header = read_sphere_header(file)
        self.sample_rate, self.channels = header.sample_rate, header.channels
        end = file.seek(0, io.SEEK_END)
        self._frame_bytes = header.channels * header.sample_bytes
        self._decoded: np.ndarray | None = None
        file.seek(header.size)
        self._compressed = header.compressed or file.read(4) == SHORTEN_MAGIC
        self.seekable = not self._compressed
        present = (end - header.size) // self._frame_bytes
        if self._compressed and header.num_frames < 0:
            self._decoded = self._decompressed()
            present = len(self._decoded)
        stated = header.num_frames if header.num_frames >= 0 else present
        self.num_frames = stated if self._compressed else min(stated, present)
        self.missing_frames = stated - self.num_frames

    def read(self, start: int, count: int) -> np.ndarray:
        """Give (T, channels) float32 in [-1, 1] of `count` frames from `start` on, fewer at the end."""
        count = max(0, min(count, self.num_frames - start))
        if self._compressed:
            if self._decoded is None:
                self._decoded = self._decompressed()
            return self._decoded[start : start + count]
        self._file.seek(self.header.size + start * self._frame_bytes)
        content = self._file.read(count * self._frame_bytes)
        content = content[: len(content) // self._frame_bytes * self._frame_bytes]
        return self._samples(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _samples(self, content: bytes) -> np.ndarray:
        header = self.header
        if header.coding != "pcm":
            return expand_g711(content, header.coding).reshape(-1, header.channels)
        width = header.sample_bytes
        raw = np.frombuffer(content, np.uint8).reshape(-1, width)
        if not header.big_endian:
            raw = raw[:, ::-1]
        padded = np.zeros((len(raw), 4), np.uint8)  # the value in the highest bytes of 32 bits
        padded[:, :width] = raw
        values = padded.reshape(-1).view(">i4").astype(np.float32) / np.float32(2**31)
        return values.reshape(-1, header.channels)

    def _decompressed(self) -> np.ndarray:
        self._file.seek(self.header.size)
        try:
            samples, coding = decode_shorten(self._file.read(), self.header.channels, self.header.num_frames)
        except ValueError as error:
            raise ValueError(f"its shorten-compressed audio is damaged: {error}") from error
        if coding in ("ulaw", "alaw"):
            return expand_g711(samples.astype(np.uint8).tobytes(), coding).reshape(samples.shape)
        scale = 2.0 ** (15 if coding == "pcm16" else 7)
        return (np.clip(samples, -scale, scale - 1) / scale).astype(np.float32)


def expand_g711(content: bytes, law: str) -> np.ndarray:
    """Give (T,) float32 in [-1, 1] of "ulaw" or "alaw" bytes."""
    if not content:
        return np.zeros(0, np.float32)
    source, subtype = io.BytesIO(content), law.upper()
    return soundfile.read(
        source, dtype="float32", format="RAW", subtype=subtype, samplerate=8000, channels=1
    )[0]
