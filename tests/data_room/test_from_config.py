"""The data sections of a configuration: NeMo's keys taken, the others refused by name."""

import pytest
from omegaconf import OmegaConf

from nest_ssl.data.from_config import ssl_data_from_config
from tests.data_room.corpora import make_corpus

# Keys and values of NeMo's nest_fast-conformer.yaml, augmentor left out.
NEMO = {
    "noise_manifest": None, "sample_rate": 16000, "batch_size": 8, "shuffle": True, "num_workers": 8,
    "pin_memory": True, "use_start_end_token": False, "trim_silence": False, "max_duration": 60.0,
    "min_duration": 1.0, "drop_last": True, "is_concat": False, "concat_sampling_technique": "temperature",
    "concat_sampling_temperature": 1.0, "is_tarred": False, "tarred_audio_filepaths": None, "shuffle_n": 2048,
    "bucketing_strategy": "synced_randomized", "bucketing_batch_size": None, "batch_augmentor": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), [0.5] + [1.0 + i / 10 for i in range(20)])


def build(manifest, **changes):
    section = {**NEMO, "manifest_filepath": str(manifest), "num_workers": 0, **changes}
    return ssl_data_from_config(section, seed=1)


def test_nemos_section_is_taken_as_it_is(manifest):
    section = OmegaConf.create(
        {"model": {"sample_rate": 16000, "train_ds": {**NEMO, "manifest_filepath": str(manifest)}}}
    )
    section.model.train_ds.sample_rate = "${model.sample_rate}"
    loader = ssl_data_from_config(section.model.train_ds, seed=1)
    assert (loader.num_workers, loader.plan.batch_size, loader.plan.drop_last) == (8, 8, True)
    facts = loader.describe()
    assert facts["rows"] == 21 and facts["utterances"] == 20 and facts["batches"] == 2
    assert facts["dropped"] == {"shorter than min_duration 1.0": 1}
    assert facts["left_out_per_epoch"] == 4
    assert facts["hours"] == round(sum(1.0 + i / 10 for i in range(20)) / 3600, 3)


def test_a_section_without_a_manifest_names_the_key():
    with pytest.raises(ValueError, match=r"model\.train_ds.*manifest_filepath"):
        ssl_data_from_config(OmegaConf.create({**NEMO, "manifest_filepath": "???"}), seed=1)
    with pytest.raises(ValueError, match=r"model\.train_ds\.manifest_filepath must be given"):
        ssl_data_from_config(NEMO, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_tarred": True}, r"tarred_audio_filepaths must be given where model.train_ds.is_tarred is true"),
        ({"is_concat": True}, r"is_concat mixes at least two manifests"),
        ({"tarred_audio_filepaths": "a.tar"}, "tarred_audio_filepaths is given, but .*is_tarred is false"),
        ({"bucketing_batch_size": [4, 2]}, "bucketing_batch_size and bucketing_weights are for buckets"),
        ({"cuts_path": "a"}, "cuts_path is given, but model.train_ds.use_lhotse is not true"),
        ({"perturb_speed": True}, "perturb_speed=True is not supported, set it to false: use augmentor"),
        ({"noise_path": "a"}, "noise_path='a' is not supported, set it to null: name the noise in noise_man"),
        ({"cut_into_windows_duration": 4}, "cut_into_windows_duration=4 is not .*truncate_duration"),
        ({"bucketing_strategy": "other"}, "bucketing_strategy must be one of fixed_order, synced_randomized"),
        ({"augmentor": {"impulse": {"prob": 1}}}, r"train_ds\.augmentor\.impulse is not supported: prepare"),
        ({"augmentor": {"gain": {"prob": 2}}}, r"augmentor\.gain\.prob must be a number from 0 to 1, not 2"),
        ({"augmentor": {"gain": {"prob": 1, "min_gain": 1}}}, r"gain\.min_gain .*mean min_gain_dbfs"),
        ({"batchsize": 4}, r"model\.train_ds\.batchsize is no option of the data; did you mean batch_size\?"),
        ({"wibble": 4}, "known keys: manifest_filepath"),
        ({"batch_size": "8"}, "batch_size must be a whole number of at least 1, not '8'"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"batch_size": None}, r"batch_size \(utterances\) or batch_duration \(seconds\)"),
        ({"num_workers": -1}, "num_workers must be a whole number of at least 0"),
        ({"shuffle": "yes"}, "shuffle must be true or false"),
        ({"min_duration": 9, "max_duration": 2}, "min_duration 9 is above .*max_duration 2"),
        ({"batch_size": 64}, "20 utterances are fewer than the 64 of one step"),
        ({"batch_augmentor": {"_target_": "x"}}, "describes an augmentor, but none was built"),
        ({"manifest_filepath": [["a"], "b"]}, "manifest_filepath: give paths, or a list of paths for each"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(manifest, change, message):
    with pytest.raises(ValueError, match=message):
        build(manifest, **change)


def test_a_missing_manifest_is_named():
    with pytest.raises(FileNotFoundError, match=r"/nowhere/train\.json does not exist"):
        build("/nowhere/train.json")


def test_validation_repeats_nothing_whatever_the_number_of_ranks(manifest):
    section = {"manifest_filepath": str(manifest), "sample_rate": 16000, "batch_size": 8, "shuffle": False}
    counts = []
    for rank in range(2):
        loader = ssl_data_from_config(section, seed=1, rank=rank, world_size=2, name="model.validation_ds")
        counts.append(loader.num_batches(0))
    assert counts == [2, 1]


def test_batch_duration_bounds_the_seconds_of_a_batch(manifest):
    loader = build(manifest, batch_size=None, batch_duration=6.0, drop_last=False)
    assert loader.describe()["largest_batch_seconds"] <= 6.0
    for batch in loader.batches(0):
        assert batch.audio.numel() <= 6.0 * 16000


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4},
        {"shuffle": False},
        {"max_duration": 2.0},
        {"duration_jitter": 0.0},
        {"trim_silence": True},
    ],
)
def test_the_fingerprint_follows_what_decides_on_the_batches(manifest, change):
    first = build(manifest).fingerprint()
    assert build(manifest, num_workers=2, pin_memory=False).fingerprint() == first
    assert build(manifest, **change).fingerprint() != first
