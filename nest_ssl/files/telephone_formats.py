"""Telephone recordings that soundfile does not open by itself: raw .ul .al .sln .vox .gsm .g722, and AMR.

Files without a header say nothing of themselves: the suffix stands for coding and sample rate (one channel).
"""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np
import soundfile

from nest_ssl.files.sphere import expand_g711
from nest_ssl.files.streams import decoded_packets

# suffix: (coding, sample rate in Hz); .sln is Asterisk's name for 16-bit little-endian samples
HEADERLESS = {
    **dict.fromkeys((".ul", ".ulaw", ".mulaw", ".mu", ".pcmu"), ("ulaw", 8000)),
    **dict.fromkeys((".al", ".alaw", ".pcma"), ("alaw", 8000)),
    **dict.fromkeys((".sln", ".sln8"), ("linear", 8000)),
    **{f".sln{kilohertz}": ("linear", 1000 * kilohertz) for kilohertz in (12, 16, 24, 32, 44, 48)},
    ".vox": ("vox", 8000),
    ".gsm": ("gsm", 8000),
    ".g722": ("g722", 16000),
}
HEADERLESS[".sln44"] = ("linear", 44100)

# Formats of no fixed rate or coding: nothing in the file or its name says how to read them.
AMBIGUOUS = (".raw", ".pcm", ".sw", ".sb", ".ub", ".uw", ".bin", ".dat")

GSM_FRAME_BYTES, GSM_FRAME_SAMPLES = 33, 160

AMR_MAGIC, AMR_WB_MAGIC = b"#!AMR\n", b"#!AMR-WB\n"
# Bytes of a frame by the type in its first byte, that byte included. Source: RFC 4867, 3GPP TS 26.101.
AMR_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 7, 6, 6, 1, 1, 1, 1)
AMR_WB_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
AMR_RESERVED, AMR_WB_RESERVED = (12, 13, 14), (10, 11, 12, 13)


class HeaderlessReader:
    """Reads a file of one channel whose coding its suffix gives."""

    exact = True
    slack = 0.0
    channels = 1

    def __init__(self, file: IO[bytes], suffix: str) -> None:
        self._file = file
        self._coding, self.sample_rate = HEADERLESS[suffix]
        self.format = f"headerless {self._coding}"
        self.seekable = self._coding in ("ulaw", "alaw", "linear")
        size = file.seek(0, io.SEEK_END)
        self.missing_frames = 0
        if self._coding == "gsm":
            file.seek(0)
            self._check_gsm(file.read(4 * GSM_FRAME_BYTES))
            self.num_frames = size // GSM_FRAME_BYTES * GSM_FRAME_SAMPLES
            self.missing_frames = GSM_FRAME_SAMPLES if size % GSM_FRAME_BYTES else 0
        elif self._coding == "linear":
            self.num_frames, self.missing_frames = divmod(size, 2)
        else:
            self.num_frames = size if self.seekable else 2 * size  # vox and G.722: two samples in a byte

    def read(self, start: int, count: int) -> np.ndarray:
        """Give (T, 1) float32 in [-1, 1] of `count` samples from `start` on, fewer at the end."""
        count = max(0, min(count, self.num_frames - start))
        if count == 0:
            return np.zeros((0, 1), np.float32)
        if self._coding in ("ulaw", "alaw"):
            self._file.seek(start)
            samples = expand_g711(self._file.read(count), self._coding)
        elif self._coding == "linear":
            self._file.seek(2 * start)
            samples = np.frombuffer(self._file.read(2 * count), "<i2").astype(np.float32) / np.float32(32768)
        else:  # what a sample is depends on all before it
            samples = self._decoded(start + count)[start : start + count]
        return samples[:, None]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _decoded(self, end: int) -> np.ndarray:
        """The samples from the first to `end`."""
        self._file.seek(0)
        if self._coding == "g722":
            content = self._file.read((end + 1) // 2)
            return decoded_packets(
                "g722", 16000, [content[at : at + 8000] for at in range(0, len(content), 8000)]
            )
        if self._coding == "gsm":
            content = self._file.read(-(-end // GSM_FRAME_SAMPLES) * GSM_FRAME_BYTES)
            self._check_gsm(content)
            subtype = "GSM610"
        else:
            content, subtype = self._file.read((end + 1) // 2), "VOX_ADPCM"
        options: Any = {"format": "RAW", "subtype": subtype, "samplerate": 8000, "channels": 1}
        return soundfile.read(io.BytesIO(content), frames=end, dtype="float32", **options)[0]

    def _check_gsm(self, content: bytes) -> None:
        """Each frame of GSM 06.10 begins with the four bits 1101."""
        first = np.frombuffer(content, np.uint8)[::GSM_FRAME_BYTES]
        wrong = np.flatnonzero(first[: len(content) // GSM_FRAME_BYTES] >> 4 != 0xD)
        if len(wrong):
            raise ValueError(
                f"no GSM 06.10 frames of {GSM_FRAME_BYTES} bytes, the content of a .gsm file "
                f"(frame {wrong[0]} is none)"
            )


class AmrReader:
    """Reads an AMR or AMR-WB file (storage format of RFC 4867, one channel)."""

    exact = True
    slack = 0.0
    channels = 1
    seekable = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        file.seek(0)
        content = file.read()
        wideband = content.startswith(AMR_WB_MAGIC)
        self.format = "AMR-WB" if wideband else "AMR-NB"
        self.sample_rate = 16000 if wideband else 8000
        self._frame_samples = self.sample_rate // 50
        sizes = AMR_WB_BYTES if wideband else AMR_BYTES
        position = len(AMR_WB_MAGIC if wideband else AMR_MAGIC)
        self._packets: list[bytes] = []
        while position < len(content):
            kind = content[position] >> 3 & 0x0F
            if kind in (AMR_WB_RESERVED if wideband else AMR_RESERVED):
                raise ValueError(f"frame {len(self._packets)} is of type {kind}, which does not exist")
            end = position + sizes[kind]
            if end > len(content):
                break
            self._packets.append(content[position:end])
            position = end
        self.missing_frames = self._frame_samples if position < len(content) else 0
        self.num_frames = len(self._packets) * self._frame_samples

    def read(self, start: int, count: int) -> np.ndarray:
        """Give (T, 1) float32 in [-1, 1] of `count` samples from `start` on, fewer at the end."""
        end = max(start, min(start + count, self.num_frames))
        packets = self._packets[: -(-end // self._frame_samples)]
        codec = "libopencore_amrwb" if self.sample_rate == 16000 else "libopencore_amrnb"
        return decoded_packets(codec, self.sample_rate, packets)[start:end, None]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
