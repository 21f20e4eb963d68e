"""Waveform perturbations: their definitions, and draws from the utterance's stream."""

import numpy as np
import pytest

from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.data.perturb import augmentor_from_config
from tests.data_room.corpora import make_corpus

RATE = 16000


def augmentor(**section):
    return augmentor_from_config(
        {name: {"prob": 1.0, **options} for name, options in section.items()}, RATE, "aug"
    )


def stream(seed=0):
    return np.random.RandomState(seed)


@pytest.fixture
def samples():
    return np.sin(np.arange(RATE) / 7).astype(np.float32)


def test_gain_multiplies_by_decibels(samples):
    quieter = augmentor(gain={"min_gain_dbfs": -6, "max_gain_dbfs": -6})(samples, stream())
    assert np.allclose(quieter, samples * 10**-0.3)


def test_white_noise_has_its_level(samples):
    noise = augmentor(white_noise={"min_level": -40, "max_level": -39})(samples, stream()) - samples
    assert 20 * np.log10(noise.std()) == pytest.approx(-40, abs=0.2)


@pytest.mark.parametrize("milliseconds", [5.0, -5.0])
def test_shift_moves_as_nemo_does(samples, milliseconds):
    moved = augmentor(shift={"min_shift_ms": milliseconds, "max_shift_ms": milliseconds})(samples, stream())
    expected = np.zeros_like(samples)
    if milliseconds > 0:
        expected[:-80] = samples[80:]
    else:
        expected[80:] = samples[:-80]
    assert np.array_equal(moved, expected)


def test_speed_changes_length_by_the_rate_and_keeps_what_has_rate_one(samples):
    fast = augmentor(speed={"min_speed_rate": 0.9, "max_speed_rate": 1.1, "num_rates": 3, "sr": RATE})
    lengths = {len(fast(samples, stream(seed))) for seed in range(20)}
    assert lengths == {14400, 16000, 17600}


def test_silence_and_segment_have_their_lengths(samples):
    quiet = augmentor(silence={"min_start_silence_secs": 0.5, "max_start_silence_secs": 0.5})(
        samples, stream()
    )
    assert len(quiet) == RATE + 8000 and not quiet[:8000].any() and np.array_equal(quiet[8000:], samples)
    piece = augmentor(random_segment={"duration_sec": 0.25})(samples, stream())
    assert len(piece) == 4000
    assert any(np.array_equal(piece, samples[k : k + 4000]) for k in range(12001))
    padded = augmentor(random_segment={"duration_sec": 2, "pad_to_duration": True})(samples, stream())
    assert len(padded) == 2 * RATE and not padded[RATE:].any()


def test_the_probability_is_kept(samples):
    half = augmentor_from_config({"gain": {"prob": 0.5, "min_gain_dbfs": 3, "max_gain_dbfs": 3}}, RATE, "aug")
    changed = sum(not np.array_equal(half(samples, stream(seed)), samples) for seed in range(400))
    assert 160 < changed < 240


def test_an_utterance_is_changed_alike_whoever_reads_it_and_otherwise_in_the_next_epoch(tmp_path):
    manifest = make_corpus(tmp_path, [1.0, 1.5])
    section = {"manifest_filepath": str(manifest), "sample_rate": RATE, "batch_size": 1}
    section["augmentor"] = {"white_noise": {"prob": 1.0}, "gain": {"prob": 1.0, "rng": 5}}
    loaders = [ssl_data_from_config(section, seed=3) for _ in range(2)]
    first, second = (loader.dataset.item(1, 0).audio.numpy() for loader in loaders)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, loaders[0].dataset.item(1, 1).audio.numpy())
    plain = ssl_data_from_config({**section, "augmentor": None}, seed=3)
    assert plain.fingerprint() != loaders[0].fingerprint() == loaders[1].fingerprint()


def test_int_values_change_nothing(tmp_path):
    """NeMo reads int32 and scales it: for 16 and 24 bits the same numbers as reading floats."""
    import soundfile

    manifest = make_corpus(tmp_path, [1.0])
    section = {"manifest_filepath": str(manifest), "sample_rate": RATE, "batch_size": 1, "int_values": True}
    audio = ssl_data_from_config(section, seed=3).dataset[0].audio.numpy()
    whole = soundfile.read(tmp_path / "audio" / "u000.flac", dtype="int32")[0]
    assert np.array_equal(audio, whole.astype(np.float32) * np.float32(2.0**-31))
