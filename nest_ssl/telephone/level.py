"""Active speech level as ITU-T P.56 method B defines it, and levels in dBov."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

TIME_CONSTANT_S = 0.03  # of both averages of the envelope
HANGOVER_S = 0.2  # speech counts as active for so long after the envelope has fallen below a threshold
MARGIN_DB = 15.9  # between the active level and the threshold that belongs to it
NUM_THRESHOLDS = 15  # 2**-15 ... 2**-1 of full scale, 6 dB apart


@dataclass(frozen=True)
class ActiveLevel:
    """`level_dbov`: power while active, dB re a full-scale square wave; -inf for silence.

    `activity`: share of the time that is active, 0 to 1.
    """

    level_dbov: float
    activity: float


def active_level(samples: np.ndarray, sample_rate: int) -> ActiveLevel:
    """Measure (T,) float samples in [-1, 1]; a signal too short to tell its pauses gets its rms level.

    Source: ITU-T P.56 (12/2011), method B.  The envelope is the magnitude averaged twice with 30 ms; for
    each threshold c the active time a(c) is what lies within 200 ms after the envelope was above it.  The
    result is the power over a(c) where it is 15.9 dB above c, interpolated in dB.  The hangover is a
    running maximum over the threshold number, which gives every a(c) in one pass.
    """
    power = float(np.sum(np.square(samples, dtype=np.float64)))
    if len(samples) == 0 or power == 0.0:
        return ActiveLevel(-np.inf, 0.0)
    smooth = np.exp(-1.0 / (TIME_CONSTANT_S * sample_rate))
    envelope = lfilter([(1 - smooth) ** 2], [1.0, -2 * smooth, smooth**2], np.abs(samples, dtype=np.float64))
    # frexp: 2**(exponent - 1) <= envelope < 2**exponent, so threshold 2**-k is reached if exponent > -k
    mantissa, exponent = np.frexp(envelope)
    exponent[mantissa == 0] = -NUM_THRESHOLDS
    reached = np.clip(exponent + NUM_THRESHOLDS, 0, NUM_THRESHOLDS).astype(np.uint8)
    hangover = round(HANGOVER_S * sample_rate)
    size = min(hangover, len(samples) - 1) + 1
    held = maximum_filter1d(reached, size, mode="constant", cval=0, origin=(size - 1) // 2)
    counts = np.bincount(held, minlength=NUM_THRESHOLDS + 1)
    active = np.cumsum(counts[::-1])[::-1][1:]  # active[i]: samples active at the threshold 2**(i - 15)
    overall = ActiveLevel(float(_db(power / len(samples))), 1.0)

    thresholds_db = 20 * np.log10(2.0) * np.arange(-NUM_THRESHOLDS, 0)
    levels_db = np.where(active > 0, _db(power / np.maximum(active, 1)), np.inf)
    above = levels_db - thresholds_db - MARGIN_DB  # falls from threshold to threshold; sought is its zero
    last = int(np.argmax(above <= 0)) if np.any(above <= 0) else 0
    if last == 0 or active[last] == 0:
        return overall
    share = above[last - 1] / (above[last - 1] - above[last])
    level = levels_db[last - 1] + share * (levels_db[last] - levels_db[last - 1])
    return ActiveLevel(float(level), float(min(1.0, power / len(samples) / 10 ** (level / 10))))


def rms_dbov(samples: np.ndarray) -> float:
    """Give the level of all of (T,) float samples in dBov; -inf for none or for silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return float(_db(power)) if power > 0 else -np.inf


def gain_from_db(gain_db: float) -> float:
    """Give the amplitude factor of a gain in dB."""
    return float(10.0 ** (gain_db / 20.0))


def _db(power: np.ndarray | float) -> np.ndarray:
    return 10.0 * np.log10(power)
