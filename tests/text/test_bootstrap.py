"""Resampled error rates, against the distribution that all resamples of a tiny set have and a known "
"formula."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from nest_ssl.text.bootstrap import interval, paired_p_value, resampled_rates


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
    np.testing.assert_array_equal(resampled_rates(errors, totals, 300, seed=7), whole)
    assert not np.array_equal(resampled_rates(errors, totals, 300, seed=8), whole)


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
