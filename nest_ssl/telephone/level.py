"""Active speech level as ITU-T P.56 method B defines it, and levels in dBov."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log10

import numpy as np
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
    result is the power over a(c) where it is 15.9 dB above c, interpolated in dB.
    """
    samples = np.asarray(samples)
    power = _sum_of_squares(samples)
    if len(samples) == 0 or power == 0.0:
        return ActiveLevel(-inf, 0.0)
    smooth = np.exp(-1.0 / (TIME_CONSTANT_S * sample_rate))
    envelope = lfilter([(1 - smooth) ** 2], [1.0, -2 * smooth, smooth**2], np.abs(samples).astype(np.float64))
    before = None
    for k, count in enumerate(_active_samples(envelope, round(HANGOVER_S * sample_rate)).tolist()):
        if count == 0:
            break
        level = _db(power / count)
        margin = level - _db(4.0 ** (k - NUM_THRESHOLDS)) - MARGIN_DB  # falls from threshold to threshold
        if margin <= 0 and before is not None:
            level = before[0] + before[1] / (before[1] - margin) * (level - before[0])
            return ActiveLevel(level, min(1.0, power / len(samples) / 10 ** (level / 10)))
        if margin <= 0:
            break
        before = (level, margin)
    return ActiveLevel(_db(power / len(samples)), 1.0)


def _active_samples(envelope: np.ndarray, hangover: int) -> np.ndarray:
    """Give how many samples are active at each threshold 2**-15 ... 2**-1, (15,) int64.

    The exponent of a float says between which thresholds it lies.  It changes seldom, so runs of one
    exponent are counted, each with the time that it stays active after its end, or until the next run.
    """
    # 1 from 2**-15 on, 15 from 2**-1 on
    exponent = (envelope.view(np.int64) >> 52) - (1023 - NUM_THRESHOLDS - 1)
    reached = np.clip(exponent, 0, NUM_THRESHOLDS).astype(np.int8)
    starts = np.concatenate([[0], np.flatnonzero(reached[1:] != reached[:-1]) + 1])
    above = reached[starts] > np.arange(NUM_THRESHOLDS)[:, None]  # (15, runs)
    ends = np.append(starts[1:], len(envelope))
    held = np.minimum(ends + hangover, len(envelope))
    # where the next run above the threshold starts, seen from each run
    following = np.full((NUM_THRESHOLDS, len(starts) + 1), len(envelope))
    following[:, :-1] = np.where(above, starts, len(envelope))
    following = np.minimum.accumulate(following[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return np.sum(np.where(above, np.minimum(held, following) - starts, 0), axis=1)


def rms_dbov(samples: np.ndarray) -> float:
    """Give the level of all of (T,) float samples in dBov; -inf for none or for silence."""
    power = _sum_of_squares(np.asarray(samples)) / max(len(samples), 1)
    return _db(power) if power > 0 else -inf


def gain_from_db(gain_db: float) -> float:
    """Give the amplitude factor of a gain in dB."""
    return float(10.0 ** (gain_db / 20.0))


def _sum_of_squares(samples: np.ndarray) -> float:
    """Give the energy of (T,).  Not by BLAS, whose sums depend on the number of threads."""
    samples = samples.astype(np.float64)
    return float(np.einsum("i,i->", samples, samples))


def _db(power: float) -> float:
    return 10.0 * log10(power)
