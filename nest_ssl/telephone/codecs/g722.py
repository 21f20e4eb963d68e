"""G.722, 64, 56 and 48 kbit/s, by FFmpeg's coder: wideband speech at 16 kHz on ISDN and "HD" telephones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nest_ssl.telephone import plc
from nest_ssl.telephone.codecs import libav
from nest_ssl.telephone.codecs.frames import received, with_gaps
from nest_ssl.telephone.codecs.native import CONCEALMENT

RATE = 16000
FRAME = 320  # 20 ms, 160 bytes
DELAY = 22  # of the two quadrature mirror filters
LARGEST_FRAME = 32768  # samples the encoder takes at once; without it PyAV hands it 320 at a time


class G722(libav.LibavCodec):
    """G.722 (sub-band ADPCM): one byte for two samples.

    The 56 and 48 kbit/s modes code the same and drop one or two bits of the low band at the decoder, where
    the network had put data in their place.  Lost frames: the decoder goes on in the state it has; the gap is
    filled as for G.711, by repeated pitch periods (`concealment: codec`), not by G.722's own Appendices III
    and IV, or by zeros.
    """

    name = "g722"
    encoder = decoder = "g722"
    sample_rate = RATE
    frame_samples = FRAME
    delay_samples = float(DELAY)
    choices: Mapping[str, tuple[Any, ...]] = {"kbps": (64, 56, 48), "concealment": CONCEALMENT}

    def version(self) -> str:
        return f"{super().version()} plc {plc.VERSION}"

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        kbps = parameters.get("kbps", 64)
        coded = encode(pcm)
        if not any(lost):
            return decode(coded, kbps)
        gaps = np.array(lost)
        arrived = received(np.frombuffer(coded, np.uint8), gaps).tobytes()
        decoded = with_gaps(decode(arrived, kbps), gaps, FRAME)
        if parameters.get("concealment") == "zeros":
            return decoded
        return plc.conceal(decoded, gaps, FRAME, RATE)


def encode(samples: np.ndarray) -> bytes:
    """Give the code of int16 (T,) at 16 kHz, T even, as in a .g722 file."""
    return libav.encode("g722", samples, RATE, options={"frame_size": str(LARGEST_FRAME)})


def decode(coded: bytes, kbps: int) -> np.ndarray:
    """Give int16 (T,) at 16 kHz, DELAY samples late, as a decoder in the mode of `kbps`."""
    return libav.decode("g722", coded, RATE, {"bits_per_codeword": str(kbps // 8)})
