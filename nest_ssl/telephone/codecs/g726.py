"""G.726 ADPCM, 16 to 40 kbit/s: DECT, VoIP trunks, undersea cables.

FFmpeg's coder, the default, departs from the recommendation's arithmetic in the last bits: another decoder
soon runs away from its code, at 40 kbit/s audibly, but what its own decoder gives has the same error within
0.6 dB (1.1 dB at 40 kbit/s).  spandsp's agrees with the recommendation to the bit and takes 0.6 of the time;
it is used where it is installed and NEST_CODEC_LIBRARIES=system asks for the system's libraries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from ctypes import c_int, c_void_p
from typing import Any

import numpy as np

from nest_ssl.telephone import plc
from nest_ssl.telephone.codecs import libav
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.frames import received, with_gaps
from nest_ssl.telephone.codecs.libraries import ORDER_VARIABLE, Library, load_library
from nest_ssl.telephone.codecs.native import CONCEALMENT

RATE = 8000
FRAME = 160  # 20 ms, as in RTP; 40 to 100 whole bytes at every bit rate
LINEAR, LEFT = 0, 1  # of spandsp: 16-bit samples, the first code in the highest bits of a byte, as FFmpeg's
# Neither decoder limits its output to 16 bits; a sample further than this from the coded one was
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

    def check(self) -> None:
        if _spandsp() is None:
            super().check()

    def route(self) -> str:
        library = _spandsp()
        return library.route() if library else super().route()

    def version(self) -> str:
        library = _spandsp()
        return f"{library.version if library else super().version()} plc {plc.VERSION}"

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
        return plc.conceal(decoded, gaps, FRAME)


def encode(samples: np.ndarray, kbps: int) -> bytes:
    """Give the code of int16 (T,) at 8 kHz, T a multiple of 8, a byte filled from its highest bits on."""
    library = _spandsp()
    if library is None:
        return libav.encode("g726", samples, RATE, bit_rate=1000 * kbps)
    coded = np.zeros(len(samples) + 1, np.uint8)  # a code is a byte at most
    num_bytes = _run(library, "g726_encode", kbps, coded, np.ascontiguousarray(samples, np.int16))
    return coded[:num_bytes].tobytes()


def decode(coded: bytes, kbps: int, near: np.ndarray) -> np.ndarray:
    """Give int16 (T,) at 8 kHz from the code of whole frames, limited to full scale.

    near: int16 (T,) that was coded, by which a sample turned over at full scale is known.
    """
    library = _spandsp()
    if library is None:
        decoded = libav.decode("g726", coded, RATE, {"bits_per_coded_sample": str(kbps // 8)})
    else:
        decoded = np.zeros(len(coded) * 8 // (kbps // 8) + 1, np.int16)
        decoded = decoded[: _run(library, "g726_decode", kbps, decoded, np.frombuffer(coded, np.uint8))]
    difference = np.subtract(near, decoded, dtype=np.int32)
    decoded[difference > TURNED_OVER] = 32767
    decoded[difference < -TURNED_OVER] = -32768
    return decoded


def _spandsp() -> Library | None:
    if os.environ.get(ORDER_VARIABLE) != "system":
        return None
    try:
        return load_library("spandsp")
    except CodecMissing:
        return None


def _run(library: Library, function: str, kbps: int, output: np.ndarray, source: np.ndarray) -> int:
    """Call a coder of spandsp with a state of its own; gives how many entries of `output` it filled."""
    state = library.function("g726_init", c_void_p, c_void_p, c_int, c_int, c_int)(
        None, 1000 * kbps, LINEAR, LEFT
    )
    if not state:
        raise MemoryError(f"{library.file}: g726_init gives no state for {kbps} kbit/s")
    try:
        code = library.function(function, c_int, c_void_p, c_void_p, c_void_p, c_int)
        filled = code(state, output.ctypes.data, source.ctypes.data, len(source))
    finally:
        library.function("g726_free", c_int, c_void_p)(state)
    if not 0 <= filled <= len(output):
        raise RuntimeError(f"{library.file}: {function} gave {filled} for {len(source)} entries")
    return int(filled)
