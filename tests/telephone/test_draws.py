"""Settings that are drawn: values, intervals, cut normal distributions, weights."""

import numpy as np
import pytest

from nest_ssl.telephone.draws import check_draw, check_keys, draw, weighted


def draws(setting, count: int = 4000) -> list:
    rng = np.random.default_rng(3)
    return [draw(rng, setting) for _ in range(count)]


@pytest.mark.parametrize("value", [-26.0, 3, True, "irs", None])
def test_a_plain_value_is_itself(value):
    assert draws(value, 1) == [value]


def test_an_interval_is_drawn_uniformly_to_four_decimals():
    values = draws({"min": 8, "max": 35})
    assert np.mean(values) == pytest.approx(21.5, abs=0.4)  # 3 sigma
    assert np.std(values) == pytest.approx(27 / np.sqrt(12), abs=0.25)
    assert min(values) >= 8
    assert max(values) <= 35
    assert all(value == round(value, 4) for value in values)


def test_a_normal_distribution_is_cut_at_both_ends():
    values = np.array(draws({"mean": -26, "deviation": 4, "min": -30, "max": -16}))
    assert np.mean(values == -30) == pytest.approx(0.1587, abs=0.02)  # one deviation below the mean
    assert values.max() <= -16
    assert np.median(values) == pytest.approx(-26, abs=0.25)


def test_weights_are_shares():
    values = draws({12.2: 0.5, 7.4: 0.3, 4.75: 0.2, 5.9: 0.0})
    for value, share in ((12.2, 0.5), (7.4, 0.3), (4.75, 0.2), (5.9, 0.0)):
        assert values.count(value) / 4000 == pytest.approx(share, abs=0.025)


def test_weights_of_true_and_false_give_these():
    assert set(draws({True: 0.5, False: 0.5}, 50)) == {True, False}


def test_the_last_value_is_drawn_when_rounding_leaves_nothing_below():
    class Highest:
        def random(self) -> float:
            return np.nextafter(1.0, 0.0)

    assert weighted(Highest(), {"a": 0.1, "b": 0.7, "c": 0.2, "d": 0.0}) == "c"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"min": 3, "max": 1}, "here: min 3 lies above max 1"),
        ({"min": 3, "max": "x"}, "here.max: must be a number, not 'x'"),
        ({"min": 3}, "here: an interval needs the keys min and max"),
        ({"min": -1, "max": 3}, "here.min: must lie within 0 and 10, not -1"),
        ({"mean": 2, "deviation": -1, "min": 1, "max": 3}, "here.deviation: must lie within 0 and inf"),
        ({1: 0.5, 2: 0.4}, "here: the weights sum to 0.9, which must be 1"),
        ({1: 1.5, 2: -0.5}, "here.2: must lie within 0 and inf, not -0.5"),
        ({11: 1.0}, "here: must lie within 0 and 10, not 11"),
        ({}, "here: an interval needs|here: must give weights"),
        (True, "here: must be a number, not True"),
        (float("nan"), "here: must be a number, not nan"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(setting, said):
    with pytest.raises(ValueError, match=said):
        check_draw(setting, "here", 0.0, 10.0)


@pytest.mark.parametrize("setting", ["flot", {"irs": 0.5, "flot": 0.5}, True])
def test_a_word_that_is_not_allowed_is_refused_with_those_that_are(setting):
    with pytest.raises(ValueError, match="here: must be one of irs, flat, 1, not "):
        check_draw(setting, "here", allowed=("irs", "flat", 1))


def test_an_unknown_key_is_refused_with_the_nearest_known():
    with pytest.raises(ValueError, match=r"noise\.snr: is not a known key; did you mean snr_db\?"):
        check_keys({"snr": 3}, ("probability", "snr_db"), "noise")


def test_a_key_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"noise\.snr_db: is missing"):
        check_keys({"probability": 1}, ("probability", "snr_db"), "noise")
