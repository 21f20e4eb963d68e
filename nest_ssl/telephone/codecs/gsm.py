"""GSM 06.10 full rate, 13 kbit/s: libgsm where it is, else the copy in libsndfile, with the same bits."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from ctypes import c_int, c_void_p
from functools import lru_cache
from typing import Any

import numpy as np
import soundfile

from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.gsm_concealment import conceal
from nest_ssl.telephone.codecs.libraries import Library, load_library
from nest_ssl.telephone.codecs.native import CONCEALMENT, NativeCodec

FRAME, PACKET_BYTES = 160, 33


class GsmFullRate(NativeCodec):
    """GSM 06.10 (RPE-LTP), the speech of the first mobile calls: frames of 20 ms without look-ahead.

    A lost frame is concealed before the decoder, in its parameters, as GSM 06.11 describes.  The version is
    the standard's, which defines every bit of the output: libgsm (2.8 times as fast) is taken only after it
    gave the same packets and samples as libsndfile for a test signal, so the route makes no difference.
    """

    name = "gsm_fr"
    choices: Mapping[str, tuple[Any, ...]] = {"concealment": CONCEALMENT}

    def check(self) -> None:
        """Return: libsndfile is always here."""

    def route(self) -> str:
        library = _libgsm()
        return library.route() if library else f"libsndfile {soundfile.__libsndfile_version__} of soundfile"

    def version(self) -> str:
        return "GSM 06.10 with 06.11"

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        library = _libgsm()
        packets = _encode_libgsm(library, pcm) if library else _encode_libsndfile(pcm)
        if any(lost) and parameters.get("concealment") == "zeros":
            arrived = ~np.array(lost)
            decoded = np.zeros((len(lost), FRAME), np.int16)
            decoded[arrived] = decode_packets(packets[arrived]).reshape(-1, FRAME)
            return decoded.reshape(-1)
        return decode_packets(conceal(packets, lost))


def decode_gsm(frames: io.BytesIO) -> np.ndarray:
    """Give int16 (T,) at 8 kHz from raw GSM 06.10 frames of 33 bytes, the content of a .gsm file."""
    samples, _ = soundfile.read(
        frames, dtype="int16", format="RAW", subtype="GSM610", samplerate=8000, channels=1
    )
    return samples


def decode_packets(packets: np.ndarray) -> np.ndarray:
    """Give int16 (N * 160,) from packets (N, 33) uint8."""
    library = _libgsm()
    return _decode_libgsm(library, packets) if library else _decode_libsndfile(packets)


def _encode_libsndfile(pcm: np.ndarray) -> np.ndarray:
    coded = io.BytesIO()
    soundfile.write(coded, pcm, 8000, format="RAW", subtype="GSM610")
    return np.frombuffer(coded.getvalue(), np.uint8).reshape(-1, PACKET_BYTES)


def _decode_libsndfile(packets: np.ndarray) -> np.ndarray:
    return decode_gsm(io.BytesIO(packets.tobytes())) if len(packets) else np.zeros(0, np.int16)


def _encode_libgsm(library: Library, pcm: np.ndarray) -> np.ndarray:
    start, end, encode_frame, _ = _functions(library)
    packets = np.empty((len(pcm) // FRAME, PACKET_BYTES), np.uint8)
    speech, coded = pcm.ctypes.data, packets.ctypes.data
    state = _started(start)
    try:
        for frame in range(len(packets)):
            encode_frame(state, speech + 2 * FRAME * frame, coded + PACKET_BYTES * frame)
    finally:
        end(state)
    return packets


def _decode_libgsm(library: Library, packets: np.ndarray) -> np.ndarray:
    start, end, _, decode_frame = _functions(library)
    packets = np.ascontiguousarray(packets)
    pcm = np.empty(len(packets) * FRAME, np.int16)
    speech, coded = pcm.ctypes.data, packets.ctypes.data
    state = _started(start)
    try:
        for frame in range(len(packets)):
            if decode_frame(state, coded + PACKET_BYTES * frame, speech + 2 * FRAME * frame) != 0:
                raise RuntimeError(f"gsm_decode refused frame {frame}")
    finally:
        end(state)
    return pcm


def _started(start: Any) -> int:
    state = start()
    if not state:
        raise MemoryError("libgsm could not make a state")
    return state


@lru_cache
def _functions(library: Library) -> tuple[Any, Any, Any, Any]:
    """Give gsm_create, gsm_destroy, gsm_encode and gsm_decode of gsm.h; its gsm_signal is a short."""
    return (
        library.function("gsm_create", c_void_p),
        library.function("gsm_destroy", None, c_void_p),
        library.function("gsm_encode", None, c_void_p, c_void_p, c_void_p),
        library.function("gsm_decode", c_int, c_void_p, c_void_p, c_void_p),
    )


def _libgsm() -> Library | None:
    """Give libgsm if it is here and agrees with libsndfile."""
    try:
        library = load_library("gsm")
        return library if _agrees(library) else None
    except CodecMissing:
        return None


@lru_cache
def _agrees(library: Library) -> bool:
    """Say whether libgsm codes and decodes as libsndfile does: a build with other arithmetic would not."""
    time = np.arange(25 * FRAME)  # half a second: a rising tone with a buzz, up to full scale
    tone = np.sin(1e-4 * time**2) * time / len(time) + 0.3 * (time % 71 < 3)
    pcm = (32767 * np.clip(tone, -1, 1)).astype(np.int16)
    packets = _encode_libsndfile(pcm)
    if not np.array_equal(_encode_libgsm(library, pcm), packets):
        return False
    return np.array_equal(_decode_libgsm(library, packets), _decode_libsndfile(packets))
