import numpy as np
import pytest

from nest_ssl.decoding.fun_asr_gate import gate, range_db
from nest_ssl.telephone.noise import coloured_noise
from tests.decoding.steady_sounds import RATE, steady_sounds

BLANK = 2


def spoken(seconds: float = 2.0, level: float = 0.1) -> np.ndarray:
    """Bursts of noise with pauses, as syllables are."""
    generator = np.random.default_rng(0)
    bursts = np.repeat(generator.permutation(np.arange(round(seconds / 0.2)) % 2), round(0.2 * RATE))
    return (generator.normal(size=len(bursts)) * level * (0.02 + bursts)).astype(np.float32)


def heard(labels: list[int], probability: float = 0.9) -> np.ndarray:
    scores = np.full((len(labels), 3), (1 - probability) / 2)
    scores[np.arange(len(labels)), labels] = probability
    return np.log(scores).astype(np.float32)


@pytest.mark.parametrize("level", [0.001, 0.01, 0.3])
def test_speech_passes_with_ctc_and_without(level):
    assert gate(spoken(level=level), RATE, None, BLANK).silent is None
    found = gate(spoken(level=level), RATE, heard([0, BLANK, 1, BLANK]), BLANK)
    assert found.silent is None and found.ctc_confidence == pytest.approx(0.9)


def test_where_ctc_hears_no_label_nobody_speaks():
    found = gate(spoken(), RATE, heard([BLANK] * 5), BLANK)
    assert found.silent == "ctc" and found.ctc_blank == pytest.approx(0.9)


def test_an_unsure_ctc_branch_is_not_believed_in_steady_sound_only():
    noise = coloured_noise(RATE, 1.0, 0, RATE).astype(np.float32)
    assert gate(noise, RATE, heard([0, 1, 0], 0.6), BLANK).silent == "ctc"
    assert gate(spoken(), RATE, heard([0, 1, 0], 0.6), BLANK).silent is None


@pytest.mark.parametrize("name, samples", list(steady_sounds(3.0, seed=0)))
def test_steady_sound_is_silence_by_its_level(name, samples):
    assert gate(samples, RATE, None, BLANK).silent == "level"


def test_digital_silence_is_silence_whatever_ctc_says():
    assert gate(np.zeros(RATE, np.float32), RATE, heard([0, 1, 0], 0.99), BLANK).silent == "level"


def test_range_of_a_level_that_steps_by_20_db():
    noise = np.random.default_rng(0).normal(size=10 * RATE)
    noise[5 * RATE :] *= 10
    assert range_db(noise, RATE) == pytest.approx(20, abs=5)


def test_a_few_milliseconds_have_no_range():
    found = gate(np.full(100, 0.1, np.float32), RATE, None, BLANK)
    assert found.range_db is None and found.silent is None
