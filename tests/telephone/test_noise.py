"""Noise: its kinds, how it is drawn, whom babble is made of."""

import json
from collections import Counter

import numpy as np
import pytest
from scipy import signal

from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.manifest import write_rows
from nest_ssl.telephone import noise as noise_module
from nest_ssl.telephone.level import rms_dbov
from nest_ssl.telephone.noise import NoiseBank, TalkerPool, check_noise, coloured_noise, prompt_key
from nest_ssl.telephone.seed import generator, key_bucket


def noise_settings(**changes) -> dict:
    settings = {
        "probability": 1.0,
        "snr_db": {"min": 8.0, "max": 35.0},
        "kinds": {"coloured": 1.0},
        "talkers": {"min": 3, "max": 7},
        "exponent": {"min": 0.0, "max": 2.0},
    }
    return settings | changes


def stream(name) -> np.random.Generator:
    return generator(1, str(name), 0, "noise")


def whole_pool(index: ManifestIndex) -> TalkerPool:
    """All utterances in the bucket of the key that draws."""
    return TalkerPool(index, np.full(len(index), key_bucket("digits/7"), np.uint8))


@pytest.fixture
def bank(prompts) -> NoiseBank:
    """Babble of the prompts, and a tone as music."""
    music = ManifestIndex.open(prompts.with_name("noise.jsonl"))
    return NoiseBank(whole_pool(ManifestIndex.open(prompts)), {"music": music})


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_falls_as_its_exponent_says(exponent, rate):
    noise = coloured_noise(rate * 30, exponent, seed=3, rate=rate)
    hertz, power = signal.welch(noise, rate, nperseg=2048)
    inside = (hertz > 60) & (hertz < 3800)
    slope = np.polyfit(np.log10(hertz[inside]), np.log10(power[inside]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.07)


def test_coloured_noise_is_gaussian_and_depends_on_its_seed_alone():
    noise = coloured_noise(80000, 0.0, seed=4)
    assert np.mean((noise / noise.std()) ** 4) == pytest.approx(3.0, abs=0.1)
    assert np.array_equal(noise, coloured_noise(80000, 0.0, seed=4))
    assert abs(np.corrcoef(noise, coloured_noise(80000, 0.0, seed=5))[0, 1]) < 0.02


def test_long_coloured_noise_has_no_seam():
    length = noise_module.LONGEST_PERIOD
    noise = coloured_noise(length + 1000, 2.0, seed=1)
    steps = np.abs(np.diff(noise))
    assert steps[length - 1] < 6 * steps.std()


def test_babble_is_of_other_keys(prompts):
    index = ManifestIndex.open(prompts)
    pool = whole_pool(index)
    for number in range(50):
        rows = pool.draw(stream(number), "digits/7", 6)
        assert len(set(rows)) == len(rows) >= 5
        assert all(prompt_key(index.row(row)) != "digits/7" for row in rows)


def test_babble_takes_only_talkers_of_its_own_bucket(prompts):
    index = ManifestIndex.open(prompts)
    buckets = np.array([key_bucket(prompt_key(index.row(i))) for i in range(len(index))], np.uint8)
    assert len(np.unique(buckets)) == 6  # one per key, so that no key has others beside it
    bank = NoiseBank(TalkerPool(index, buckets))
    assert bank.draw(stream("en/digits/7"), noise_settings(kinds={"babble": 1.0}), "digits/7") is None


def test_where_babble_lacks_talkers_another_kind_keeps_the_share_of_noise(tmp_path):
    path = tmp_path / "few.jsonl"
    write_rows(path, [{"audio_filepath": f"{i}.wav", "duration": 1.0, "key": str(i)} for i in range(3)])
    few = TalkerPool(ManifestIndex.open(path), np.full(3, key_bucket("0"), np.uint8))
    bank = NoiseBank(few)
    settings = noise_settings(kinds={"babble": 0.9, "coloured": 0.1})
    assert {bank.draw(stream(i), settings, "0")["kind"] for i in range(40)} == {"coloured"}
    two = noise_settings(kinds={"babble": 0.9, "coloured": 0.1}, talkers=2)  # asked for, so enough
    assert {bank.draw(stream(i), two, "0")["kind"] for i in range(40)} == {"babble", "coloured"}
    alone = bank.draw(stream("x"), noise_settings(kinds={"babble": 1.0}), "0")
    assert len(alone["talkers"]) == 2  # nothing else was asked for


def test_the_voices_of_a_large_bucket_are_few_and_from_all_of_it(tmp_path):
    path = tmp_path / "many.jsonl"
    write_rows(path, [{"audio_filepath": f"{i}.wav", "duration": 1.0, "key": str(i)} for i in range(5000)])
    index = ManifestIndex.open(path)
    pool = TalkerPool(index, np.array([key_bucket(str(i)) for i in range(5000)], np.uint8))
    chosen = {row for i in range(2000) for row in pool.draw(stream(i), str(i % 50), 5)}
    in_buckets = Counter(key_bucket(str(row)) for row in chosen)
    assert max(in_buckets.values()) <= noise_module.VOICES_PER_BUCKET
    assert max(chosen) > 4000
    for i in range(20):
        assert all(key_bucket(str(row)) == key_bucket(str(i)) for row in pool.draw(stream(i), str(i), 7))


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("length", [0, 1, 159, 8000, 80000])
def test_noise_has_the_length_asked_for(bank, length, rate):
    for kind in ("babble", "music", "coloured"):
        noise = bank.draw(stream("x"), noise_settings(kinds={kind: 1.0}), "digits/7")
        rendered, left_out = bank.render(noise, length, rate)
        assert noise["kind"] == kind
        assert json.loads(json.dumps(noise)) == noise
        assert rendered.shape == (length,)
        assert rendered.dtype == np.float32
        assert np.any(rendered) or length < 8000
        assert left_out == []


def test_what_was_rendered_before_changes_nothing(prompts, bank):
    settings = noise_settings(kinds={"babble": 0.7, "music": 0.3})
    drawn = [bank.draw(stream(i), settings, "digits/7") for i in range(12)]
    first = [bank.render(noise, 9000)[0] for noise in drawn]
    music = ManifestIndex.open(prompts.with_name("noise.jsonl"))
    fresh = NoiseBank(whole_pool(ManifestIndex.open(prompts)), {"music": music})
    for noise, expected in reversed(list(zip(drawn, first, strict=True))):
        assert np.array_equal(fresh.render(noise, 9000)[0], expected)
        assert np.array_equal(bank.render(noise, 9000)[0], expected)


def test_talkers_of_babble_are_equally_loud(prompts):
    bank = NoiseBank(whole_pool(ManifestIndex.open(prompts)))
    noise = bank.draw(stream(2), noise_settings(kinds={"babble": 1.0}), "digits/7")
    assert 3 <= len(noise["talkers"]) <= 7
    alone = []
    for number in range(len(noise["rows"])):
        one = {name: noise[name][number : number + 1] for name in ("rows", "talkers", "starts")}
        alone.append(bank.render(noise | one, 160000)[0])
    assert [rms_dbov(voice) for voice in alone] == pytest.approx([0.0] * len(alone), abs=0.5)
    assert np.abs(bank.render(noise, 160000)[0] - np.sum(alone, axis=0)).max() < 1e-3


def test_a_talker_that_cannot_be_read_is_left_out_and_named(tmp_path, prompts):
    rows = [json.loads(line) for line in prompts.read_text(encoding="utf-8").splitlines()]
    rows = [row | {"audio_filepath": str(prompts.parent / row["audio_filepath"])} for row in rows]
    for row in rows[::2]:
        row["audio_filepath"] = str(tmp_path / "gone.flac")
    write_rows(tmp_path / "some.jsonl", rows)
    bank = NoiseBank(whole_pool(ManifestIndex.open(tmp_path / "some.jsonl")))
    draws = [bank.draw(stream(i), noise_settings(kinds={"babble": 1.0}), "digits/7") for i in range(10)]
    for noise in draws:
        rendered, left_out = bank.render(noise, 8000)
        assert len(left_out) == sum(row % 2 == 0 for row in noise["rows"])
        assert all("gone.flac" in reason for reason in left_out)
        assert np.any(rendered) == (len(left_out) < len(noise["rows"]))


def test_a_manifest_of_other_noise_is_refused(bank, tmp_path, prompts):
    noise = bank.draw(stream("x"), noise_settings(kinds={"music": 1.0}), "k")
    write_rows(tmp_path / "other.jsonl", [{"audio_filepath": "x.wav", "duration": 3.0, "id": "jazz"}])
    with pytest.raises(ValueError, match="has no source here"):
        NoiseBank().render(noise, 100)
    wave = prompts.parent / "audio" / "music.flac"
    write_rows(tmp_path / "other.jsonl", [{"audio_filepath": str(wave), "duration": 5.0, "id": "jazz"}])
    other = NoiseBank(None, {"music": ManifestIndex.open(tmp_path / "other.jsonl")})
    with pytest.raises(ValueError, match="row 0 is jazz, not music"):
        other.render(noise, 100)
    with pytest.raises(ValueError, match="has 1 rows, there is no row 7"):
        other.render(noise | {"row": 7}, 100)


def test_a_kind_without_a_source_is_not_drawn():
    settings = noise_settings(kinds={"babble": 0.5, "music": 0.4, "coloured": 0.1})
    kinds = {NoiseBank().draw(stream(i), settings, "k")["kind"] for i in range(50)}
    assert kinds == {"coloured"}
    assert NoiseBank().draw(stream("u"), noise_settings(kinds={"music": 1.0}), "k") is None
    assert NoiseBank().draw(stream("u"), None, "k") is None


def test_kinds_are_drawn_by_their_weights(bank):
    settings = noise_settings(kinds={"babble": 0.5, "music": 0.2, "coloured": 0.3})
    kinds = Counter(bank.draw(stream(i), settings, "digits/7")["kind"] for i in range(2000))
    for kind, share in settings["kinds"].items():
        assert kinds[kind] / 2000 == pytest.approx(share, abs=0.04)  # 3.6 sigma


def test_a_group_of_recordings_has_any_name_but_those_taken(prompts):
    music = ManifestIndex.open(prompts.with_name("noise.jsonl"))
    settings = noise_settings(kinds={"tram": 1.0})
    check_noise(settings, "noise")
    assert NoiseBank(None, {"tram": music}).draw(stream(1), settings, "k")["recording"] == "music"
    with pytest.raises(ValueError, match="kind babble: that name is taken"):
        NoiseBank(None, {"babble": music})


def test_snr_and_probability_are_as_configured():
    settings = noise_settings(probability=0.6)
    drawn = [NoiseBank().draw(stream(i), settings, "k") for i in range(3000)]
    present = [noise["snr_db"] for noise in drawn if noise]
    assert len(present) / 3000 == pytest.approx(0.6, abs=0.03)  # 3 sigma
    assert 8 <= min(present) < 9
    assert 34 < max(present) <= 35
    assert np.mean(present) == pytest.approx(21.5, abs=0.6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": 7}, "n.probability: must lie within 0 and 1"),
        ({"snr_db": "loud"}, "n.snr_db: must be a number, not 'loud'"),
        ({"kinds": {"music": 0.4}}, "n.kinds: the weights sum to 0.4"),
        ({"kinds": {3: 1.0}}, "n.kinds: a kind is the name"),
        ({"kinds": "music"}, "n.kinds: must give weights"),
        ({"talkers": {"min": 0, "max": 3}}, "n.talkers.min: must lie within 1 and 50"),
        ({"exponent": -1}, "n.exponent: must lie within 0 and 4"),
        ({"volume": 1}, "n.volume: is not a known key"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        check_noise(noise_settings(**changes), "n")
