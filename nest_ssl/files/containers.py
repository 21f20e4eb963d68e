"""How much audio the header of a file promises, and how much of it is there: what a cut file gives away.

libsndfile and FFmpeg take what they find of a shorter file for all of it, so the headers are read here too.
What a format states:

- WAV, RF64, W64, AIFF, AU, CAF: the bytes of the audio.  A writer into a pipe cannot go back and fill them
  in; the values that such writers leave (UNKNOWN) promise nothing.
- OGG: whole pages, by the length of the last one.  A file cut between two pages cannot be told from one
  whose writer sets no end mark, and readers are to expect such streams (RFC 7845, section 4).
- MP3: the number of frames, where the encoder wrote a Xing, Info or VBRI frame; otherwise the last frame, by
  its own length.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import IO, NamedTuple

# What writers into pipes leave as the size: ffmpeg, sox, ALSA's arecord, GStreamer; exactly or a header less.
UNKNOWN = ((0, 0), (0x7F000000, 0x80000100), (0xFFFF0000, 0xFFFFFFFF), (1 << 62, (1 << 64) - 1))
MOST_CHUNKS = 10000  # zeros look like chunks, and libraries would take hours to walk through them
CHUNKED = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"dns.", b"caff")

W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_CHUNK = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # the end of the name of every other chunk

OGG_PAGE = b"OggS\x00"
LARGEST_OGG_PAGE = 27 + 255 + 255 * 255  # bytes

MP3_KBPS = {  # by (MPEG 1 or not, layer); source: ISO/IEC 11172-3 and 13818-3, tables of bitrate_index
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_RATES = (44100, 48000, 32000)  # Hz, in MPEG 1; half of it in 2, a quarter in 2.5
LENGTH_FRAME_WITHIN = 64  # bytes from the beginning of the first frame, in which its name begins or not
SYNC = re.compile(rb"\xff[\xe2-\xff]")


class Promise(NamedTuple):
    """stated, present: bytes of audio; frames: what the header says of their number, 0 = nothing."""

    stated: int
    present: int
    frames: int = 0


def promised(file: IO[bytes], head: bytes) -> Promise | None:
    """Give what the header of a file in chunks promises; None for other files and for unknown sizes.

    head: its first 16 bytes.  Raises ValueError for a file of so many chunks that it is damaged.
    """
    if not head.startswith(CHUNKED):
        return None
    size = file.seek(0, io.SEEK_END)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return _riff(file, head, size)
    if head == W64_RIFF:
        return _w64(file, size)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file, size)
    if head[:4] in (b".snd", b"dns."):
        order = "big" if head[:4] == b".snd" else "little"
        begin, stated = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))  # type: ignore[arg-type]
        return _checked(stated, begin, size)
    if head[:4] == b"caff":
        return _caf(file, size)
    return None


def _checked(stated: int, begin: int, size: int, frames: int = 0) -> Promise | None:
    if _is_unknown(stated):
        return None
    return Promise(stated, max(0, min(stated, size - begin)), frames)


def _turns() -> Iterator[int]:
    """Count the chunks of a walk; ValueError for more of them than a file that is not damaged has."""
    yield from range(MOST_CHUNKS)
    raise ValueError(f"it has more than {MOST_CHUNKS} chunks")


def _is_unknown(size: int) -> bool:
    return any(low <= size <= high for low, high in UNKNOWN)


def _riff(file: IO[bytes], head: bytes, size: int) -> Promise | None:
    big_endian, large = head[:4] == b"RIFX", head[:4] == b"RF64"
    position, data_size = 12, 0
    for _ in _turns():
        if position >= size:
            return None
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        length = int.from_bytes(chunk[4:], "big" if big_endian else "little")
        if chunk[:4] == b"ds64":
            data_size = int.from_bytes(file.read(16)[8:], "little")
        if chunk[:4] == b"data":
            if large and length == 0xFFFFFFFF:
                length = data_size
            return _checked(length, position + 8, size)
        position += 8 + length + length % 2
    return None


def _w64(file: IO[bytes], size: int) -> Promise | None:
    position = 40
    for _ in _turns():
        if position >= size:
            return None
        file.seek(position)
        chunk = file.read(24)
        length = int.from_bytes(chunk[16:], "little")  # with the 24 bytes of its head
        if len(chunk) < 24 or length < 24 or chunk[4:16] != W64_CHUNK:
            return None
        if chunk[:4] == b"data":
            return _checked(length - 24, position + 24, size)
        position += -(-length // 8) * 8
    return None


def _aiff(file: IO[bytes], size: int) -> Promise | None:
    position, frames, sound = 12, 0, None
    for _ in _turns():
        if position >= size:
            break
        file.seek(position)
        chunk = file.read(16)
        if len(chunk) < 8:
            break
        length = int.from_bytes(chunk[4:8], "big")
        if chunk[:4] == b"COMM":
            frames = int.from_bytes(chunk[10:14], "big")
            frames = 0 if _is_unknown(frames) else frames
        if chunk[:4] == b"SSND":
            offset = int.from_bytes(chunk[8:12], "big")
            sound = length, offset, position + 16
        position += 8 + length + length % 2
    if sound is None:
        return None
    length, offset, begin = sound
    if not _is_unknown(length):
        length -= 8 + offset
    return _checked(max(0, length), begin + offset, size, frames)


def _caf(file: IO[bytes], size: int) -> Promise | None:
    position = 8
    for _ in _turns():
        if position >= size:
            return None
        file.seek(position)
        chunk = file.read(12)
        if len(chunk) < 12:
            return None
        length = int.from_bytes(chunk[4:], "big")
        if chunk[:4] == b"data":  # a count of edits is before the audio
            return _checked(length - 4, position + 16, size) if length > 4 else None
        position += 12 + length
    return None


def ogg_is_cut(file: IO[bytes]) -> bool:
    """Tell whether the last page of an OGG file is incomplete."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2 * LARGEST_OGG_PAGE))
    tail = file.read()
    start = tail.rfind(OGG_PAGE)
    if start < 0:
        return False  # other content follows, more than a page of it
    page = tail[start:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


class Mp3Frames(NamedTuple):
    """num_samples: of all whole frames with audio; stated: how many the first frame says, 0 = nothing; frame:
    samples of one; is_cut: the last frame is incomplete."""

    num_samples: int
    stated: int = 0
    frame: int = 1152
    is_cut: bool = False

    @property
    def missing(self) -> int:
        """Samples that are stated and not there; some encoders count the frame that states them as one."""
        lacking = self.stated - self.num_samples
        return lacking if lacking > self.frame else int(self.is_cut)


def mp3_frames(file: IO[bytes]) -> Mp3Frames:
    """Count the frames of an MPEG audio file by their headers."""
    begin = 0
    file.seek(0)
    while (head := file.read(10))[:3] == b"ID3" and len(head) == 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        begin += 10 + size + (10 if head[5] & 0x10 else 0)
        file.seek(begin)
    file.seek(begin)
    content = file.read()
    end = len(content) - 128 if content[-128:-125] == b"TAG" else len(content)
    position = num_samples = stated = samples = 0
    kind = b""
    while (found := SYNC.search(content, position, end)) is not None:
        start = found.start()
        size, samples_here = _mp3_header(content[start : start + 4])
        first = content[start : start + 2]
        after = content[start + size : start + size + 2]
        # the first frame is believed where another one of its kind follows
        if not size or (kind and first != kind) or (not kind and len(after) == 2 and after != first):
            position = start + 1
            continue
        if start + size > end:
            return Mp3Frames(num_samples, stated, samples or samples_here, is_cut=start == position)
        samples = samples_here
        length = None if kind else _stated_frames(content[start : start + LENGTH_FRAME_WITHIN])
        if length is None:
            num_samples += samples
        else:
            stated = length * samples
        kind, position = first, start + size
    return Mp3Frames(num_samples, stated, samples or 1152)


def _stated_frames(content: bytes) -> int | None:
    """Give the number of frames that a first frame states, 0 if it leaves it out; None if it is audio."""
    for name, at in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        found = content.find(name)
        if found >= 0:
            flags = int.from_bytes(content[found + 4 : found + 8], "big")
            number = int.from_bytes(content[found + at : found + at + 4], "big")
            return number if name == b"VBRI" or flags & 1 else 0
    return None


def _mp3_header(header: bytes) -> tuple[int, int]:
    """Bytes and samples per channel of a frame; (0, 0) for what is no header or states no bit rate."""
    if len(header) < 4:
        return 0, 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < index < 15 or rate == 3:
        return 0, 0
    hertz = MP3_RATES[rate] >> (0, 0, 1, 0)[version] if version else MP3_RATES[rate] >> 2
    kbps, padding = MP3_KBPS[version == 3, layer][index - 1], header[2] >> 1 & 1
    if layer == 1:
        return (12000 * kbps // hertz + padding) * 4, 384
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples * 125 * kbps // hertz + padding, samples
