"""G.729 Annexes A and B in bcg729 (GPL-3): used where the user has installed it, and in no default mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import byref, c_char_p, c_uint8, c_void_p, create_string_buffer
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.telephone.codecs.libraries import Library, load_library
from nest_ssl.telephone.codecs.native import CONCEALMENT, NativeCodec

FRAME = 80
PACKET_BYTES = 10  # of speech; 2 of a silence description, 0 of a frame that is not sent


class _Functions(NamedTuple):
    start_encoder: Any
    encode: Any
    end_encoder: Any
    start_decoder: Any
    decode: Any
    end_decoder: Any


@lru_cache
def _functions(library: Library) -> _Functions:
    """Give the calls of bcg729's encoder.h and decoder.h, version 1.0.2 and later."""
    call = library.function
    return _Functions(
        call("initBcg729EncoderChannel", c_void_p, c_uint8),
        call("bcg729Encoder", None, c_void_p, c_void_p, c_void_p, c_void_p),
        call("closeBcg729EncoderChannel", None, c_void_p),
        call("initBcg729DecoderChannel", c_void_p),
        call("bcg729Decoder", None, c_void_p, c_char_p, c_uint8, c_uint8, c_uint8, c_uint8, c_void_p),
        call("closeBcg729DecoderChannel", None, c_void_p),
    )


class G729(NativeCodec):
    """G.729A at 8 kbit/s, Internet telephony and trunks of exchanges: frames of 10 ms, 5 ms of look-ahead.

    dtx: Annex B, silence descriptions and comfort noise in pauses.  Lost frames are concealed by the decoder.
    """

    name = "g729"
    frame_samples = FRAME
    delay_samples = 39.8  # measured: 40 of look-ahead, less what the phase of its filters makes
    choices: Mapping[str, tuple[Any, ...]] = {"dtx": (False, True), "concealment": CONCEALMENT}
    libraries = ("bcg729",)

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        packets = encode(pcm, parameters.get("dtx", False))
        return decode(packets, lost, parameters.get("concealment") == "zeros")


def encode(pcm: np.ndarray, dtx: bool) -> list[bytes]:
    """Give the packet of every frame of int16 (N * 80,); an empty one is not sent."""
    call = _functions(load_library("bcg729"))
    encode_frame = call.encode
    packet, size = create_string_buffer(PACKET_BYTES), c_uint8()
    size_address = byref(size)
    packets = []
    encoder = call.start_encoder(dtx)
    if not encoder:
        raise MemoryError("bcg729 could not make an encoder")
    try:
        for speech in range(pcm.ctypes.data, pcm.ctypes.data + pcm.nbytes, 2 * FRAME):
            encode_frame(encoder, speech, packet, size_address)
            packets.append(packet.raw[: size.value])
    finally:
        call.end_encoder(encoder)
    return packets


def decode(packets: Sequence[bytes], lost: Sequence[bool], zeros: bool = False) -> np.ndarray:
    """Give int16 (N * 80,) from packets as `encode` gives them, 40 samples late.

    lost: N flags.  The decoder conceals those frames, or with `zeros` never hears of them: they stay silent.
    """
    call = _functions(load_library("bcg729"))
    pcm = np.zeros(len(packets) * FRAME, np.int16)
    speech, decode_frame = pcm.ctypes.data, call.decode
    decoder = call.start_decoder()
    if not decoder:
        raise MemoryError("bcg729 could not make a decoder")
    try:
        for frame, bad in zip(range(len(packets)), lost, strict=True):
            target, packet = speech + 2 * FRAME * frame, packets[frame]
            if bad and zeros:
                continue
            if (
                bad or not packet
            ):  # what is not sent looks like what is lost: the decoder knows it is in a pause
                decode_frame(decoder, None, 0, 1, 0, 0, target)
            else:
                decode_frame(decoder, packet, len(packet), 0, len(packet) < PACKET_BYTES, 0, target)
    finally:
        call.end_decoder(decoder)
    return pcm
