"""Telephone channels while training reads: reproducible, other in every epoch, on the signals asked for."""

import numpy as np
import pytest

from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.data.ssl_dataset import BatchKey
from nest_ssl.data.telephone_channel import telephone_from_config
from nest_ssl.files.audio import read_audio
from tests.data_room.corpora import make_corpus

DURATIONS = [1.3, 1.5, 2.0]


def loader(folder, telephone, seed=17, **options):
    manifest = folder / "train.jsonl"
    if not manifest.exists():
        make_corpus(folder, DURATIONS)
    section = {"manifest_filepath": str(manifest), "sample_rate": 16000, "batch_size": 3}
    options["telephone"] = telephone
    return ssl_data_from_config(section | options, seed=seed, name="model.train_ds")


def batch(folder, telephone, epoch=0, items=(0, 1, 2), **options):
    dataset = loader(folder, telephone, **options).dataset
    return dataset.batch(BatchKey(epoch, 0, 0, np.array(items)))


def clean(folder, i):
    return read_audio(folder / f"audio/u{i:03d}.flac")[0]


def above_4_khz(samples):
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return power[int(len(power) * 4100 / 8000) :].sum() / power.sum()


def test_the_noisy_audio_passes_the_channel_and_the_targets_stay_clean(tmp_path):
    got = batch(tmp_path, {"mix": "default"})
    for i in range(3):
        length = int(got.audio_len[i])
        assert length == round(DURATIONS[i] * 16000) == int(got.noisy_audio_len[i])
        assert np.array_equal(got.audio[i, :length].numpy(), clean(tmp_path, i))
        assert not np.array_equal(got.noisy_audio[i, :length].numpy(), clean(tmp_path, i))
        assert not got.noisy_audio[i, length:].any()


def test_both_sends_clean_and_noisy_audio_through_one_channel(tmp_path):
    got = batch(tmp_path, {"apply_to": "both"})
    for i in range(3):
        length = int(got.audio_len[i])
        assert np.array_equal(got.audio[i].numpy(), got.noisy_audio[i].numpy())
        assert not np.array_equal(got.audio[i, :length].numpy(), clean(tmp_path, i))


def test_channels_depend_on_the_utterance_and_the_epoch_but_not_on_the_batch(tmp_path):
    whole = batch(tmp_path, {"mix": "china"})
    alone = batch(tmp_path, {"mix": "china"}, items=(2,))
    length = int(alone.audio_len[0])
    assert np.array_equal(alone.noisy_audio[0, :length].numpy(), whole.noisy_audio[2, :length].numpy())
    later = batch(tmp_path, {"mix": "china"}, epoch=1)
    other_seed = batch(tmp_path, {"mix": "china"}, seed=18)
    for other in (later, other_seed):
        assert not np.array_equal(other.noisy_audio.numpy(), whole.noisy_audio.numpy())


def test_workers_do_not_change_the_channels(tmp_path):
    def signals(workers):
        data = loader(tmp_path, {"prob": 0.7}, batch_size=1, num_workers=workers)
        return [b.noisy_audio.numpy() for b in data.batches(2)]

    alone, two = signals(0), signals(2)
    assert len(alone) == 3
    assert all(np.array_equal(a, b) for a, b in zip(alone, two, strict=True))


def test_prob_is_the_share_of_utterances_with_a_channel():
    channel = telephone_from_config({"prob": 0.3}, 16000, 5, ("noisy",), "telephone")
    shares = [channel.draw(f"u{i}", f"u{i}", epoch=i % 7) is not None for i in range(2000)]
    assert abs(np.mean(shares) - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5
    never = telephone_from_config({"prob": 0.0}, 16000, 5, ("noisy",), "telephone")
    assert not any(never.draw(f"u{i}", f"u{i}", 0) for i in range(50))


def test_nothing_is_left_above_the_telephone_band(tmp_path):
    got = batch(tmp_path, {"mix": "default"})
    for i in range(3):
        assert above_4_khz(got.noisy_audio[i, : int(got.audio_len[i])].numpy()) < 1e-5


def test_other_channels_change_the_fingerprint_of_the_data(tmp_path):
    plain = loader(tmp_path, None).fingerprint()
    default = loader(tmp_path, {"mix": "default"}).fingerprint()
    china = loader(tmp_path, {"mix": "china"}).fingerprint()
    assert len({plain, default, china}) == 3
    assert loader(tmp_path, {"mix": "china"}).fingerprint() == china


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"mixx": "china"}, r"telephone\.mixx is no option"),
        ({"mix": "mars"}, r"telephone: .*mars.*default"),
        ({"prob": 1.5}, r"telephone\.prob must be a number from 0 to 1, not 1\.5"),
        ({"apply_to": "clean"}, r"telephone\.apply_to must be one of noisy, both, not 'clean'"),
        ({"missing": "ignore"}, r"telephone\.missing must be one of refuse, drop"),
        ({"config": "/nowhere.yaml"}, r"telephone: .*/nowhere\.yaml"),
        ("china", r"telephone must be a section with mix and prob, not 'china'"),
    ],
)
def test_bad_sections_name_the_key(tmp_path, section, message):
    with pytest.raises(ValueError, match=message):
        loader(tmp_path, section)


def test_babble_and_recordings_have_their_sources(tmp_path, monkeypatch):
    monkeypatch.setattr("nest_ssl.telephone.noise.FEWEST_VOICES", 1)  # of a corpus as small as this
    make_corpus(tmp_path, DURATIONS)
    make_corpus(tmp_path, [3.0, 4.0], name="noise.jsonl", prefix="n")
    section = {
        "talkers": str(tmp_path / "train.jsonl"),
        "noise_manifest": {"music": str(tmp_path / "noise.jsonl")},
    }
    channel = telephone_from_config(section, 16000, 5, ("noisy",), "telephone")
    drawn = [channel.draw(f"x{i}", f"x{i}", 0) for i in range(300)]
    kinds = {channel["noise"]["kind"] for channel in drawn if channel and channel["noise"]}
    assert kinds == {"babble", "music", "coloured"}


def test_babble_is_the_same_whatever_the_order_of_the_talkers_and_a_row_may_come_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("nest_ssl.telephone.noise.FEWEST_VOICES", 1)
    make_corpus(tmp_path, [1.0] * 40)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()

    def babble(name, chosen):
        (tmp_path / name).write_text("\n".join(chosen) + "\n")
        section = {"talkers": str(tmp_path / name)}
        channel = telephone_from_config(section, 16000, 5, ("noisy",), "telephone")
        drawn = [channel.draw(f"x{i}", f"x{i}", 0) for i in range(300)]
        return [one["noise"]["talkers"] for one in drawn if one and (one["noise"] or {}).get("talkers")]

    straight = babble("straight.jsonl", lines)
    assert len(straight) > 10
    assert babble("shuffled.jsonl", lines[::-2] + lines[::2]) == straight
    assert babble("twice.jsonl", [*lines, lines[7]])
