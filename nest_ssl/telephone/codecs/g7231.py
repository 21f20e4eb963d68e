"""G.723.1 at 6.3 kbit/s (MP-MLQ), by FFmpeg's coder: early VoIP and video telephony."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs import libav
from nest_ssl.telephone.codecs.frames import received, with_gaps
from nest_ssl.telephone.codecs.native import CONCEALMENT
from nest_ssl.telephone.plc import lost_runs

RATE = 8000
FRAME = 240  # 30 ms, 24 bytes
FRAME_BYTES = 24
DELAY = 60  # the encoder's look-ahead

MUTED_FROM = 3  # the third erased frame in a row and the later ones are silent

# A frame of the high rate (bits 0-1 zero) whose first pitch lag (bits 26-32) is 127: codes above 123 are
# forbidden, and a decoder that meets one treats the frame as erased.
ERASED = np.zeros(FRAME_BYTES, np.uint8)
ERASED[3], ERASED[4] = 0xFC, 0x01


class G7231(libav.LibavCodec):
    """G.723.1, high rate.

    Lost frames are concealed as the recommendation says: the decoder is given frames with a forbidden pitch
    code, for which it repeats the last excitation, 2.5 dB down each time, or noise in its place; the third
    lost in a row and later ones are mute, and the decoder begins anew after them.  (FFmpeg's decoder alone
    would, from the third on, feed its output to the synthesis filter again and grow louder with every frame.)
    `concealment: zeros` decodes what arrives and plays zeros between.

    The low rate of 5.3 kbit/s is missing: FFmpeg's encoder has only the high one.
    """

    name = "g7231"
    encoder = decoder = "g723_1"
    sample_rate = RATE
    frame_samples = FRAME
    delay_samples = float(DELAY)
    choices: Mapping[str, tuple[Any, ...]] = {"kbps": (6.3,), "concealment": CONCEALMENT}

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        coded = encode(pcm)
        if not any(lost):
            return decode(coded)
        frames, gaps = np.frombuffer(coded, np.uint8), np.array(lost)
        if parameters.get("concealment") == "zeros":
            return with_gaps(decode(received(frames, gaps).tobytes()), gaps, FRAME)
        return _concealed(frames.reshape(-1, FRAME_BYTES), gaps).reshape(-1)


def encode(samples: np.ndarray) -> bytes:
    """Give the frames, 24 bytes each, of int16 (T,) at 8 kHz, T a multiple of 240."""
    return libav.encode("g723_1", samples, RATE, bit_rate=6300)


def decode(coded: bytes) -> np.ndarray:
    """Give int16 (T,) at 8 kHz, DELAY samples late, from frames of 24 bytes."""
    return libav.decode("g723_1", coded, RATE)


def _concealed(frames: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Give int16 (num_frames, FRAME) from uint8 (num_frames, FRAME_BYTES) of which some are lost."""
    position = np.arange(len(lost))
    last_good = np.maximum.accumulate(np.where(lost, -1, position))
    heard = (last_good >= 0) & (position - last_good < MUTED_FROM)
    given = np.where(lost[:, np.newaxis], ERASED, frames)
    decoded = np.zeros((len(lost), FRAME), np.int16)
    for start, end in lost_runs(heard, 1, len(heard)):  # each run begins with a good frame
        decoded[start:end] = decode(given[start:end].tobytes()).reshape(-1, FRAME)
    return decoded
