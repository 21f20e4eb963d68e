"""Active speech level as ITU-T P.56 defines it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.telephone.level import FEWEST_POINTS, active_level, gain_from_db, rms_dbov
from nest_ssl.telephone.resample import resample

RATE = 8000


def sine(level_dbov: float, seconds: float, hertz: float = 1015.7) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return 10 ** (level_dbov / 20) * np.sqrt(2) * np.sin(2 * np.pi * hertz * time)


def plain_active_level(samples: np.ndarray, rate: int) -> tuple[float, float]:
    """P.56 method B written down as the recommendation does, sample by sample: level and activity."""
    g = np.exp(-1 / (0.03 * rate))
    hangover = round(0.2 * rate)
    thresholds = [2.0**k for k in range(-15, 0)]
    active, silent = [0] * 15, [hangover] * 15
    p = q = 0.0
    for sample in samples:
        p = g * p + (1 - g) * abs(sample)
        q = g * q + (1 - g) * p
        for j, threshold in enumerate(thresholds):
            if q >= threshold:
                active[j], silent[j] = active[j] + 1, 0
            elif silent[j] < hangover:
                active[j], silent[j] = active[j] + 1, silent[j] + 1
    power = float(np.sum(np.square(samples)))
    overall = 10 * np.log10(power / len(samples))
    before = None
    for count, threshold in zip(active, thresholds, strict=True):
        if count == 0:
            break
        level, threshold_db = 10 * np.log10(power / count), 20 * np.log10(threshold)
        margin = level - threshold_db - 15.9
        if margin <= 0 and before:
            share = before[1] / (before[1] - margin)
            level = before[0] + share * (level - before[0])
            return level, min(1.0, 10 ** ((overall - level) / 10))
        if margin <= 0:
            break  # below the range of the method
        before = (level, margin)
    return overall, 1.0


def test_active_level_of_a_sine():
    # figures of the ITU-T G.191 speech voltmeter
    measured = active_level(sine(-26, 10), RATE)
    assert measured.level_dbov == pytest.approx(-25.99, abs=0.005)
    assert measured.activity == pytest.approx(0.998, abs=0.0005)


def test_pauses_do_not_count_but_200_ms_after_speech_do():
    measured = active_level(np.concatenate([sine(-26, 5), np.zeros(5 * RATE)]), RATE)
    assert measured.level_dbov == pytest.approx(-26.23, abs=0.005)
    assert measured.activity == pytest.approx(0.527, abs=0.0005)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_active_level_agrees_with_the_sample_by_sample_method(speech, rate):
    samples = resample(speech, 16000, rate)[: 2 * rate].astype(float)
    measured = active_level(samples, rate)
    level, activity = plain_active_level(samples, rate)
    # where the envelope is taken once in a millisecond, not once in a sample
    assert measured.level_dbov == pytest.approx(level, abs=0.02)
    assert measured.activity == pytest.approx(activity, abs=0.005)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 1800), st.floats(-100, 0)), min_size=1, max_size=5),
    st.sampled_from([8000, 16000]),
)
def test_bursts_of_any_level_and_length_agree_with_the_sample_by_sample_method(bursts, rate):
    rng = np.random.default_rng(len(bursts))
    samples = np.concatenate([10 ** (db / 20) * rng.uniform(-1, 1, length) for length, db in bursts])
    measured = active_level(samples, rate)
    level, activity = plain_active_level(samples, rate)
    tolerance = 1e-6 if len(samples) < FEWEST_POINTS else 0.02
    assert measured.level_dbov == pytest.approx(level, abs=tolerance)
    assert measured.activity == pytest.approx(activity, abs=tolerance / 4)


@pytest.mark.parametrize("length", [1, 2, 159])
def test_a_signal_too_short_for_pauses_has_its_rms_level(length):
    samples = np.full(length, 0.1)
    assert active_level(samples, RATE).level_dbov == pytest.approx(-20.0, abs=0.3)


def test_silence_has_no_level():
    assert active_level(np.zeros(RATE), RATE).level_dbov == -np.inf
    assert active_level(np.zeros(0), RATE).level_dbov == -np.inf
    assert rms_dbov(np.zeros(0)) == -np.inf
    assert rms_dbov(np.zeros(9)) == -np.inf


@pytest.mark.parametrize("target_dbov", [-38.0, -26.0, -16.0])
def test_the_gain_to_a_level_gives_that_level(speech, target_dbov):
    samples = resample(speech, 16000, RATE)
    gain = gain_from_db(target_dbov - active_level(samples, RATE).level_dbov)
    assert active_level(samples * gain, RATE).level_dbov == pytest.approx(target_dbov, abs=0.3)


def test_rms_level_is_that_of_a_full_scale_square_wave():
    assert rms_dbov(np.tile([1.0, -1.0], 100)) == pytest.approx(0.0, abs=1e-9)
    assert rms_dbov(sine(-20, 1).astype(np.float32)) == pytest.approx(-20.0, abs=0.01)
