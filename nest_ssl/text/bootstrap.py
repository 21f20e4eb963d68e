"""Bootstrap over utterances: how far an error rate, or the gap between two, would move with other utterances.

Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (2004).
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10_000
LEVEL = 0.95
CHUNK_CELLS = 4_000_000  # weights held at a time: 32 MB


def resampled_rates(errors: np.ndarray, totals: np.ndarray, rounds: int, seed: int) -> np.ndarray:
    """Give (rounds, K) float64 rates of `rounds` draws of N utterances out of N, with replacement.

    errors, totals: (N, K) counts; a rate is the sum of the errors over the sum of the totals, NaN where that
    is 0.  All K columns see the same draws, so differences between columns are paired.
    """
    errors, totals = np.asarray(errors, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if errors.ndim != 2 or errors.shape != totals.shape or not len(errors):
        raise ValueError(f"errors {errors.shape} and totals {totals.shape} must be (N, K) with N > 0, alike")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    number = len(errors)
    generator = np.random.default_rng(seed)
    found = np.empty((rounds, errors.shape[1]))
    step = max(1, CHUNK_CELLS // number)
    both = np.concatenate([errors, totals], axis=1)
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        drawn = generator.integers(0, number, (size, number)) + number * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * number).reshape(size, number)
        top, bottom = np.split(weights.astype(np.float64) @ both, 2, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[start : start + size] = np.where(bottom > 0, top / bottom, np.nan)
    return found


def interval(rates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Give the percentile interval of resampled values (rounds,); draws without a unit, NaN, are left out."""
    known = rates[~np.isnan(rates)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Give the two-sided p-value of "a and b are equally good", from rates (rounds,) of the same draws.

    Twice the share of the draws in which the difference has the rarer sign, ties counted as both, with one
    draw added: at least 2 / (rounds + 1), at most 1.
    """
    difference = a - b
    difference = difference[~np.isnan(difference)]
    rarer = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
    return float(min(1.0, 2 * (rarer + 1) / (len(difference) + 1)))
