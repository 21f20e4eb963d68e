"""Opus narrowband in libopus: error correction, concealment and DTX, which FFmpeg's interface lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_int32, c_void_p, create_string_buffer, string_at
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.telephone.codecs.libraries import Library, load_library
from nest_ssl.telephone.codecs.native import CONCEALMENT, NativeCodec

RATE, FRAME = 8000, 160
MAX_PACKET_BYTES = 1276  # of one frame, RFC 6716 section 3.2.1, with its first byte
APPLICATION_VOIP, BANDWIDTH_NARROWBAND = 2048, 1101  # opus_defines.h, as the requests below
SET_BITRATE, SET_MAX_BANDWIDTH, SET_COMPLEXITY = 4002, 4004, 4010
SET_INBAND_FEC, SET_PACKET_LOSS_PERCENT, SET_DTX, GET_LOOKAHEAD = 4012, 4014, 4016, 4027
KBPS_MIN, KBPS_MAX = 6, 24
EXPECTED_LOSS_WITH_FEC = 10  # percent; with 0 the encoder adds no correction


class _Functions(NamedTuple):
    version: Any
    start_encoder: Any
    set_encoder: Any
    encode: Any
    end_encoder: Any
    start_decoder: Any
    decode: Any
    end_decoder: Any


@lru_cache
def _functions(library: Library) -> _Functions:
    """Give the calls of opus.h."""
    call = library.function
    return _Functions(
        call("opus_get_version_string", c_char_p),
        call("opus_encoder_create", c_void_p, c_int32, c_int, c_int, c_void_p),
        call("opus_encoder_ctl", c_int, c_void_p, c_int),  # variadic: the value is passed as a C type
        call("opus_encode", c_int32, c_void_p, c_void_p, c_int, c_void_p, c_int32),
        call("opus_encoder_destroy", None, c_void_p),
        call("opus_decoder_create", c_void_p, c_int32, c_int, c_void_p),
        call("opus_decode", c_int, c_void_p, c_char_p, c_int32, c_void_p, c_int, c_int),
        call("opus_decoder_destroy", None, c_void_p),
    )


class OpusNarrowband(NativeCodec):
    """Opus as Internet telephony uses it towards the telephone network: 8 kHz, 20 ms, application VOIP.

    kbps: a number from 6 to 24.  fec: packets carry the frame before them once more, coarsely, if the bit
    rate leaves room: from 19 kbit/s on, or 17 at 20 % of expected loss (measured with libopus 1.6.1).  A lost
    frame whose next packet arrived is decoded from there, every other one concealed by the decoder.
    expected_loss_percent: what the encoder is told, 0 to 100; if nothing is said, 10 with `fec`, 0 without.
    """

    name = "opus_nb"
    delay_samples = 52.0  # OPUS_GET_LOOKAHEAD at 8 kHz for this application
    choices: Mapping[str, tuple[Any, ...]] = {
        "kbps": (),
        "complexity": (5, 0, 1, 2, 3, 4, 6, 7, 8, 9, 10),
        "dtx": (False, True),
        "fec": (False, True),
        "expected_loss_percent": (),
        "concealment": CONCEALMENT,
    }
    libraries = ("opus",)

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        super().check_parameters(parameters)
        for name, low, high in (("kbps", KBPS_MIN, KBPS_MAX), ("expected_loss_percent", 0, 100)):
            value = parameters.get(name, low)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{self.name}: {name} must be a number from {low} to {high}, not {value!r}")

    def version(self) -> str:
        library = load_library("opus")
        return f"{_functions(library).version().decode()} {library.version}"

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        packets = encode(pcm, parameters)
        return decode(packets, lost, parameters.get("fec", False), parameters.get("concealment") == "zeros")


def encode(pcm: np.ndarray, parameters: Mapping[str, Any]) -> list[bytes]:
    """Give the packet of every frame of int16 (N * 160,); with dtx, one of up to 2 bytes need not be sent."""
    fec = parameters.get("fec", False)
    settings = {
        SET_BITRATE: round(1000 * parameters.get("kbps", 16)),
        SET_MAX_BANDWIDTH: BANDWIDTH_NARROWBAND,
        SET_COMPLEXITY: parameters.get("complexity", 5),
        SET_DTX: int(parameters.get("dtx", False)),
        SET_INBAND_FEC: int(fec),
        SET_PACKET_LOSS_PERCENT: round(
            parameters.get("expected_loss_percent", EXPECTED_LOSS_WITH_FEC if fec else 0)
        ),
    }
    packets = []
    packet = create_string_buffer(MAX_PACKET_BYTES)
    with _encoder(settings) as (encode_frame, encoder):
        for speech in range(pcm.ctypes.data, pcm.ctypes.data + pcm.nbytes, 2 * FRAME):
            size = encode_frame(encoder, speech, FRAME, packet, MAX_PACKET_BYTES)
            if size < 1:
                raise RuntimeError(f"opus_encode failed with {size} (opus_defines.h names it)")
            packets.append(string_at(packet, size))
    return packets


def decode(packets: Sequence[bytes], lost: Sequence[bool], fec: bool, zeros: bool = False) -> np.ndarray:
    """Give int16 (N * 160,) from the packets that arrived, 52 samples late.

    lost: N flags.  fec: take a lost frame from the packet after it if that one arrived.  zeros: the decoder
    never hears of lost frames, and they stay silent.
    """
    call = _functions(load_library("opus"))
    pcm = np.zeros(len(packets) * FRAME, np.int16)
    speech, decode_frame = pcm.ctypes.data, call.decode
    decoder = call.start_decoder(RATE, 1, None)
    if not decoder:
        raise MemoryError("libopus could not make a decoder")
    try:
        for frame, bad in zip(range(len(packets)), lost, strict=True):
            target = speech + 2 * FRAME * frame
            if not bad:
                packet = packets[frame]
                decoded = decode_frame(decoder, packet, len(packet), target, FRAME, 0)
            elif zeros:
                continue
            elif fec and frame + 1 < len(packets) and not lost[frame + 1]:
                packet = packets[frame + 1]
                decoded = decode_frame(decoder, packet, len(packet), target, FRAME, 1)
            else:
                decoded = decode_frame(decoder, None, 0, target, FRAME, 0)
            if decoded != FRAME:
                raise RuntimeError(f"opus_decode gave {decoded}, not {FRAME}, in frame {frame}")
    finally:
        call.end_decoder(decoder)
    return pcm


def lookahead() -> int:
    """Give the samples by which the library's encoder and decoder delay speech."""
    samples = c_int32()
    with _encoder({GET_LOOKAHEAD: samples}):
        return samples.value


@contextmanager
def _encoder(settings: Mapping[int, int | c_int32]) -> Iterator[tuple[Any, int]]:
    """Give opus_encode and an encoder with these settings; a c_int32 among them receives a value."""
    call = _functions(load_library("opus"))
    encoder = call.start_encoder(RATE, 1, APPLICATION_VOIP, None)
    if not encoder:
        raise MemoryError("libopus could not make an encoder")
    try:
        for request, value in settings.items():
            argument = byref(value) if isinstance(value, c_int32) else c_int32(value)
            if call.set_encoder(encoder, request, argument) != 0:
                raise RuntimeError(f"libopus refused request {request} with {value}")
        yield call.encode, encoder
    finally:
        call.end_encoder(encoder)
