"""Filters of the telephone: handset weightings, tilt, high-pass and the channel filter of ITU-T G.712.

All are linear-phase FIR filters with their delay taken out, designed here once per process: by weighted least
squares from a table of decibels, and G.712, at 8 kHz only, from the magnitude of a recursive filter.

This room writes `import scipy` and scipy.signal.x: scipy loads its parts, a second's worth, when first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import scipy

from nest_ssl.telephone.draws import check_draw, check_keys, check_probability, draw, happens

RATE = 8000  # of G.712

TABLE_HZ = (
    *(100, 125, 160, 200, 250, 300, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3000, 3150, 3400),
    *(3500, 3600, 4000),
)
# dB re 1 kHz at TABLE_HZ: responses measured of the reference filters of ITU-T G.191 (facts, not its taps).
TABLES_DB = {
    "irs": (  # intermediate reference system, send, ITU-T P.48
        *(-42.6, -32.4, -22.5, -15.8, -11.2, -8.2, -7.4, -5.2, -3.3, -2.8, -1.5, 0, 0.8, 2.9, 3.6, 4.9, 4.6),
        *(4.9, 1.1, -3.6, -9.5, -33.4),
    ),
    "mirs": (  # modified IRS, send, ITU-T P.830: handsets without the loss of an old local line
        *(-28.1, -21.0, -13.5, -9.6, -6.6, -4.8, -4.6, -3.3, -2.6, -2.2, -1.2, 0, 1.4, 3.2, 3.6, 5.0, 5.7),
        *(5.8, 4.3, 3.4, 2.6, 0.2),
    ),
    "msin": (  # input of a mobile station
        *(-13.1, -9.4, -5.6, -2.7, -0.8, -0.1),
        *(0,) * 16,
    ),
    "mirs_receive": (  # modified IRS, receive
        *(-25.7, -20.3, -14.3, -9.3, -4.9, -2.2, -1.7, -0.2, *(0,) * 11, -0.2, -2.2, -73.0),
    ),
}
LOWEST_DB = -60.0  # the tables are continued at their last slopes down to this
SEND = ("irs", "mirs", "msin", "flat", "tilt")
RECEIVE = ("mirs",)

G712_HALF = 127  # taps to either side of the middle; what is cut off lies 70 dB below
HALF_LENGTH_S = 0.005  # of a filter: the shortest that keeps all tables within 0.5 dB from 300 to 3400 Hz
HIGH_PASS_HALF_LENGTH_S = 0.008
FLAT_BELOW_HZ, FLAT_ABOVE_HZ = 100.0, 8000.0  # a tilt ends there
HIGH_PASS_ORDER = 4  # 24 dB per octave, the response of a Butterworth filter
STEP_TILT_DB, STEP_EDGE_HZ = 0.25, 5.0  # draws are rounded to these, so that few filters are designed
DECIMALS = 9  # of the taps
BLOCK_SIZES = tuple(sorted(step << power for step in (4, 5, 6) for power in range(8, 15)))  # 1024 and above
LARGE_BLOCK = 8192  # samples in a transform of long signals
AT_ONCE = 4  # transforms that the library does side by side


def check_weighting(settings: Mapping[str, Any] | None, where: str) -> None:
    """Raise ValueError naming `where` unless these are settings of the send weighting, or None for none.

    {send: weights of irs, mirs, msin, flat, tilt; tilt_db_per_octave: {min, max}, needed for tilt}.
    """
    if settings is None:
        return
    check_keys(settings, ("send",), where, ("tilt_db_per_octave",))
    check_draw(settings["send"], f"{where}.send", allowed=SEND)
    if "tilt_db_per_octave" in settings:
        check_draw(settings["tilt_db_per_octave"], f"{where}.tilt_db_per_octave", -12.0, 12.0)
    elif settings["send"] == "tilt" or (isinstance(settings["send"], Mapping) and "tilt" in settings["send"]):
        raise ValueError(f"{where}.tilt_db_per_octave: is missing, and send may draw a tilt")


def draw_weighting(rng: np.random.Generator, settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give {"send": name}, for a tilt with its "tilt_db_per_octave"; None without settings."""
    if settings is None:
        return None
    drawn = {"send": draw(rng, settings["send"])}
    if drawn["send"] == "tilt":
        slope = float(draw(rng, settings["tilt_db_per_octave"]))
        drawn["tilt_db_per_octave"] = round(slope / STEP_TILT_DB) * STEP_TILT_DB
    return drawn


