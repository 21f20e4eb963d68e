"""Telephone codecs by name. A codec is a module of its own; the table here is the only list of them."""

from __future__ import annotations

from nest_ssl.telephone.codecs.base import Codec
from nest_ssl.telephone.codecs.g711 import ALaw, MuLaw
from nest_ssl.telephone.codecs.gsm import GsmFullRate

CODECS: dict[str, Codec] = {codec.name: codec for codec in (ALaw(), MuLaw(), GsmFullRate())}


def codec(name: str) -> Codec:
    """Give the codec of that name; ValueError with the known names for another."""
    if name not in CODECS:
        raise ValueError(f"unknown codec {name!r}; known are {', '.join(CODECS)}")
    return CODECS[name]
