"""Concealment of lost packets: closed forms, and a plain version that works frame by frame with the delay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import lfilter

from nest_ssl.telephone.plc import conceal, lost_runs, silence
from nest_ssl.telephone.resample import resample


def voiced(num_samples: int, seed: int = 0) -> np.ndarray:
    """Give int16 (T,) like a vowel at 8 kHz: pulses of a wandering pitch through two resonances."""
    rng = np.random.default_rng(seed)
    hertz = 130 + 20 * np.sin(2 * np.pi * 1.3 * np.arange(num_samples) / 8000)
    pulses = np.diff(np.floor(np.cumsum(hertz / 8000)), prepend=0.0) + 0.01 * rng.standard_normal(num_samples)
    for formant in (500, 1500):
        pole = 0.96 * np.exp(2j * np.pi * formant / 8000)
        pulses = lfilter([1.0], [1.0, -2 * pole.real, abs(pole) ** 2], pulses)
    return np.rint(pulses / np.abs(pulses).max() * 20000).astype(np.int16)


def periodic(num_samples: int, period: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.resize(rng.integers(-20000, 20000, period), num_samples).astype(np.int16)


def level_after(num_samples: int, rate: int = 8000) -> np.ndarray:
    """Give the factor of each sample lost: 1 for 10 ms, then 20 % less every 10 ms, 0 from 60 ms on."""
    step = rate // 100
    return np.clip(1 - 0.2 * (np.arange(1, num_samples + 1) - step) / step, 0, 1)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("period_ms", [5.0, 7.125, 10.0, 14.875, 15.0])
@pytest.mark.parametrize("num_lost", [1, 2, 3, 5])
def test_a_periodic_signal_goes_on_and_fades(rate, period_ms, num_lost):
    frame = rate // 50
    signal = periodic(20 * frame, round(period_ms * rate / 1000))
    lost = np.zeros(20, bool)
    lost[8 : 8 + num_lost] = True
    filled = conceal(signal, lost, frame, rate)
    start, end = 8 * frame, (8 + num_lost) * frame
    np.testing.assert_array_equal(filled[:start], signal[:start])
    expected = signal[start:end] * level_after(end - start, rate)
    np.testing.assert_allclose(filled[start:end], expected, atol=1)
    assert not filled[start + 6 * rate // 100 : end].any()
    np.testing.assert_array_equal(filled[end + rate // 100 :], signal[end + rate // 100 :])


class FrameByFrame:
    """Appendix I as the recommendation tells it: frames of 10 ms in, frames 3.75 ms later out."""

    def __init__(self) -> None:
        self.history = np.zeros(390)
        self.erased = 0

    def take(self, frame: np.ndarray, erased: bool) -> np.ndarray:
        if not erased:
            frame = frame.astype(float)
            if self.erased:
                overlap = min(self.pitch // 4 + 32 * (self.erased - 1), 80)
                goes = self.speech(overlap) * self.gains(overlap)
                for n in range(overlap):
                    share = (n + 1) / (overlap + 1)
                    frame[n] = (1 - share) * goes[n] + share * frame[n]
            self.erased = 0
        else:
            if self.erased == 0:
                self.begin()
                frame = self.speech(80)
            elif self.erased < 3:
                position = self.position
                goes = self.speech(len(self.rise))
                self.position = position
                self.use_periods(self.erased + 1)
                frame = self.speech(80)
                frame[: len(self.rise)] += (goes - frame[: len(self.rise)]) * (1 - self.rise)
            else:
                frame = self.speech(80)
            frame = frame * self.gains(80)
            self.erased += 1
        self.history = np.append(self.history[80:], np.rint(frame))
        return self.history[-110:-30]

    def begin(self) -> None:
        best = -np.inf
        for lag in range(40, 121):
            now, then = self.history[-160:], self.history[-160 - lag : -lag]
            likeness = now @ then / max(then @ then, 250.0) ** 0.5
            if likeness > best:
                best, self.pitch = likeness, lag
        self.rise = np.arange(1, self.pitch // 4 + 1) / (self.pitch // 4 + 1)
        self.kept = self.history.copy()
        self.position = 0
        self.use_periods(1)
        self.history[-len(self.rise) :] = np.rint(self.cycle[-len(self.rise) :])

    def use_periods(self, count: int) -> None:
        first, overlap = len(self.kept) - count * self.pitch, len(self.rise)
        self.cycle = self.kept[first:].copy()
        self.cycle[-overlap:] *= 1 - self.rise
        self.cycle[-overlap:] += self.rise * self.kept[first - overlap : first]
        self.position %= self.pitch

    def speech(self, count: int) -> np.ndarray:
        out = np.array([self.cycle[(self.position + n) % len(self.cycle)] for n in range(count)])
        self.position += count
        return out

    def gains(self, count: int) -> np.ndarray:
        return level_after(80 * self.erased + count)[80 * self.erased :]


@pytest.mark.parametrize("seed", range(4))
def test_the_delayed_version_frame_by_frame_gives_the_same(seed):
    rng = np.random.default_rng(seed)
    signal = voiced(8000, seed)
    lost = rng.random(50) < 0.3
    lost[:3] = seed == 1
    plain = FrameByFrame()
    frames = zip(signal.reshape(-1, 80), np.repeat(lost, 2), strict=True)
    delayed = np.concatenate([plain.take(frame, erased) for frame, erased in frames])
    np.testing.assert_allclose(conceal(signal, lost, 160)[: 8000 - 30], delayed[30:], atol=1)


@given(
    frames=st.sampled_from([1, 7, 80, 160, 240]),
    signal=hnp.arrays(np.int16, st.integers(0, 1500), elements=st.integers(-32768, 32767)),
    data=st.data(),
)
def test_any_length_any_mask(frames, signal, data):
    lost = data.draw(hnp.arrays(bool, -(-len(signal) // frames)))
    other = data.draw(st.integers(-32768, 32767))
    before = signal.copy()
    filled = conceal(signal, lost, frames)
    assert filled.dtype == np.int16
    assert filled.shape == signal.shape
    np.testing.assert_array_equal(signal, before)
    lost_samples = np.repeat(lost, frames)[: len(signal)]
    near = lost_samples.copy()
    for start, end in lost_runs(lost, frames, len(signal)):
        near[max(0, start - 30) : end + 80] = True
    np.testing.assert_array_equal(filled[~near], signal[~near])
    # nothing of what was lost is heard
    unknown = np.where(lost_samples, np.int16(other), signal)
    np.testing.assert_array_equal(conceal(unknown, lost, frames), filled)


@settings(max_examples=30)
@given(lost=hnp.arrays(bool, 25), ahead=st.integers(0, 24))
def test_what_comes_later_changes_nothing_earlier(lost, ahead):
    signal = voiced(4000)
    later = signal.copy()
    later[ahead * 160 :] = 0
    known = max(0, ahead * 160 - 30)  # less the blend before a loss that begins there
    filled = conceal(signal, lost, 160)[:known]
    np.testing.assert_array_equal(conceal(later, lost, 160)[:known], filled)


def test_a_signal_may_end_anywhere_in_a_loss():
    signal = voiced(1200)
    lost = np.array([False, False, True, True, True, True, True, False])
    whole = conceal(signal, lost, 160)
    for length in range(321, 1121):
        filled = conceal(signal[:length], lost[: -(-length // 160)], 160)
        np.testing.assert_array_equal(filled, whole[:length])


def test_voiced_speech_keeps_its_level_in_a_lost_frame(speech):
    signal = np.rint(resample(speech, 16000, 8000) * 16384).astype(np.int16)
    power = np.square(signal[: len(signal) // 160 * 160].astype(float)).reshape(-1, 160).mean(axis=1)
    loud = power > np.quantile(power, 0.75)
    steady = np.flatnonzero(loud[:-2] & loud[1:-1] & loud[2:]) + 1
    steady = steady[np.diff(steady, prepend=-9) > 8]
    lost = np.zeros(-(-len(signal) // 160), bool)
    lost[steady] = True
    assert len(steady) > 20
    filled = conceal(signal, lost, 160)
    heard = np.array([np.mean(np.square(filled[i * 160 : (i + 1) * 160].astype(float))) for i in steady])
    change_db = 10 * np.log10(heard / power[steady])
    assert np.all(heard > 0)
    assert -6 < np.median(change_db) < 0.5  # the second half has faded by 0 to 20 %, -0.5 dB in the mean
    error = np.sum(np.square(filled.astype(float) - signal))
    muted = np.sum(np.square(silence(signal, lost, 160).astype(float) - signal))
    assert error < muted


def test_no_click_where_a_tone_is_lost_and_returns():
    tone = np.rint(12000 * np.sin(2 * np.pi * 130.7 * np.arange(8000) / 8000)).astype(np.int16)
    lost = np.zeros(50, bool)
    lost[[10, 20, 21, 30, 31, 32]] = True
    steepest = np.abs(np.diff(tone.astype(int))).max()
    assert np.abs(np.diff(conceal(tone, lost, 160).astype(int))).max() < 1.6 * steepest
    assert np.abs(np.diff(silence(tone, lost, 160).astype(int))).max() > 3 * steepest


def test_without_a_frame_before_there_is_silence_and_then_a_rise():
    signal = np.full(800, 10000, np.int16)
    filled = conceal(signal, np.array([True, False, False, False, False]), 160)
    assert not filled[:160].any()
    # 10 + 32 samples: a quarter of the shortest pitch, 4 ms for the second step lost
    assert np.all(np.diff(filled[159:203].astype(int)) > 0)
    np.testing.assert_array_equal(filled[202:], signal[202:])


def test_all_lost_is_silence():
    assert not conceal(voiced(1000), np.ones(7, bool), 160).any()


def test_full_scale_does_not_wrap_around():
    square = np.resize(np.repeat([32767, -32768], 32), 8000).astype(np.int16)
    lost = np.zeros(50, bool)
    lost[[10, 11, 12, 30]] = True
    filled = conceal(square, lost, 160)
    assert np.all(filled.astype(float) * square >= 0)


def test_silence_is_zeros_in_the_lost_frames_only():
    signal = np.arange(1, 401, dtype=np.int16)
    filled = silence(signal, np.array([False, True, True]), 160)
    np.testing.assert_array_equal(filled, np.where(np.arange(400) < 160, signal, 0))


@pytest.mark.parametrize("function", [conceal, silence])
def test_a_mask_of_another_length_is_refused(function):
    with pytest.raises(ValueError, match=r"400 samples are 3 frames of 160; `lost` has shape \(2,\)"):
        function(np.zeros(400, np.int16), np.zeros(2, bool), 160)
