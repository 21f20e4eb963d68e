"""G.726 ADPCM, 16 to 40 kbit/s, by FFmpeg's coder: DECT, VoIP trunks, undersea cables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs import libav
from nest_ssl.telephone.codecs.frames import received, with_gaps
from nest_ssl.telephone.codecs.native import CONCEALMENT
from nest_ssl.telephone.plc import conceal

RATE = 8000
FRAME = 160  # 20 ms, as in RTP; 40 to 100 whole bytes at every bit rate
# FFmpeg's decoder does not limit its output to 16 bits; a sample further than this from the coded one was
# turned over at full scale.  A coding error alone stays below it, even where silence jumps to full scale.
TURNED_OVER = 40000


class G726(libav.LibavCodec):
    """G.726: every sample coded in kbps / 8 bits.

    Lost frames: the decoder goes on with what arrives next, in the state it has, as endpoints do; the gap is
    filled as for G.711, by repeated pitch periods (`concealment: codec`) or by zeros.
    """

    name = "g726"
    encoder = decoder = "g726"
    sample_rate = RATE
    frame_samples = FRAME
    delay_samples = 0.0
    choices: Mapping[str, tuple[Any, ...]] = {"kbps": (32, 24, 40, 16), "concealment": CONCEALMENT}

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        kbps = parameters.get("kbps", 32)
        coded = encode(pcm, kbps)
        if not any(lost):
            return decode(coded, kbps, pcm)
        gaps = np.array(lost)
        arrived = received(np.frombuffer(coded, np.uint8), gaps).tobytes()
        decoded = with_gaps(decode(arrived, kbps, received(pcm, gaps)), gaps, FRAME)
        if parameters.get("concealment") == "zeros":
            return decoded
        return conceal(decoded, gaps, FRAME)


def encode(samples: np.ndarray, kbps: int) -> bytes:
    """Give the code of int16 (T,) at 8 kHz, T a multiple of 8, a byte filled from its highest bits on."""
    return libav.encode("g726", samples, RATE, bit_rate=1000 * kbps)


def decode(coded: bytes, kbps: int, near: np.ndarray) -> np.ndarray:
    """Give int16 (T,) at 8 kHz from the code of whole frames, limited to full scale.

    near: int16 (T,) that was coded, by which a sample turned over at full scale is known.
    """
    decoded = libav.decode("g726", coded, RATE, {"bits_per_coded_sample": str(kbps // 8)})
    difference = np.subtract(near, decoded, dtype=np.int32)
    if len(difference) and max(difference.max(), -difference.min()) > TURNED_OVER:
        decoded[difference > TURNED_OVER] = 32767
        decoded[difference < -TURNED_OVER] = -32768
    return decoded
