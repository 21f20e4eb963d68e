"""Active speech level as ITU-T P.56 method B defines it, and levels in dBov."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log10

import numpy as np
import scipy

TIME_CONSTANT_S = 0.03  # of both averages of the envelope
HANGOVER_S = 0.2  # speech counts as active for so long after the envelope has fallen below a threshold
MARGIN_DB = 15.9  # between the active level and the threshold that belongs to it
NUM_THRESHOLDS = 15  # 2**-15 ... 2**-1 of full scale, 6 dB apart
POINTS_PER_S, FEWEST_POINTS = 1000, 4000  # of the envelope


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
    result is the power over a(c) where it is 15.9 dB above c, interpolated in dB.  The envelope of a longer
    signal is taken once in a millisecond, which changes the level by less than 0.02 dB.
    """
    samples = np.asarray(samples)
    power = _sum_of_squares(samples)
    if len(samples) == 0 or power == 0.0:
        return ActiveLevel(-inf, 0.0)
    envelope, step = _envelope(samples, sample_rate)
    before = None
    for k, count in enumerate(_active_points(envelope, round(HANGOVER_S * sample_rate / step))):
        if count == 0:
            break
        level = _db(power / min(count * step, len(samples)))
        margin = level - _db(4.0 ** (k - NUM_THRESHOLDS)) - MARGIN_DB  # falls from threshold to threshold
        if margin <= 0 and before is not None:
            level = before[0] + before[1] / (before[1] - margin) * (level - before[0])
            return ActiveLevel(level, min(1.0, power / len(samples) / 10 ** (level / 10)))
        if margin <= 0:
            break
        before = (level, margin)
    return ActiveLevel(_db(power / len(samples)), 1.0)


def _envelope(samples: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """Give the envelope (N,) float64 and how many samples there are to each of its points."""
    sums, step = np.abs(samples), 1
    while 2 * step * POINTS_PER_S <= sample_rate and len(samples) >= step * FEWEST_POINTS:
        if len(sums) % 2:
            sums = np.append(sums, sums.dtype.type(0))
        sums, step = sums[0::2] + sums[1::2], 2 * step
    smooth = exp(-step / (TIME_CONSTANT_S * sample_rate))
    envelope = scipy.signal.lfilter(
        [(1 - smooth) ** 2 / step], [1.0, -2 * smooth, smooth**2], sums.astype(np.float64)
    )
    return envelope, step


def _active_points(envelope: np.ndarray, hangover: int) -> list[int]:
    """Give how many points are active at each threshold 2**-15 ... 2**-1."""
    recent = scipy.ndimage.maximum_filter1d(envelope, hangover + 1, mode="constant", origin=hangover // 2)
    # the exponent of a float says between which thresholds it lies: 1 from 2**-15 on, 15 from 2**-1 on
    exponent = (recent.view(np.int64) >> 52) - (1023 - NUM_THRESHOLDS - 1)
    reached = np.minimum(np.maximum(exponent, 0), NUM_THRESHOLDS)
    counts = np.bincount(reached, minlength=NUM_THRESHOLDS + 1)
    active: list[int] = counts[:0:-1].cumsum()[::-1].tolist()
    return active


def rms_dbov(samples: np.ndarray) -> float:
    """Give the level of all of (T,) float samples in dBov; -inf for none or for silence."""
    power = _sum_of_squares(np.asarray(samples)) / max(len(samples), 1)
    return _db(power) if power > 0 else -inf


def gain_from_db(gain_db: float) -> float:
    """Give the amplitude factor of a gain in dB."""
    return float(10.0 ** (gain_db / 20.0))


def _sum_of_squares(samples: np.ndarray) -> float:
    """Give the energy of (T,).  Not by BLAS, whose sums depend on the number of threads."""
    return float(np.add.reduce(np.square(samples)))  # in pairs: exact to 1e-6 at any length


def _db(power: float) -> float:
    return 10.0 * log10(power)
