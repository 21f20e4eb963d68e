"""GSM 06.10 full rate, 13 kbit/s, as libsndfile carries it."""

from __future__ import annotations

import io

import numpy as np
import soundfile


class GsmFullRate:
    """GSM 06.10 (RPE-LTP): frames of 160 samples, 33 bytes each; the last one is filled with zeros."""

    name = "gsm_fr"
    sample_rate = 8000
    frame_samples = 160

    def version(self) -> str:
        return f"libsndfile {soundfile.__libsndfile_version__}"

    def encode_decode(self, samples: np.ndarray) -> np.ndarray:
        if len(samples) == 0:
            return samples.astype(np.int16)
        coded = io.BytesIO()
        soundfile.write(coded, samples.astype(np.int16, copy=False), 8000, format="RAW", subtype="GSM610")
        coded.seek(0)
        decoded = decode_gsm(coded)
        return decoded[: len(samples)]


def decode_gsm(frames: io.BytesIO) -> np.ndarray:
    """Give int16 (T,) at 8 kHz from raw GSM 06.10 frames of 33 bytes, the content of a .gsm file."""
    samples, _ = soundfile.read(
        frames, dtype="int16", format="RAW", subtype="GSM610", samplerate=8000, channels=1
    )
    return samples