def apply_weighting(samples: np.ndarray, rate: int, drawn: Mapping[str, Any] | None) -> np.ndarray:
    """Filter (T,) float samples at `rate` with a drawn send weighting; gives float32 (T,), in time."""
    return apply_filters(samples, rate, weighting=drawn)


def check_high_pass(settings: Mapping[str, Any] | None, where: str) -> None:
    """Raise ValueError naming `where` unless these are {probability, edge_hz}, or None for none."""
    if settings is None:
        return
    check_keys(settings, ("probability", "edge_hz"), where)
    check_probability(settings["probability"], f"{where}.probability")
    check_draw(settings["edge_hz"], f"{where}.edge_hz", 20.0, 1000.0)


def draw_high_pass(rng: np.random.Generator, settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give {"edge_hz": ...}, where the filter is 3 dB down; None for no high-pass."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    edge = float(draw(rng, settings["edge_hz"]))
    return {"edge_hz": round(edge / STEP_EDGE_HZ) * STEP_EDGE_HZ}


def apply_high_pass(samples: np.ndarray, rate: int, drawn: Mapping[str, Any] | None) -> np.ndarray:
    """Filter (T,) float samples at `rate` with a drawn high-pass; gives float32 (T,), in time."""
    return apply_filters(samples, rate, high_pass=drawn)


def check_receive(settings: Mapping[str, Any] | None, where: str) -> None:
    """Raise ValueError naming `where` unless these are {probability, weighting: mirs}, or None for none."""
    if settings is None:
        return
    check_keys(settings, ("probability",), where, ("weighting",))
    check_probability(settings["probability"], f"{where}.probability")
    check_draw(settings.get("weighting", RECEIVE[0]), f"{where}.weighting", allowed=RECEIVE)


def draw_receive(rng: np.random.Generator, settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give {"weighting": "mirs"} for a receiving handset; None for none."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    return {"weighting": draw(rng, settings.get("weighting", RECEIVE[0]))}


def apply_receive(samples: np.ndarray, rate: int, drawn: Mapping[str, Any] | None) -> np.ndarray:
    """Filter (T,) float samples at `rate` with a drawn receive weighting; gives float32 (T,), in time."""
    return apply_filters(samples, rate, receive=drawn)


def apply_filters(
    samples: np.ndarray,
    rate: int,
    weighting: Mapping[str, Any] | None = None,
    high_pass: Mapping[str, Any] | None = None,
    receive: Mapping[str, Any] | None = None,
    g712: bool | None = None,
) -> np.ndarray:
    """Filter (T,) float samples at `rate` with all that is given, as one filter; gives float32 (T,).

    Raises ValueError for g712 at another rate than 8 kHz.
    """
    parts = []
    if weighting is not None and weighting["send"] != "flat":
        parts.append((weighting["send"], float(weighting.get("tilt_db_per_octave", 0.0))))
    if high_pass is not None:
        parts.append(("high_pass", float(high_pass["edge_hz"])))
    if receive is not None:
        parts.append((f"{receive['weighting']}_receive", 0.0))
    if g712:
        parts.append(("g712", 0.0))
    samples = np.asarray(samples, np.float32)
    if not parts:
        return samples
    combined = _combined(tuple(parts), rate)
    return convolve(samples, combined, len(combined.taps) // 2)


def weighting_response(name: str, rate: int, hertz: np.ndarray, value: float = 0.0) -> np.ndarray:
    """Give the response, dB re 1 kHz, that the filter `name` has at the frequencies `hertz`.

    name: irs, mirs, msin, mirs_receive, flat, g712 (8 kHz only), tilt (`value`: dB per octave) or high_pass
    (`value`: its edge in Hz).  ValueError for another name.
    """
    hertz = np.asarray(hertz, float)
    if name == "flat":
        return np.zeros(len(hertz))
    if name == "g712":
        ends = scipy.signal.sosfreqz(g712_sections(), np.append(hertz, 1000.0), fs=RATE)[1]
        decibels = 20 * np.log10(np.maximum(np.abs(ends), 1e-9))
        return decibels[:-1] - decibels[-1]
    return 20 * np.log10(np.maximum(np.abs(_response(fir(name, rate, value), rate, hertz)), 1e-9))


@lru_cache(maxsize=512)
def fir(name: str, rate: int, value: float = 0.0) -> np.ndarray:
    """Give the taps (2 * half + 1,) float64, symmetric, of a filter that is 0 dB at 1 kHz (g712: -0.4 dB).

    Weighted least squares over the wanted response: below 100 Hz and above 3400 Hz, where no tolerance
    holds, errors count less.
    """
    if name == "g712":
        if rate != RATE:
            raise ValueError(f"the filter of G.712 is for {RATE} Hz, not {rate}")
        return _g712_taps()
    if rate < RATE:
        raise ValueError(f"telephone filters need a sample rate of {RATE} Hz or more, not {rate}")
    hertz = np.concatenate([np.arange(0.0, 400.0, 4.0), np.arange(400.0, rate / 2 + 1, 20.0)])
    wanted = 10 ** (target_db(name, hertz, value) / 20)
    importance = 1 / np.maximum(wanted, 10 ** (-45 / 20))  # so that errors are alike in dB
    importance[hertz < 400] *= np.sqrt(4 / 20)  # the grid is finer there
    importance[hertz < 100] *= 0.3
    importance[hertz > 3400] = np.minimum(importance[hertz > 3400], 10.0)
    half = round((HIGH_PASS_HALF_LENGTH_S if name == "high_pass" else HALF_LENGTH_S) * rate)
    cosines = np.cos(2 * np.pi / rate * np.outer(hertz, np.arange(half + 1)))
    cosines[:, 1:] *= 2
    right = np.linalg.lstsq(cosines * importance[:, None], wanted * importance, rcond=None)[0]
    taps = np.concatenate([right[:0:-1], right])
    if name != "high_pass":
        taps = taps / _response(taps, rate, np.array([1000.0]))
    taps = np.round(taps, DECIMALS)  # or the number of BLAS threads would show in the last bits
    taps.setflags(write=False)
    return taps


def target_db(name: str, hertz: np.ndarray, value: float = 0.0) -> np.ndarray:
    """Give what a filter should do at the frequencies `hertz`, in dB; tables are read on a log axis."""
    octaves = np.log2(np.maximum(hertz, 1.0))
    if name == "tilt":
        return value * np.clip(
            octaves - np.log2(1000), *np.log2([FLAT_BELOW_HZ / 1000, FLAT_ABOVE_HZ / 1000])
        )
    if name == "high_pass":
        ratio = value / np.maximum(hertz, 1.0)
        return np.maximum(-10 * np.log10(1 + ratio ** (2 * HIGH_PASS_ORDER)), LOWEST_DB)
    if name not in TABLES_DB:
        raise ValueError(f"there is no filter {name!r}; known are {', '.join(TABLES_DB)}, tilt, high_pass")
    table_octaves, table = np.log2(TABLE_HZ), np.array(TABLES_DB[name], float)
    decibels = np.interp(octaves, table_octaves, table)
    below, above = octaves < table_octaves[0], octaves > table_octaves[-1]
    first, last = np.diff(table)[[0, -1]] / np.diff(table_octaves)[[0, -1]]
    decibels[below] += first * (octaves[below] - table_octaves[0])
    decibels[above] += min(last, 0.0) * (octaves[above] - table_octaves[-1])
    return np.maximum(decibels, LOWEST_DB)


class BlockFilter:
    """Taps (K,) and their spectra at the block sizes in use."""

    def __init__(self, taps: np.ndarray) -> None:
        self.taps = taps.astype(np.float32)
        self._spectra: dict[int, np.ndarray] = {}

    def spectrum(self, size: int) -> np.ndarray:
        """Give complex64 (size // 2 + 1,)."""
        if size not in self._spectra:
            self._spectra[size] = scipy.fft.rfft(self.taps, size)
        return self._spectra[size]


def convolve(samples: np.ndarray, taps: BlockFilter, delay: int) -> np.ndarray:
    """Filter float32 (T,) by overlap-add; gives float32 (T,), `delay` samples earlier than causal.

    Four transforms are done in the time of two, so a short signal is cut into four blocks if it can; longer
    ones into blocks that the processor's cache holds.
    """
    length, num_taps = len(samples), len(taps.taps)
    if length == 0:
        return np.zeros(0, np.float32)
    size = _block_size(length + delay, num_taps)
    hop = size - num_taps + 1
    blocks = np.zeros((-(-(length + delay) // hop), size), np.float32)
    whole, rest = divmod(length, hop)
    blocks[:whole, :hop] = samples[: whole * hop].reshape(whole, hop)
    if rest:
        blocks[whole, :rest] = samples[whole * hop :]
    spectra = scipy.fft.rfft(blocks, axis=1, overwrite_x=True)
    spectra *= taps.spectrum(size)
    filtered = scipy.fft.irfft(spectra, size, axis=1, overwrite_x=True)
    filtered[1:, : num_taps - 1] += filtered[:-1, hop:]
    return filtered[:, :hop].reshape(-1)[delay : delay + length]


def _block_size(length: int, num_taps: int) -> int:
    """Give the size of the transforms for a result of `length` samples."""
    for size in BLOCK_SIZES:
        hop = size - num_taps + 1
        if hop >= num_taps and (AT_ONCE * hop >= length or size >= max(LARGE_BLOCK, 3 * num_taps)):
            return size
    return int(scipy.fft.next_fast_len(3 * num_taps, real=True))


@lru_cache(maxsize=256)
def _combined(parts: tuple[tuple[str, float], ...], rate: int) -> BlockFilter:
    """Give several filters in one, whose delay is half its length."""
    taps = np.ones(1)
    for name, value in parts:
        taps = np.convolve(taps, fir(name, rate, value))
    return BlockFilter(taps)


def _response(taps: np.ndarray, rate: int, hertz: np.ndarray) -> np.ndarray:
    """Give the real response of symmetric taps, their delay taken out."""
    half = len(taps) // 2
    return (
        taps[half] + 2 * np.cos(2 * np.pi / rate * np.outer(hertz, np.arange(1, half + 1))) @ taps[half + 1 :]
    )


@lru_cache
def g712_sections() -> np.ndarray:
    """Give the second-order sections (3, 6) of a channel filter within ITU-T G.712's limits, at 8 kHz.

    An own design: an elliptic high-pass (third order, 0.2 dB ripple, 40 dB down at 50 Hz) and a Chebyshev
    low-pass (second order; at 8 kHz the bilinear transform has its zeros at 4 kHz).  The orders and edges
    are those that come nearest to the response of the reference filter of ITU-T G.191 between 100 Hz and
    3.6 kHz (0.3 dB at most).
    """
    high = scipy.signal.ellip(3, 0.2, 40.0, 207.5, "high", fs=RATE, output="sos")
    low = scipy.signal.cheby1(2, 0.2, 3390.0, "low", fs=RATE, output="sos")
    return np.vstack([high, low])


def _g712_taps() -> np.ndarray:
    """Give the symmetric taps (2 * G712_HALF + 1,) with the magnitude of `g712_sections`.

    The phase of the recursive filter is left out: it would shift speech by half a sample, more or less by
    frequency.
    """
    size = 1 << 14
    magnitude = np.abs(scipy.signal.sosfreqz(g712_sections(), worN=scipy.fft.rfftfreq(size), fs=1.0)[1])
    response = scipy.fft.irfft(magnitude, size)
    return np.concatenate([response[-G712_HALF:], response[: G712_HALF + 1]])
