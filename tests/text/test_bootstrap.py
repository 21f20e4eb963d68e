"""Resampled error rates, against the distribution that all resamples of a tiny set have and a known "
"formula."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nest_ssl.text.bootstrap import (
    interval,
    intervals,
    paired_p_value,
    permutation_p_value,
    resampled_rates,
    summed_by_unit,
    unit_numbers,
)


def test_rates_have_the_distribution_of_all_resamples():
    errors, totals = np.array([[0], [2], [5]]), np.array([[4], [4], [10]])
    exact: dict[float, float] = {}
    for draw in itertools.product(range(3), repeat=3):  # each of the 27 is as likely
        rate = sum(errors[i, 0] for i in draw) / sum(totals[i, 0] for i in draw)
        exact[round(rate, 9)] = exact.get(round(rate, 9), 0) + 1 / 27
    rates = np.round(resampled_rates(errors, totals, 40_000, seed=3)[:, 0], 9)
    values, counts = np.unique(rates, return_counts=True)
    assert set(values) == set(exact)
    for value, count in zip(values, counts, strict=True):
        spread = math.sqrt(exact[value] * (1 - exact[value]) / 40_000)
        assert abs(count / 40_000 - exact[value]) < 4.5 * spread


def test_the_interval_of_coin_flips_is_that_of_the_binomial():
    number, share = 400, 0.3
    errors = (np.arange(number) < share * number).astype(int)[:, None]
    low, high = interval(resampled_rates(errors, np.ones_like(errors), 20_000, seed=1)[:, 0])
    spread = 1.959964 * math.sqrt(share * (1 - share) / number)
    assert (low, high) == (pytest.approx(share - spread, abs=0.004), pytest.approx(share + spread, abs=0.004))


def test_the_same_seed_gives_the_same_draws_and_chunks_do_not_matter(monkeypatch):
    errors = np.random.default_rng(0).integers(0, 5, (50, 2))
    totals = np.full((50, 2), 9)
    whole = resampled_rates(errors, totals, 300, seed=7)
    monkeypatch.setattr("nest_ssl.text.bootstrap.CHUNK_CELLS", 700)
    monkeypatch.setattr("nest_ssl.text.bootstrap.DRAWN_CELLS", 150)
    np.testing.assert_array_equal(resampled_rates(errors, totals, 300, seed=7), whole)
    assert not np.array_equal(resampled_rates(errors, totals, 300, seed=8), whole)


def test_intervals_of_columns_are_those_of_each_alone():
    rates = np.random.default_rng(0).random((101, 3))
    rates[::2, 1] = np.nan
    rates[:, 2] = np.nan
    found = intervals(rates)
    assert found[0] == pytest.approx(tuple(np.quantile(rates[:, 0], [0.025, 0.975])))
    assert found[1] == pytest.approx(tuple(np.quantile(rates[1::2, 1], [0.025, 0.975])))
    assert found[1] == interval(rates[:, 1])
    assert all(math.isnan(bound) for bound in found[2])


def test_columns_are_paired():
    errors = np.random.default_rng(0).integers(0, 9, (40, 1))
    totals = np.full((40, 1), 20)
    rates = resampled_rates(np.concatenate([errors, errors + 1], 1), np.repeat(totals, 2, 1), 500, seed=0)
    np.testing.assert_allclose(rates[:, 1] - rates[:, 0], 1 / 20)
    assert paired_p_value(rates[:, 0], rates[:, 1]) == pytest.approx(2 / 501)
    assert paired_p_value(rates[:, 0], rates[:, 0]) == 1.0


def test_p_values_of_equal_systems_are_spread_evenly():
    generator = np.random.default_rng(5)
    small = 0
    for seed in range(200):
        errors = generator.binomial(10, 0.3, (100, 2))
        rates = resampled_rates(errors, np.full((100, 2), 10), 300, seed)
        small += paired_p_value(rates[:, 0], rates[:, 1]) < 0.2
    assert 20 <= small <= 62  # 40 are expected, with a standard deviation of 5.7


def test_draws_without_a_unit_are_left_out():
    rates = resampled_rates(np.array([[1], [0]]), np.array([[2], [0]]), 1000, seed=0)[:, 0]
    assert np.isnan(rates).sum() == pytest.approx(250, abs=60)  # both draws are the empty one
    assert interval(rates) == (0.5, 0.5)
    nothing = resampled_rates(np.zeros((3, 1)), np.zeros((3, 1)), 10, seed=0)[:, 0]
    assert all(math.isnan(bound) for bound in interval(nothing))


@pytest.mark.parametrize("shape", [(0, 2), (3,)])
def test_shapes_that_are_no_counts_are_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        resampled_rates(np.zeros(shape), np.zeros(shape), 10, seed=0)


def test_the_interval_of_a_ratio_is_that_of_normal_theory():
    """Utterances of different lengths: the variance of a ratio of sums, by linearisation."""
    generator = np.random.default_rng(11)
    totals = generator.integers(5, 60, 2000)
    errors = generator.binomial(totals, 0.2)
    low, high = interval(resampled_rates(errors[:, None], totals[:, None], 4000, seed=0)[:, 0])
    rate = errors.sum() / totals.sum()
    spread = math.sqrt(((errors - rate * totals) ** 2).sum()) / totals.sum()
    assert (low - rate) / spread == pytest.approx(-1.96, abs=0.12)
    assert (high - rate) / spread == pytest.approx(1.96, abs=0.12)


def test_the_p_value_of_a_difference_is_that_of_normal_theory():
    difference = np.repeat([-1, 0, 1], [52, 810, 38])
    z = abs(difference.sum()) / math.sqrt((difference**2).sum())
    by_normal_law = math.erfc(z / math.sqrt(2))
    assert by_normal_law == pytest.approx(0.14, abs=0.001)
    errors = np.stack([np.ones(900), 1 + difference], axis=1)
    rates = resampled_rates(errors, np.full((900, 2), 10), 8000, seed=0)
    assert paired_p_value(rates[:, 0], rates[:, 1]) == pytest.approx(by_normal_law, abs=0.04)
    assert permutation_p_value(difference, 8000, seed=0) == pytest.approx(by_normal_law, abs=0.04)


def test_swaps_have_the_p_value_of_scipy():
    generator = np.random.default_rng(8)
    for number in (6, 9, 12):
        a, b = generator.integers(0, 6, (2, number))
        if (a == b).all():
            continue
        peer = stats.permutation_test(
            (a, b), lambda x, y: float(np.sum(x - y)), permutation_type="samples", n_resamples=np.inf
        )
        assert permutation_p_value(a - b, 5000, seed=0) == pytest.approx(peer.pvalue)  # all ways, once
        drawn = permutation_p_value(a - b, 2 ** np.count_nonzero(a - b) - 1, seed=0)
        assert drawn == pytest.approx(peer.pvalue, abs=0.12)
    many = generator.integers(-3, 4, 300)
    many[:40] = 1
    exact = stats.norm.sf(abs(many.sum()) / math.sqrt((many**2).sum())) * 2
    assert permutation_p_value(many, 20_000, seed=1) == pytest.approx(exact, abs=0.02)


def test_no_difference_at_all_has_the_p_value_1():
    assert permutation_p_value(np.zeros(5), 100, seed=0) == 1.0
    assert permutation_p_value(np.array([2, -2]), 100, seed=0) == 1.0
    with pytest.raises(ValueError, match=r"must be \(N,\)"):
        permutation_p_value(np.zeros((2, 2)), 100, seed=0)


def test_speakers_are_drawn_whole():
    """30 speakers who say one thing 20 times: the interval is that of 30 utterances, not of 600."""
    generator = np.random.default_rng(2)
    errors = generator.integers(0, 10, 30)
    units = unit_numbers([f"speaker {i}" for i in range(30) for _ in range(20)])
    spread = np.repeat(errors, 20)[:, None]
    totals = np.full((600, 1), 10)
    summed = summed_by_unit(spread, units)
    np.testing.assert_array_equal(summed[:, 0], 20 * errors)
    by_speaker = interval(resampled_rates(summed, summed_by_unit(totals, units), 4000, seed=0)[:, 0])
    of_thirty = interval(resampled_rates(errors[:, None], totals[:30], 4000, seed=0)[:, 0])
    by_utterance = interval(resampled_rates(spread, totals, 1000, seed=0)[:, 0])
    assert by_speaker == pytest.approx(of_thirty)
    assert (by_speaker[1] - by_speaker[0]) > 3 * (by_utterance[1] - by_utterance[0])
    assert summed_by_unit(spread, None) is spread
