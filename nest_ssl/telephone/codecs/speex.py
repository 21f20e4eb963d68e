"""Speex narrowband in libspeex, the free codec of Internet telephony before Opus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_int, c_void_p, create_string_buffer, string_at
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.telephone.codecs.libraries import Library, load_library
from nest_ssl.telephone.codecs.native import CONCEALMENT, NativeCodec

FRAME = 160
MAX_PACKET_BYTES = 200  # speex.h: no frame of the narrowband mode takes more; the largest is 62
NARROWBAND = 0  # speex.h, as the requests below
SET_QUALITY, SET_VAD, SET_DTX, GET_LOOKAHEAD, LIB_GET_VERSION_STRING = 4, 30, 34, 39, 9
QUALITY = {3.95: 1, 5.95: 2, 8.0: 3, 11.0: 5, 15.0: 7, 18.2: 9, 24.6: 10}  # kbit/s: the knob's place
BITS_BYTES = 256  # more than struct SpeexBits, which the library fills and only it reads


class _Functions(NamedTuple):
    control: Any
    mode: Any
    start_bits: Any
    reset_bits: Any
    write_bits: Any
    read_bits: Any
    end_bits: Any
    start_encoder: Any
    set_encoder: Any
    encode: Any
    end_encoder: Any
    start_decoder: Any
    set_decoder: Any
    decode: Any
    end_decoder: Any


@lru_cache
def _functions(library: Library) -> _Functions:
    """Give the calls of speex.h and speex_bits.h; none is variadic."""
    call = library.function
    return _Functions(
        call("speex_lib_ctl", c_int, c_int, c_void_p),
        call("speex_lib_get_mode", c_void_p, c_int),
        call("speex_bits_init", None, c_void_p),
        call("speex_bits_reset", None, c_void_p),
        call("speex_bits_write", c_int, c_void_p, c_void_p, c_int),
        call("speex_bits_read_from", None, c_void_p, c_char_p, c_int),
        call("speex_bits_destroy", None, c_void_p),
        call("speex_encoder_init", c_void_p, c_void_p),
        call("speex_encoder_ctl", c_int, c_void_p, c_int, c_void_p),
        call("speex_encode_int", c_int, c_void_p, c_void_p, c_void_p),
        call("speex_encoder_destroy", None, c_void_p),
        call("speex_decoder_init", c_void_p, c_void_p),
        call("speex_decoder_ctl", c_int, c_void_p, c_int, c_void_p),
        call("speex_decode_int", c_int, c_void_p, c_void_p, c_void_p),
        call("speex_decoder_destroy", None, c_void_p),
    )


class SpeexNarrowband(NativeCodec):
    """Speex at 8 kHz, seven of its constant bit rates, frames of 20 ms; the decoder's enhancement stays on.

    dtx: the encoder's voice activity detector and discontinuous transmission.  Lost frames are concealed by
    the decoder.  The eighth rate, 2.15 kbit/s, is left out: a vocoder that does not follow the waveform.
    """

    name = "speex_nb"
    delay_samples = 80.0
    choices: Mapping[str, tuple[Any, ...]] = {
        "kbps": (15.0, 24.6, 18.2, 11.0, 8.0, 5.95, 3.95),
        "dtx": (False, True),
        "concealment": CONCEALMENT,
    }
    libraries = ("speex",)

    def version(self) -> str:
        library, text = load_library("speex"), c_char_p()
        _functions(library).control(LIB_GET_VERSION_STRING, byref(text))
        return f"libspeex {(text.value or b'').decode()} {library.version}"

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        packets = encode(pcm, parameters.get("kbps", 15.0), parameters.get("dtx", False))
        return decode(packets, lost, parameters.get("concealment") == "zeros")


def encode(pcm: np.ndarray, kbps: float, dtx: bool) -> list[bytes]:
    """Give the packet of every frame of int16 (N * 160,)."""
    call = _functions(load_library("speex"))
    packet, packets = create_string_buffer(MAX_PACKET_BYTES), []
    encode_frame, reset, write = call.encode, call.reset_bits, call.write_bits
    with _bits(call) as bits, _coder(call.start_encoder, call.end_encoder, call.mode) as encoder:
        for request, value in ((SET_QUALITY, QUALITY[kbps]), (SET_VAD, int(dtx)), (SET_DTX, int(dtx))):
            _set(call.set_encoder, encoder, request, c_int(value))
        for speech in range(pcm.ctypes.data, pcm.ctypes.data + pcm.nbytes, 2 * FRAME):
            reset(bits)
            encode_frame(encoder, speech, bits)
            packets.append(string_at(packet, write(bits, packet, MAX_PACKET_BYTES)))
    return packets


def decode(packets: Sequence[bytes], lost: Sequence[bool], zeros: bool = False) -> np.ndarray:
    """Give int16 (N * 160,) from packets as `encode` gives them, 80 samples late.

    lost: N flags.  The decoder conceals those frames, or with `zeros` never hears of them: they stay silent.
    """
    call = _functions(load_library("speex"))
    pcm = np.zeros(len(packets) * FRAME, np.int16)
    speech, decode_frame, read = pcm.ctypes.data, call.decode, call.read_bits
    with _bits(call) as bits, _coder(call.start_decoder, call.end_decoder, call.mode) as decoder:
        for frame, bad in zip(range(len(packets)), lost, strict=True):
            target, packet = speech + 2 * FRAME * frame, packets[frame]
            if bad and zeros:
                continue
            if bad:
                decoded = decode_frame(decoder, None, target)
            else:
                read(bits, packet, len(packet))
                decoded = decode_frame(decoder, bits, target)
            if decoded != 0:
                raise RuntimeError(f"speex_decode_int gave {decoded} in frame {frame}")
    return pcm


def lookahead() -> int:
    """Give the samples by which the library's encoder and decoder delay speech."""
    call, samples = _functions(load_library("speex")), (c_int(), c_int())
    with (
        _coder(call.start_encoder, call.end_encoder, call.mode) as encoder,
        _coder(call.start_decoder, call.end_decoder, call.mode) as decoder,
    ):
        _set(call.set_encoder, encoder, GET_LOOKAHEAD, samples[0])
        _set(call.set_decoder, decoder, GET_LOOKAHEAD, samples[1])
    return sum(part.value for part in samples)


@contextmanager
def _bits(call: _Functions) -> Iterator[Any]:
    bits = create_string_buffer(BITS_BYTES)
    call.start_bits(bits)
    try:
        yield bits
    finally:
        call.end_bits(bits)


@contextmanager
def _coder(start: Any, end: Any, mode: Any) -> Iterator[int]:
    coder = start(mode(NARROWBAND))
    if not coder:
        raise MemoryError("libspeex could not make a state")
    try:
        yield coder
    finally:
        end(coder)


def _set(control: Any, coder: int, request: int, value: c_int) -> None:
    if control(coder, request, byref(value)) != 0:
        raise RuntimeError(f"libspeex refused request {request} with {value.value}")
