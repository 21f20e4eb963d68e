"""Level after P.56, the G.712 band, sample rates."""

import numpy as np
import pytest
from scipy import signal

from nest_ssl.telephone.filters import g712_sections
from nest_ssl.telephone.level import active_level, rms_dbov
from nest_ssl.telephone.resample import converted_length, resample

RATE = 8000


def sine(level_dbov: float, seconds: float, hertz: float = 1015.7) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return 10 ** (level_dbov / 20) * np.sqrt(2) * np.sin(2 * np.pi * hertz * time)


def plain_active_level(samples: np.ndarray, rate: int) -> float:
    """P.56 method B written down as the recommendation does, sample by sample."""
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
    before = None
    for count, threshold in zip(active, thresholds, strict=True):
        if count == 0:
            break
        level, threshold_db = 10 * np.log10(power / count), 20 * np.log10(threshold)
        margin = level - threshold_db - 15.9
        if margin <= 0 and before:
            share = before[1] / (before[1] - margin)
            return before[0] + share * (level - before[0])
        before = (level, margin)
    return 10 * np.log10(power / len(samples))


def test_active_level_of_a_sine():
    # figures of the ITU-T G.191 speech voltmeter
    measured = active_level(sine(-26, 10), RATE)
    assert measured.level_dbov == pytest.approx(-25.99, abs=0.005)
    assert measured.activity == pytest.approx(0.998, abs=0.0005)


def test_pauses_do_not_count_but_200_ms_after_speech_do():
    measured = active_level(np.concatenate([sine(-26, 5), np.zeros(5 * RATE)]), RATE)
    assert measured.level_dbov == pytest.approx(-26.23, abs=0.005)
    assert measured.activity == pytest.approx(0.527, abs=0.0005)


def test_active_level_agrees_with_the_sample_by_sample_method(speech):
    samples = resample(speech, 16000, RATE)[: 4 * RATE].astype(float)
    assert active_level(samples, RATE).level_dbov == pytest.approx(
        plain_active_level(samples, RATE), abs=1e-6
    )


@pytest.mark.parametrize("length", [1, 2, 159])
def test_a_signal_too_short_for_pauses_has_its_rms_level(length):
    samples = np.full(length, 0.1)
    assert active_level(samples, RATE).level_dbov == pytest.approx(-20.0, abs=0.3)


def test_silence_has_no_level():
    assert active_level(np.zeros(RATE), RATE).level_dbov == -np.inf
    assert active_level(np.zeros(0), RATE).level_dbov == -np.inf
    assert rms_dbov(np.zeros(0)) == -np.inf


# Response of the G.712 filter of ITU-T G.191, dB re 1 kHz.
G712_DB = {100: -19.2, 125: -11.3, 160: -3.5, 200: -0.1, 250: 0.1, 300: -0.1, 315: -0.1, 400: -0.1, 500: -0.1}
G712_DB |= {630: -0.1, 800: -0.1, 1000: 0.0, 1250: 0.0, 1600: 0.1, 2000: 0.1, 2500: 0.2, 3000: 0.1, 3150: 0.1}
G712_DB |= {3400: 0.1, 3500: -0.5, 3600: -2.1}


def gain_db(hertz) -> np.ndarray:
    response = signal.sosfreqz(g712_sections(), worN=np.asarray([*np.atleast_1d(hertz), 1000.0]), fs=RATE)[1]
    decibels = 20 * np.log10(np.abs(response))
    return decibels[:-1] - decibels[-1]


@pytest.mark.parametrize("hertz", G712_DB)
def test_g712_follows_the_reference_filter(hertz):
    tolerance = 2.0 if hertz < 300 else 0.5
    assert gain_db(hertz)[0] == pytest.approx(G712_DB[hertz], abs=tolerance)


def test_g712_keeps_within_the_limits_of_a_channel():
    assert np.all(np.abs(gain_db(np.arange(300, 3401, 10))) <= 0.5)
    assert np.all(gain_db(np.arange(1, 126)) <= -10)
    assert gain_db(3900)[0] <= -12
    assert gain_db(3999)[0] <= -16


def test_g712_is_in_time_to_less_than_a_sample():
    hertz = np.arange(500, 3001, 10)
    response = signal.sosfreqz(g712_sections(), worN=hertz, fs=RATE)[1]
    phase = np.unwrap(np.angle(response))
    phase_delay = -phase / (2 * np.pi * hertz) * RATE
    group_delay = -np.gradient(phase, 2 * np.pi * hertz) * RATE
    assert abs(np.mean(phase_delay)) < 0.5
    assert abs(np.mean(group_delay)) < 0.7


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
