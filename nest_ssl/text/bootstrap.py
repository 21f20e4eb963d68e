"""Bootstrap over utterances: how far an error rate, or the gap between two, would move with other utterances.

Where utterances belong together (those of one speaker), their counts are summed first and whole speakers are
drawn: utterances of one speaker are not independent, and intervals over utterances would be too narrow.
Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

ROUNDS = 10_000
LEVEL = 0.95
CHUNK_CELLS = 2_000_000  # weights held at a time: 16 MB
DRAWN_CELLS = 65_536  # draws counted at a time: what a core's own cache holds


def unit_numbers(labels: Sequence[str]) -> np.ndarray:
    """Give (N,) int64: the same number, from 0, for the same label."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def summed_by_unit(counts: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Give (U, K) sums of (N, K) counts over the utterances of each of the U units; None: as they are."""
    if units is None:
        return counts
    kept, numbers = np.unique(units, return_inverse=True)
    found = np.zeros((len(kept), counts.shape[1]), dtype=counts.dtype)
    np.add.at(found, numbers, counts)
    return found


def resampled_rates(
    errors: np.ndarray,
    totals: np.ndarray,
    rounds: int,
    seed: int,
    advance: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Give (rounds, K) float64 rates of `rounds` draws of N utterances out of N, with replacement.

    errors, totals: (N, K) counts; a rate is the sum of the errors over the sum of the totals, NaN where that
    is 0.  All K columns see the same draws, so differences between columns are paired.
    advance: is told how many draws more are done, for a progress bar.
    """
    errors, totals = np.asarray(errors, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if errors.ndim != 2 or errors.shape != totals.shape or not len(errors):
        raise ValueError(f"errors {errors.shape} and totals {totals.shape} must be (N, K) with N > 0, alike")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    number = len(errors)
    generator = np.random.default_rng(seed)
    found = np.empty((rounds, errors.shape[1]))
    step = min(rounds, max(1, CHUNK_CELLS // number))
    held = np.empty((step, number))
    # columns that are alike, as the totals of systems on the same references, are summed once
    both, places = np.unique(np.concatenate([errors, totals], axis=1), axis=1, return_inverse=True)
    for start in range(0, rounds, step):
        weights = held[: min(step, rounds - start)]
        size = len(weights)
        _draw(weights, generator)
        top, bottom = np.split((weights @ both)[:, places.ravel()], 2, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[start : start + size] = np.where(bottom > 0, top / bottom, np.nan)
        if advance is not None:
            advance(size)
    return found


def _draw(weights: np.ndarray, generator: np.random.Generator) -> None:
    """Fill (rounds, N) float64 with how often each draw of N out of N has each."""
    rounds, number = weights.shape
    step = max(1, DRAWN_CELLS // number)
    for start in range(0, rounds, step):
        part = weights[start : start + step]
        drawn = generator.integers(0, number, part.shape)
        if len(part) > 1:
            drawn += number * np.arange(len(part))[:, None]
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)


def intervals(rates: np.ndarray, level: float = LEVEL) -> list[tuple[float, float]]:
    """Give the interval of each column of resampled values (rounds, K), see `interval`."""
    columns, bounds = rates.T, np.full((rates.shape[1], 2), np.nan)
    levels = [(1 - level) / 2, (1 + level) / 2]
    whole = ~np.isnan(columns).any(axis=1)
    if whole.any():
        bounds[whole] = np.quantile(columns[whole], levels, axis=1).T
    for i in np.flatnonzero(~whole):
        known = columns[i][~np.isnan(columns[i])]
        if len(known):
            bounds[i] = np.quantile(known, levels)
    return [(float(low), float(high)) for low, high in bounds]


def interval(rates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Give the percentile interval of resampled values (rounds,); draws without a unit, NaN, are left out."""
    return intervals(rates[:, None], level)[0]


def paired_p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Give the two-sided p-value of "a and b are equally good", from rates (rounds,) of the same draws.

    Twice the share of the draws in which the difference has the rarer sign, ties counted as both, with one
    draw added: at least 2 / (rounds + 1), at most 1.
    """
    difference = a - b
    difference = difference[~np.isnan(difference)]
    rarer = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
    return float(min(1.0, 2 * (rarer + 1) / (len(difference) + 1)))


def permutation_p_value(differences: np.ndarray, rounds: int, seed: int) -> float:
    """Give the two-sided p-value of "in each utterance the two systems may as well be swapped".

    differences: (N,) errors of one system less those of the other, on the same references.  Each draw swaps
    the two systems in a random half of the utterances; p is the share of the draws in which the sum of the
    differences lies as far from 0 as the one found, with the one found added: at least 1 / (rounds + 1).
    Where there are no more than `rounds` ways to swap, each is taken once and p is exact.
    Source: paired randomisation test (Fisher 1935; Noreen 1989, "Computer-intensive methods for testing
    hypotheses"); it asks what the matched-pairs test of Gillick and Cox (1989) asks, without a normal law.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim != 1:
        raise ValueError(f"differences {differences.shape} must be (N,)")
    changed = differences[differences != 0]
    if not len(changed):
        return 1.0
    number = len(changed)
    seen = abs(changed.sum()) - 1e-9  # sums of whole numbers
    if number < 63 and 2**number <= rounds:
        ways = np.arange(2**number)[:, None] >> np.arange(number) & 1
        return float(np.mean(np.abs((1 - 2 * ways) @ changed) >= seen))
    # utterances whose difference is of one size are swapped together: how many of them is binomial
    sizes, counts = np.unique(np.abs(changed), return_counts=True)
    generator = np.random.default_rng([seed, 1])  # not the draws of the intervals
    swapped = generator.binomial(counts, 0.5, (rounds, len(sizes)))
    sums = (counts - 2 * swapped) @ sizes
    return float((np.count_nonzero(np.abs(sums) >= seen) + 1) / (rounds + 1))
