"""The lag between a signal and what came of it, on signals shifted by known amounts."""

import numpy as np
import pytest
from scipy import fft

from nest_ssl.telephone.alignment import lag_samples, speech_like


@pytest.mark.parametrize("shift", [0, 1, 7, 40, 300])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_whole_shifts_are_found_both_ways(shift, rate):
    signal = speech_like(2.0, rate)
    late = np.concatenate([np.zeros(shift, np.float32), signal])[: len(signal)]
    assert lag_samples(signal, late, rate) == pytest.approx(shift, abs=0.02)
    assert lag_samples(late, signal, rate) == pytest.approx(-shift, abs=0.02)


@pytest.mark.parametrize("shift", [0.25, 0.5, 2.75])
def test_parts_of_a_sample_are_found(shift):
    signal = speech_like(2.0, 8000)
    spectrum = fft.rfft(signal, 2 * len(signal))
    turned = spectrum * np.exp(-2j * np.pi * fft.rfftfreq(2 * len(signal)) * shift)
    assert lag_samples(signal, fft.irfft(turned)[: len(signal)], 8000) == pytest.approx(shift, abs=0.06)


def test_silence_has_no_lag():
    assert np.isnan(lag_samples(np.zeros(100), np.zeros(100), 8000))
    assert np.isnan(lag_samples(np.zeros(0), np.zeros(0), 8000))


def test_the_test_signal_is_repeatable_and_within_half_scale():
    signal = speech_like(1.0, 8000)
    assert np.array_equal(signal, speech_like(1.0, 8000))
    assert np.abs(signal).max() == pytest.approx(0.5)
    assert len(speech_like(0.0, 8000)) == 0
