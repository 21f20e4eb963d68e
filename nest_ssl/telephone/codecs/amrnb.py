"""AMR narrowband (3GPP TS 26.073) in opencore-amrnb, with erased frames, which FFmpeg's interface lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_int, c_void_p
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.telephone.codecs.libraries import Library, load_library
from nest_ssl.telephone.codecs.native import CONCEALMENT, NativeCodec

FRAME = 160
PACKET_BYTES = 32  # of the largest mode, the byte with the frame type included
MODES = {4.75: 0, 5.15: 1, 5.9: 2, 6.7: 3, 7.4: 4, 7.95: 5, 10.2: 6, 12.2: 7}  # kbit/s to mode


class _Functions(NamedTuple):
    start_encoder: Any
    encode: Any
    end_encoder: Any
    start_decoder: Any
    decode: Any
    end_decoder: Any


@lru_cache
def _functions(library: Library) -> _Functions:
    """Give the calls of opencore-amrnb's interf_enc.h and interf_dec.h."""
    call = library.function
    return _Functions(
        call("Encoder_Interface_init", c_void_p, c_int),
        call("Encoder_Interface_Encode", c_int, c_void_p, c_int, c_void_p, c_void_p, c_int),
        call("Encoder_Interface_exit", None, c_void_p),
        call("Decoder_Interface_init", c_void_p),
        call("Decoder_Interface_Decode", None, c_void_p, c_void_p, c_void_p, c_int),
        call("Decoder_Interface_exit", None, c_void_p),
    )


class AmrNarrowband(NativeCodec):
    """AMR-NB, eight modes, the speech of 2G and 3G mobile calls: frames of 20 ms, 5 ms of look-ahead.

    dtx: the encoder's voice activity detector stops speech frames in pauses; the decoder makes comfort noise
    from the descriptions (SID) that come instead.  A lost frame is given to the decoder as bad, and concealed
    as TS 26.091 describes.
    """

    name = "amr_nb"
    delay_samples = 39.8  # measured: 40 of look-ahead, less what the phase of its filters makes
    choices: Mapping[str, tuple[Any, ...]] = {
        "kbps": (12.2, 10.2, 7.95, 7.4, 6.7, 5.9, 5.15, 4.75),
        "dtx": (False, True),
        "concealment": CONCEALMENT,
    }
    libraries = ("opencore-amrnb",)

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        packets = encode(pcm, parameters.get("kbps", 12.2), parameters.get("dtx", False))
        return decode(packets, lost, parameters.get("concealment") == "zeros")


class GsmEnhancedFullRate(AmrNarrowband):
    """GSM EFR, whose speech coding is the 12.2 kbit/s mode of AMR; its comfort noise differs in detail."""

    name = "gsm_efr"
    choices: Mapping[str, tuple[Any, ...]] = {"dtx": (False, True), "concealment": CONCEALMENT}


def encode(pcm: np.ndarray, kbps: float, dtx: bool) -> np.ndarray:
    """Give packets (N, 32) uint8, the type in bits 3 to 6 of the first byte (RFC 4867, section 5.3).

    pcm: int16 (N * 160,), contiguous.  The library overwrites it.
    """
    call = _functions(load_library("opencore-amrnb"))
    packets = np.zeros((len(pcm) // FRAME, PACKET_BYTES), np.uint8)
    speech, coded = pcm.ctypes.data, packets.ctypes.data
    mode, encode_frame = MODES[kbps], call.encode
    encoder = call.start_encoder(dtx)
    if not encoder:
        raise MemoryError("opencore-amrnb could not make an encoder")
    try:
        for frame in range(len(packets)):
            encode_frame(encoder, mode, speech + 2 * FRAME * frame, coded + PACKET_BYTES * frame, 0)
    finally:
        call.end_encoder(encoder)
    return packets


def decode(packets: np.ndarray, lost: Sequence[bool], zeros: bool = False) -> np.ndarray:
    """Give int16 (N * 160,) from packets as `encode` gives them, 40 samples late.

    lost: N flags.  The decoder conceals those frames, or with `zeros` never hears of them: they stay silent.
    """
    call = _functions(load_library("opencore-amrnb"))
    decoder = call.start_decoder()
    if not decoder:
        raise MemoryError("opencore-amrnb could not make a decoder")
    try:
        return decode_packets(call.decode, decoder, packets, FRAME, lost, zeros)
    finally:
        call.end_decoder(decoder)


def decode_packets(
    decode_frame: Any,
    decoder: Any,
    packets: np.ndarray,
    frame_samples: int,
    lost: Sequence[bool],
    zeros: bool,
) -> np.ndarray:
    """Give int16 (N * frame_samples,) from packets (N, bytes) uint8, by either of opencore's AMR decoders."""
    pcm = np.zeros(len(packets) * frame_samples, np.int16)
    speech, coded, packet_bytes = pcm.ctypes.data, packets.ctypes.data, packets.shape[1]
    for frame, bad in zip(range(len(packets)), lost, strict=True):
        if not (bad and zeros):
            decode_frame(decoder, coded + packet_bytes * frame, speech + 2 * frame_samples * frame, bad)
    return pcm
