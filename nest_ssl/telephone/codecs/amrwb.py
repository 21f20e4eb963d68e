"""AMR wideband (3GPP TS 26.173): encoded in vo-amrwbenc, which no wheel has, decoded in opencore-amrwb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_int, c_void_p
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.telephone.codecs.amrnb import decode_packets
from nest_ssl.telephone.codecs.libraries import Library, load_library
from nest_ssl.telephone.codecs.native import CONCEALMENT, NativeCodec

FRAME = 320
PACKET_BYTES = 64  # the largest mode takes 61, the byte with the frame type included
MODES = (6.6, 8.85, 12.65, 14.25, 15.85, 18.25, 19.85, 23.05, 23.85)  # kbit/s


class _Encoder(NamedTuple):
    start: Any
    encode: Any
    end: Any


class _Decoder(NamedTuple):
    start: Any
    decode: Any
    end: Any


@lru_cache
def _encoder(library: Library) -> _Encoder:
    """Give the calls of vo-amrwbenc's enc_if.h."""
    return _Encoder(
        library.function("E_IF_init", c_void_p),
        library.function("E_IF_encode", c_int, c_void_p, c_int, c_void_p, c_void_p, c_int),
        library.function("E_IF_exit", None, c_void_p),
    )


@lru_cache
def _decoder(library: Library) -> _Decoder:
    """Give the calls of opencore-amrwb's dec_if.h."""
    return _Decoder(
        library.function("D_IF_init", c_void_p),
        library.function("D_IF_decode", None, c_void_p, c_void_p, c_void_p, c_int),
        library.function("D_IF_exit", None, c_void_p),
    )


class AmrWideband(NativeCodec):
    """AMR-WB (G.722.2), nine modes, the speech of HD voice calls: 16 kHz, frames of 20 ms.

    dtx and lost frames as with AMR narrowband; but opencore's decoder mutes even a single lost frame of loud
    speech by about 20 dB, more than TS 26.191 describes.
    """

    name = "amr_wb"
    sample_rate = 16000
    frame_samples = FRAME
    delay_samples = 94.8  # measured: look-ahead of 5 ms, and resampling to 12.8 kHz and back
    choices: Mapping[str, tuple[Any, ...]] = {
        "kbps": (12.65, *(kbps for kbps in MODES if kbps != 12.65)),
        "dtx": (False, True),
        "concealment": CONCEALMENT,
    }
    libraries = ("vo-amrwbenc", "opencore-amrwb")

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        packets = encode(pcm, parameters.get("kbps", 12.65), parameters.get("dtx", False))
        return decode(packets, lost, parameters.get("concealment") == "zeros")


def encode(pcm: np.ndarray, kbps: float, dtx: bool) -> np.ndarray:
    """Give packets (N, 64) uint8 of int16 (N * 320,), the type in bits 3 to 6 of the first byte."""
    call = _encoder(load_library("vo-amrwbenc"))
    packets = np.zeros((len(pcm) // FRAME, PACKET_BYTES), np.uint8)
    speech, coded = pcm.ctypes.data, packets.ctypes.data
    mode, encode_frame = MODES.index(kbps), call.encode
    encoder = call.start()
    if not encoder:
        raise MemoryError("vo-amrwbenc could not make an encoder")
    try:
        for frame in range(len(packets)):
            encode_frame(encoder, mode, speech + 2 * FRAME * frame, coded + PACKET_BYTES * frame, dtx)
    finally:
        call.end(encoder)
    return packets


def decode(packets: np.ndarray, lost: Sequence[bool], zeros: bool = False) -> np.ndarray:
    """Give int16 (N * 320,) from packets as `encode` gives them, 95 samples late.

    lost: N flags.  The decoder conceals those frames, or with `zeros` never hears of them: they stay silent.
    """
    call = _decoder(load_library("opencore-amrwb"))
    decoder = call.start()
    if not decoder:
        raise MemoryError("opencore-amrwb could not make a decoder")
    try:
        return decode_packets(call.decode, decoder, packets, FRAME, lost, zeros)
    finally:
        call.end(decoder)
