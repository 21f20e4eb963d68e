"""Changes of the sample rate keep length, time and band."""

import numpy as np
import pytest
import soxr
from scipy import signal

from nest_ssl.telephone.resample import converted_length, resample

RATE = 8000


@pytest.mark.parametrize(
    ("length", "rate", "new_rate", "expected"),
    [(16000, 16000, 8000, 8000), (3, 16000, 8000, 2), (1, 8000, 16000, 2), (44100, 44100, 16000, 16000),
     (11025, 11025, 16000, 16000), (0, 8000, 16000, 0), (160, 16000, 16000, 160)],
)  # fmt: skip
def test_resampled_length_is_rounded_duration(length, rate, new_rate, expected):
    assert converted_length(length, rate, new_rate) == expected
    assert resample(np.zeros(length, np.float32), rate, new_rate).shape == (expected,)


def test_upsampling_adds_nothing_above_4_khz():
    noise = np.random.default_rng(1).standard_normal(RATE * 4).astype(np.float32) * 0.1
    wide = resample(noise, RATE, 16000)
    spectrum = np.abs(np.fft.rfft(wide * np.hanning(len(wide)))) ** 2
    above = np.fft.rfftfreq(len(wide), 1 / 16000) > 4000
    assert 10 * np.log10(spectrum[above].sum() / spectrum.sum()) < -60


def test_up_and_down_again_keeps_speech(speech):
    narrow = resample(speech, 16000, RATE)
    again = resample(resample(narrow, RATE, 16000), 16000, RATE)
    hertz, before = signal.welch(narrow, RATE, nperseg=512)
    after = signal.welch(again, RATE, nperseg=512)[1]
    assert np.max(np.abs(10 * np.log10(after / before)[hertz < 3600])) < 0.05
    low = signal.butter(8, 3500, fs=RATE, output="sos")  # only the edge of the band is lost
    kept, lost = signal.sosfilt(low, narrow), signal.sosfilt(low, again - narrow)
    assert 10 * np.log10(np.sum(kept**2) / np.sum(lost**2)) > 45


@pytest.mark.parametrize("rates", [(16000, 8000), (8000, 16000), (44100, 8000), (11025, 16000)])
def test_a_resampler_that_is_used_again_forgets_what_it_had(rates):
    rng = np.random.default_rng(3)
    for length in (4000, 1, 159, 40001, 2, 4000):
        samples = rng.standard_normal(length).astype(np.float32)
        once = soxr.resample(samples, *rates, "HQ")
        expected = np.zeros(converted_length(length, *rates), np.float32)
        n = min(len(once), len(expected))
        expected[:n] = once[:n]
        np.testing.assert_array_equal(resample(samples, *rates), expected)
