"""Random streams, noise, and whom babble may be made of."""

import numpy as np
import pytest
from scipy import signal

from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import split_of
from nest_ssl.telephone.noise import NoiseBank, TalkerPool, coloured_noise, prompt_key
from nest_ssl.telephone.presets import NoiseDraw, Span
from nest_ssl.telephone.seed import generator, key_bucket


def first_draws(**changes) -> list[float]:
    arguments = {"seed": 17, "utterance_id": "en/hello", "copy": 0, "stage": "noise"} | changes
    return generator(**arguments).random(4).tolist()


def test_a_stream_repeats():
    assert first_draws() == first_draws()


@pytest.mark.parametrize("change", [{"seed": 18}, {"utterance_id": "fr"}, {"copy": 1}, {"stage": "level"}])
def test_everything_named_changes_the_stream(change):
    assert not set(first_draws()) & set(first_draws(**change))


def test_streams_of_many_utterances_are_uniform():
    draws = np.array([generator(1, f"utt{i}", 0, "level").random() for i in range(4000)])
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert np.sum((counts - 200) ** 2 / 200) < 43.8  # chi square, 19 degrees of freedom, one in a thousand


@pytest.mark.parametrize(("dev", "test", "seed"), [(0.05, 0.05, 0), (0.1, 0.02, 17), (0.01, 0.07, 3)])
def test_keys_of_one_bucket_fall_to_one_split(dev, test, seed):
    splits: dict[int, set[str]] = {}
    for key in map(str, range(20000)):
        splits.setdefault(key_bucket(key, seed), set()).add(split_of(key, dev, test, seed))
    assert len(splits) == 100
    assert all(len(names) == 1 for names in splits.values())


def draw_settings(**changes) -> NoiseDraw:
    settings = {
        "probability": 1.0,
        "snr_db": Span(8, 35),
        "kinds": {"coloured": 1.0},
        "talkers": Span(3, 7),
        "exponent": Span(0, 2),
    }
    return NoiseDraw(**settings | changes)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_falls_as_its_exponent_says(exponent):
    noise = coloured_noise(8000 * 60, exponent, seed=3)
    hertz, power = signal.welch(noise, 8000, nperseg=2048)
    inside = (hertz > 60) & (hertz < 3800)
    slope = np.polyfit(np.log10(hertz[inside]), np.log10(power[inside]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


def whole_pool(index: ManifestIndex) -> TalkerPool:
    """All utterances in the bucket of the key that draws."""
    return TalkerPool(index, np.full(len(index), key_bucket("digits/7"), np.uint8))


def test_babble_is_of_other_keys(prompts):
    index = ManifestIndex.open(prompts)
    pool = whole_pool(index)
    for number in range(50):
        rows = pool.draw(generator(number, "en/digits/7", 0, "noise"), "digits/7", 7)
        assert len(rows) == len(set(rows)) == 7
        assert all(prompt_key(index.row(row)) != "digits/7" for row in rows)


def test_babble_takes_only_talkers_of_its_own_bucket(prompts):
    index = ManifestIndex.open(prompts)
    buckets = np.array([key_bucket(prompt_key(index.row(i))) for i in range(len(index))], np.uint8)
    assert len(np.unique(buckets)) == 6  # one per key, so that no key has others beside it
    noise = NoiseBank(TalkerPool(index, buckets)).draw(
        generator(1, "en/digits/7", 0, "noise"), draw_settings(kinds={"babble": 1.0}), "digits/7"
    )
    assert noise is None


@pytest.mark.parametrize("length", [1, 159, 8000, 80000])
def test_noise_has_the_length_asked_for(prompts, length):
    music = ManifestIndex.open(prompts.with_name("noise.jsonl"))
    bank = NoiseBank(whole_pool(ManifestIndex.open(prompts)), music)
    for kind in ("babble", "music", "coloured"):
        noise = bank.draw(generator(1, "x", 0, "noise"), draw_settings(kinds={kind: 1.0}), "digits/7")
        rendered, left_out = bank.render(noise, length)
        assert noise["kind"] == kind
        assert rendered.shape == (length,)
        assert rendered.dtype == np.float32
        assert np.any(rendered) or length < 8000
        assert left_out == []


def test_a_kind_without_a_source_is_not_drawn():
    settings = draw_settings(kinds={"babble": 0.5, "music": 0.4, "coloured": 0.1})
    kinds = {NoiseBank().draw(generator(1, f"u{i}", 0, "noise"), settings, "k")["kind"] for i in range(50)}
    assert kinds == {"coloured"}
    assert NoiseBank().draw(generator(1, "u", 0, "noise"), draw_settings(kinds={"music": 1.0}), "k") is None


def test_snr_and_probability_are_as_configured():
    settings = draw_settings(probability=0.6)
    drawn = [NoiseBank().draw(generator(1, f"u{i}", 0, "noise"), settings, "k") for i in range(3000)]
    present = [noise["snr_db"] for noise in drawn if noise]
    assert len(present) / 3000 == pytest.approx(0.6, abs=0.03)  # 3 sigma
    assert 8 <= min(present) < 9
    assert 34 < max(present) <= 35
    assert np.mean(present) == pytest.approx(21.5, abs=0.6)
