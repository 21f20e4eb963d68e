"""Silence suppression of G.711: what counts as speech, what is described, what the receiver plays."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import signal
from scipy.linalg import solve_toeplitz

from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.comfort_noise import (
    describe,
    reflection_coefficients,
    speech_frames,
    suppress_silence,
    synthesise,
)
from nest_ssl.telephone.plc import conceal
from nest_ssl.telephone.resample import resample

SHAPES = {"white": [1.0], "low": [1.0, -0.9], "resonant": [1.0, -1.2, 0.8]}


def noise(num_samples: int, level_dbov: float, shape: str = "white", seed: int = 0) -> np.ndarray:
    """Give int16 (T,) of white noise through an all-pole filter."""
    coloured = signal.lfilter([1.0], SHAPES[shape], np.random.default_rng(seed).standard_normal(num_samples))
    return np.rint(coloured / coloured.std() * 32768 * 10 ** (level_dbov / 20)).astype(np.int16)


def dbov(samples: np.ndarray) -> float:
    return 20 * np.log10(samples.astype(float).std() / 32768)


def call(loud_frames: range, num_frames: int, shape: str = "low") -> np.ndarray:
    """Give int16 (T,): noise of -50 dBov with a loud tone in some frames."""
    samples = noise(num_frames * 160, -50.0, shape).astype(float)
    begin, end = loud_frames.start * 160, loud_frames.stop * 160
    samples[begin:end] += 5000 * np.sin(2 * np.pi * 330.3 * np.arange(end - begin) / 8000)
    return np.rint(samples).astype(np.int16)


def test_speech_is_held_for_160_ms_after_its_end():
    speech = speech_frames(call(range(20, 40), 80))
    np.testing.assert_array_equal(np.flatnonzero(speech), np.arange(20, 48))


def test_the_level_of_a_constant_does_not_count():
    offset = call(range(20, 40), 80) + np.int16(300)
    np.testing.assert_array_equal(np.flatnonzero(speech_frames(offset)), np.arange(20, 48))


def test_loud_noise_is_sent_as_speech_and_near_silence_is_not():
    assert speech_frames(noise(16000, -35.0)).all()
    assert not speech_frames(noise(16000, -70.0)).any()
    assert not speech_frames(np.zeros(16000, np.int16)).any()


def test_real_speech_is_sent_nearly_whole(speech):
    samples = np.rint(resample(speech, 16000, 8000) * 16384).astype(np.int16)
    samples = np.append(samples, np.zeros(16000, np.int16))
    samples += noise(len(samples), -60.0)
    sent = np.repeat(speech_frames(samples), 160)[: len(samples)]
    assert not sent[-14000:].any()
    kept = np.sum(np.square(samples[sent].astype(float))) / np.sum(np.square(samples.astype(float)))
    assert kept > 0.999


@pytest.mark.parametrize("shape", SHAPES)
def test_reflection_coefficients_are_those_of_the_normal_equations(shape):
    samples = noise(4000, -30.0, shape).astype(float)
    correlation = np.array([samples[lag:] @ samples[: len(samples) - lag] for lag in range(11)])
    for order in range(1, 11):
        predictor = solve_toeplitz(correlation[:order], -correlation[1 : order + 1])
        reflection = reflection_coefficients(correlation[None, : order + 1])[0]
        assert reflection[-1] == pytest.approx(predictor[-1], abs=1e-9)  # the last of every order


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level_dbov", [-30.0, -50.0, -65.0])
def test_noise_comes_back_with_its_level_and_spectrum(shape, level_dbov):
    samples = noise(32000, level_dbov, shape)
    levels, coefficients = describe(samples, np.arange(199, 200))
    heard, _ = synthesise(np.random.default_rng(1), levels[0], coefficients[0], 32000, np.zeros(10))
    assert dbov(heard) == pytest.approx(level_dbov, abs=1.3)  # 0.5 dB are the whole decibels sent
    before, after = (
        signal.welch(part.astype(float), 8000, nperseg=128)[1][2:-2] for part in (samples, heard)
    )
    difference_db = 10 * np.log10(after / before)
    assert np.sqrt(np.mean(difference_db**2)) < 2.5
    assert np.abs(difference_db).max() < 6


@pytest.mark.parametrize("shape", SHAPES)
def test_ffmpeg_describes_the_same_noise_alike(shape):
    samples = noise(12800, -50.0, shape)
    encoder = av.CodecContext.create("comfortnoise", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 8000, "mono", "s16"
    encoder.time_base = Fraction(1, 8000)
    encoder.open()
    payloads = []
    for begin in range(0, len(samples), encoder.frame_size):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + encoder.frame_size], "s16", "mono")
        frame.sample_rate, frame.pts = 8000, begin
        payloads += [np.frombuffer(bytes(packet), np.uint8) for packet in encoder.encode(frame)]
    theirs = np.median(payloads, axis=0)
    levels, coefficients = describe(samples, np.arange(7, 80, 8))
    assert np.median(levels) == pytest.approx(theirs[0], abs=1)
    np.testing.assert_allclose(np.median(coefficients, axis=0), theirs[1:], atol=12)


@pytest.mark.parametrize("law", ["g711a", "g711u"])
def test_speech_stays_as_coded_and_pauses_sound_like_before(law):
    samples = call(range(20, 40), 100)
    plain = codec(law).encode_decode(samples, {})
    heard = codec(law).encode_decode(samples, {"dtx": True})
    np.testing.assert_array_equal(heard[20 * 160 : 48 * 160], plain[20 * 160 : 48 * 160])
    for begin, end in ((2, 20), (48, 100)):
        pause = slice(begin * 160, end * 160)
        assert np.mean(heard[pause] == plain[pause]) < 0.2
        assert dbov(heard[pause]) == pytest.approx(-50.0, abs=1.5)
    np.testing.assert_array_equal(codec(law).encode_decode(samples, {"dtx": True}), heard)


def test_lost_frames_of_a_pause_are_not_missed_and_lost_speech_is_concealed():
    samples = call(range(20, 40), 100)
    speech = speech_frames(samples)
    lost = np.zeros(100, bool)
    lost[[3, 30, 31, 50, 60]] = (
        True  # 3, 50 and 60 were not sent: descriptions are frames 0, 8, 16; 48, 56, 64 ...
    )
    heard = codec("g711a").encode_decode(samples, {"dtx": True})
    with_loss = codec("g711a").encode_decode(samples, {"dtx": True}, lost)
    np.testing.assert_array_equal(with_loss, conceal(heard, lost & speech, 160))


def test_without_its_first_description_a_pause_is_a_loss():
    samples = call(range(20, 40), 100)
    lost = np.zeros(100, bool)
    lost[48] = True
    heard, concealed = suppress_silence(samples, samples, lost)
    np.testing.assert_array_equal(np.flatnonzero(concealed), np.arange(48, 56))
    assert dbov(heard[56 * 160 :]) == pytest.approx(-50.0, abs=1.5)


def test_a_later_description_lost_leaves_the_one_before_in_force():
    samples = noise(100 * 160, -50.0)
    quieter = samples[50 * 160 :]
    quieter[:] = quieter * 0.7  # 3 dB less, so that both are pauses
    lost = np.zeros(100, bool)
    lost[[56, 64]] = True
    heard, concealed = suppress_silence(samples, samples, lost)
    assert not concealed.any()
    assert dbov(heard[56 * 160 : 72 * 160]) == pytest.approx(-50.0, abs=1.2)
    assert dbov(heard[72 * 160 :]) == pytest.approx(-53.1, abs=1.2)


def test_a_pause_never_described_is_concealed_to_its_end():
    samples = noise(30 * 160, -50.0)
    heard, concealed = suppress_silence(samples, samples, np.ones(30, bool))
    assert concealed.all()
    assert len(heard) == len(samples)


def test_other_samples_get_other_noise():
    first, second = (
        suppress_silence(x, x, None)[0] for x in (noise(8000, -60.0), noise(8000, -60.0, seed=1))
    )
    correlation = np.corrcoef(first.astype(float), second.astype(float))[0, 1]
    assert abs(correlation) < 0.1


@given(samples=hnp.arrays(np.int16, st.integers(0, 3000)), data=st.data())
def test_any_samples_any_losses(samples, data):
    frames = -(-len(samples) // 160)
    lost = data.draw(st.none() | hnp.arrays(bool, frames))
    quiet = samples >> data.draw(st.integers(0, 12))
    heard, concealed = suppress_silence(quiet, quiet, lost)
    assert heard.dtype == np.int16
    assert heard.shape == quiet.shape
    assert speech_frames(quiet).shape == (frames,)
    assert (concealed is None) == (lost is None)
    speech = np.repeat(speech_frames(quiet), 160)[: len(quiet)]
    np.testing.assert_array_equal(heard[speech], quiet[speech])


@pytest.mark.parametrize("hertz", [100.3, 1000.7, 3900.1])
def test_a_quiet_tone_gives_stable_noise(hertz):
    tone = np.rint(60 * np.sin(2 * np.pi * hertz * np.arange(16000) / 8000)).astype(np.int16)
    heard, _ = suppress_silence(tone, tone, None)
    assert not speech_frames(tone).any()
    assert dbov(heard) == pytest.approx(dbov(tone), abs=4)
