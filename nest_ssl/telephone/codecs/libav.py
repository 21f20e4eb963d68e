"""One-call encoding and decoding with the FFmpeg codecs that PyAV's wheel brings; no file, no container.

Every call opens contexts of its own: FFmpeg's speech encoders cannot be reset, and opening one takes 0.02 ms.
What each encoder costs once is 0.5 ms for PyAV's filter graph that cuts a signal into the codec's frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.native import NativeCodec

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

INSTALL_HINT = "install PyAV's own wheel, which has it: pip install --only-binary av 'av>=14'"
SAMPLE_TYPES = {"s16": np.int16, "s16p": np.int16, "flt": np.float32, "fltp": np.float32}


class LibavCodec(NativeCodec):
    """A codec of FFmpeg, by the names of its encoder and decoder there."""

    encoder: str
    decoder: str

    def check(self) -> None:
        check_codec(self.name, self.encoder, self.decoder)

    def route(self) -> str:
        names = dict.fromkeys((self.encoder, self.decoder))
        return f"FFmpeg's {' and '.join(names)} through PyAV"

    def version(self) -> str:
        return version()


def check_codec(codec: str, encoder: str, decoder: str) -> None:
    """Raise CodecMissing, naming `codec`, unless PyAV is here and has both the encoder and the decoder."""
    try:
        import av
        from av.codec.codec import UnknownCodecError
    except ImportError as error:
        raise CodecMissing(f"{codec}: PyAV cannot be imported ({error}); {INSTALL_HINT}") from error
    roles: tuple[tuple[str, Literal["r", "w"], str], ...] = (
        (encoder, "w", "encoder"),
        (decoder, "r", "decoder"),
    )
    for name, mode, role in roles:
        try:
            av.Codec(name, mode)
        except UnknownCodecError as error:
            raise CodecMissing(
                f"{codec}: the FFmpeg of PyAV {av.__version__} has no {role} {name!r}; {INSTALL_HINT}"
            ) from error


def version() -> str:
    """Name libavcodec's version and that of PyAV, whose wheel fixes the libraries inside it (LAME)."""
    import av

    return f"libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}, PyAV {av.__version__}"


def encode(
    encoder: str,
    samples: np.ndarray,
    rate: int,
    *,
    bit_rate: int | None = None,
    sample_format: str = "s16",
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Give the packets of int16 (T,) at `rate` Hz, T > 0, joined, with what the encoder adds at the end.

    `sample_format` is the one the encoder takes, s16 or s16p.  The samples are copied.
    """
    import av

    context = _context(encoder, "w", rate, options)
    context.format = sample_format
    if bit_rate is not None:
        context.bit_rate = bit_rate
    row = np.ascontiguousarray(samples, dtype=np.int16)[np.newaxis]
    frame = av.AudioFrame.from_ndarray(row, format=sample_format, layout="mono")
    frame.sample_rate = rate
    packets = context.encode(frame)
    packets += context.encode(None)
    return b"".join(bytes(packet) for packet in packets)


def decode(decoder: str, coded: bytes, rate: int, options: Mapping[str, str] | None = None) -> np.ndarray:
    """Give what the decoder makes of the joined packets: (T,) int16, or float32 from mp3float."""
    import av

    if not coded:
        return np.zeros(0, np.int16)
    context = _context(decoder, "r", rate, options)
    frames = context.decode(av.Packet(coded))
    frames += context.decode(None)
    parts = [
        np.frombuffer(memoryview(frame.planes[0]), SAMPLE_TYPES[frame.format.name], count=frame.samples)
        for frame in frames
    ]
    return np.concatenate(parts)


def _context(
    name: str, mode: Literal["r", "w"], rate: int, options: Mapping[str, str] | None
) -> AudioCodecContext:
    import av

    context = cast("AudioCodecContext", av.CodecContext.create(name, mode))
    context.sample_rate = rate
    context.layout = "mono"
    context.options = dict(options or {})
    return context
