"""G.711, both laws, by tables that agree with the ITU-T reference for every input and code.

No encoder of the usual libraries does: soundfile, audioop and FFmpeg each differ from it on some ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from nest_ssl.telephone import comfort_noise, plc
from nest_ssl.telephone.codecs.base import check_choices

INPUTS = np.arange(-32768, 32768)  # every 16-bit sample, ascending: the order of the tables below
MU_LAW_BIAS = 33  # of a 14-bit magnitude; puts the segment borders on powers of two


@lru_cache
def a_law_encode_table() -> np.ndarray:
    """Give the code (65536,) uint8 of every int16 sample, -32768 first.

    Source: ITU-T G.711 table 1: 12 bits of magnitude (negative samples as their complement), a segment of
    the three highest bits, four bits within it; even bits inverted.
    """
    magnitude = np.where(INPUTS < 0, ~INPUTS, INPUTS) >> 4
    segment = np.maximum(_bit_length(magnitude) - 4, 0)
    within = (magnitude >> np.maximum(segment - 1, 0)) & 0x0F
    sign = np.where(INPUTS < 0, 0x00, 0x80)
    return ((sign | segment << 4 | within) ^ 0x55).astype(np.uint8)


@lru_cache
def a_law_decode_table() -> np.ndarray:
    """Give the sample (256,) int16 of every code: the middle of its interval."""
    code = np.arange(256) ^ 0x55
    segment, within = code >> 4 & 0x07, code & 0x0F
    step = 16 << np.maximum(segment - 1, 0)
    magnitude = (within + np.where(segment > 0, 16, 0)) * step + step // 2
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


@lru_cache
def mu_law_encode_table() -> np.ndarray:
    """Give the code (65536,) uint8 of every int16 sample, -32768 first.

    Source: ITU-T G.711 table 2: 13 bits of magnitude plus a bias of 33, cut at full scale; all bits inverted.
    """
    magnitude = (np.where(INPUTS < 0, ~INPUTS, INPUTS) >> 2) + MU_LAW_BIAS
    magnitude = np.minimum(magnitude, 0x1FFF)
    segment = _bit_length(magnitude) - 6
    within = magnitude >> (segment + 1) & 0x0F
    sign = np.where(INPUTS < 0, 0x80, 0x00)
    return (~(sign | segment << 4 | within) & 0xFF).astype(np.uint8)


@lru_cache
def mu_law_decode_table() -> np.ndarray:
    """Give the sample (256,) int16 of every code: the middle of its interval."""
    code = ~np.arange(256) & 0xFF
    segment, within = code >> 4 & 0x07, code & 0x0F
    magnitude = (((2 * within + MU_LAW_BIAS) << segment) - MU_LAW_BIAS) * 4
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


class _Law:
    """Both directions in one table look-up; lost packets are concealed as G.711 Appendix I describes.

    With `dtx`, pauses are not sent and the receiver fills them with comfort noise (RFC 3389).
    """

    name: str
    sample_rate = 8000
    frame_samples = 160
    delay_samples = 0.0
    choices: Mapping[str, tuple[Any, ...]] = {"dtx": (False, True), "concealment": ("codec", "zeros")}

    def __init__(self) -> None:
        self._round_trip: np.ndarray | None = None

    def check(self) -> None:
        """Return: the tables are always here."""

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        check_choices(self, parameters)

    def route(self) -> str:
        return "own tables"

    def version(self) -> str:
        return f"nest_ssl g711 tables 1 plc {plc.VERSION} cn {comfort_noise.VERSION}"

    def encode_decode(
        self, samples: np.ndarray, parameters: Mapping[str, Any], lost: np.ndarray | None = None
    ) -> np.ndarray:
        if self._round_trip is None:
            encode, decode = self.tables()
            # indexed by the sample's own bits, so that no offset has to be added to the signal
            self._round_trip = np.roll(decode[encode], 32768)
        index = samples.astype(np.int16, copy=False).view(np.uint16)
        decoded = self._round_trip.take(index, mode="wrap")  # twice as fast as with bounds checked
        if parameters.get("dtx", False):
            decoded, lost = comfort_noise.suppress_silence(samples, decoded, lost)
        if lost is None or not lost.any():
            return decoded
        if parameters.get("concealment") == "zeros":
            return plc.silence(decoded, lost, self.frame_samples)
        return plc.conceal(decoded, lost, self.frame_samples)

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


class ALaw(_Law):
    """G.711 A-law, 64 kbit/s: Europe, China, every international line."""

    name = "g711a"

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        return a_law_encode_table(), a_law_decode_table()


class MuLaw(_Law):
    """G.711 mu-law, 64 kbit/s: North America and Japan."""

    name = "g711u"

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        return mu_law_encode_table(), mu_law_decode_table()


def _bit_length(values: np.ndarray) -> np.ndarray:
    return np.frexp(values.astype(np.float64))[1]
