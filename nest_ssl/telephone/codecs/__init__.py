"""Telephone codecs by name. A codec is a module of its own; the table here is the only list of them."""

from __future__ import annotations

from nest_ssl.telephone.codecs.adpcm import ImaAdpcm, VoxAdpcm
from nest_ssl.telephone.codecs.amrnb import AmrNarrowband, GsmEnhancedFullRate
from nest_ssl.telephone.codecs.amrwb import AmrWideband
from nest_ssl.telephone.codecs.base import Codec
from nest_ssl.telephone.codecs.g711 import ALaw, MuLaw
from nest_ssl.telephone.codecs.g722 import G722
from nest_ssl.telephone.codecs.g726 import G726
from nest_ssl.telephone.codecs.g729 import G729
from nest_ssl.telephone.codecs.g7231 import G7231
from nest_ssl.telephone.codecs.gsm import GsmFullRate
from nest_ssl.telephone.codecs.gsm_wav49 import GsmWav49
from nest_ssl.telephone.codecs.mp3 import Mp3
from nest_ssl.telephone.codecs.opus import OpusNarrowband
from nest_ssl.telephone.codecs.speex import SpeexNarrowband

_ALL: list[Codec] = [
    ALaw(),
    MuLaw(),
    GsmFullRate(),
    AmrNarrowband(),
    GsmEnhancedFullRate(),
    OpusNarrowband(),
    G726(),
    G7231(),
    G722(),
    G729(),
    AmrWideband(),
    SpeexNarrowband(),
    ImaAdpcm(),
    VoxAdpcm(),
    GsmWav49(),
    Mp3(),
]
CODECS: dict[str, Codec] = {codec.name: codec for codec in _ALL}


def codec(name: str) -> Codec:
    """Give the codec of that name; ValueError with the known names for another."""
    if name not in CODECS:
        raise ValueError(f"unknown codec {name!r}; known are {', '.join(CODECS)}")
    return CODECS[name]
