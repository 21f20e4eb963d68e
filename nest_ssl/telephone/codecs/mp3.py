"""MP3 of call recorders, by LAME and FFmpeg's decoder through PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs import libav
from nest_ssl.telephone.codecs.frames import refuse_loss
from nest_ssl.telephone.codecs.native import whole_frames
from nest_ssl.telephone.resample import resample

RATE = 8000
DELAY = 1105  # samples at the rate of the file: 576 of LAME, 529 of a decoder
LAME_QUALITY = "7"  # lame -f, as made for real time: half the time of LAME's default, the SNR not worse


class Mp3(libav.LibavCodec):
    """MPEG-2 (16 kHz) or MPEG-2.5 (8 kHz) layer III at a constant bit rate, mono.

    `sample_rate: 16000` is a recorder that brings the line to 16 kHz first; the channel's samples stay at
    8 kHz, they are resampled before and after.  LAME codes 0.95 of the level (0.45 dB down).
    """

    name = "mp3"
    encoder, decoder = "libmp3lame", "mp3float"
    sample_rate = RATE
    frame_samples = 160
    delay_samples = float(DELAY)
    choices: Mapping[str, tuple[Any, ...]] = {
        "kbps": (16, 8, 24, 32, 40, 48, 56, 64),
        "sample_rate": (8000, 16000),
    }

    def encode_decode(
        self, samples: np.ndarray, parameters: Mapping[str, Any], lost: np.ndarray | None = None
    ) -> np.ndarray:
        self.check_parameters(parameters)
        refuse_loss(self.name, lost)
        samples = whole_frames(samples, 1)
        if len(samples) == 0:
            return samples
        rate = parameters.get("sample_rate", RATE)
        stored = samples if rate == RATE else _int16(resample(samples.astype(np.float32), RATE, rate))
        decoded = round_trip(stored, rate, parameters.get("kbps", 16))
        return _int16(resample(decoded, rate, RATE, len(samples)))


def round_trip(samples: np.ndarray, rate: int, kbps: int) -> np.ndarray:
    """Give float32 (T,), full scale 32768, of int16 (T,) at `rate` Hz, both delays taken out; T > 0."""
    decoded = libav.decode("mp3float", encode(samples, rate, kbps), rate)
    return decoded[DELAY : DELAY + len(samples)] * np.float32(32768)


def encode(samples: np.ndarray, rate: int, kbps: int) -> bytes:
    """Give the frames of int16 (T,) at `rate` Hz, without tags, DELAY samples longer than T at least."""
    return libav.encode(
        "libmp3lame",
        samples,
        rate,
        bit_rate=1000 * kbps,
        sample_format="s16p",
        options={"compression_level": LAME_QUALITY},
    )


def _int16(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)
