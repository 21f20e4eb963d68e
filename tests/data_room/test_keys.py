"""The keys of data sections: the page for users has each, and NeMo's own examples are taken as they are."""

import pytest

from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.data.keys import HONOURED, ONLY_OFF, WITHOUT_EFFECT, checked_options
from tests.data_room.corpora import make_corpus

# train_ds and validation_ds of NeMo's examples/asr/conf/ssl, by file, beside manifest_filepath.
COMMON = {"sample_rate": 16000, "shuffle": True, "num_workers": 8, "trim_silence": False,
          "is_tarred": False, "tarred_audio_filepaths": None}  # fmt: skip
BUCKETS = {"bucketing_strategy": "synced_randomized", "bucketing_batch_size": None}
CONFORMER = {**COMMON, **BUCKETS, "batch_size": 16, "pin_memory": False, "use_start_end_token": True,
             "max_duration": 16.7, "min_duration": 8.0, "shuffle_n": 2048}  # fmt: skip
NEST = {**COMMON, **BUCKETS, "noise_manifest": None, "batch_size": 8, "pin_memory": True,
        "use_start_end_token": False, "max_duration": 60.0, "min_duration": 1.0, "drop_last": True,
        "is_concat": False, "concat_sampling_technique": "temperature", "concat_sampling_temperature": 1.0,
        "shuffle_n": 2048}  # fmt: skip
VALIDATION = {"sample_rate": 16000, "batch_size": 16, "shuffle": False, "num_workers": 8, "pin_memory": True,
              "use_start_end_token": False, "min_duration": 8.0}  # fmt: skip
WAV2VEC = {**COMMON, "batch_size": 4, "max_duration": None, "min_duration": 8.0,
           "use_start_end_token": False, "pin_memory": True}  # fmt: skip
CITRINET = {**COMMON, **BUCKETS, "batch_size": 32, "max_duration": 35.0, "min_duration": 4.0,
            "use_start_end_token": False, "pin_memory": True}  # fmt: skip
EXAMPLES = {
    "nest/nest_fast-conformer": NEST,
    "conformer/conformer_ssl, fastconformer/fast-conformer": CONFORMER,
    "conformer/conformer_ssl_22050_selfvc": {**CONFORMER, "sample_rate": 22050},
    "wav2vec/wav2vec_pretrain": WAV2VEC,
    "wav2vec/wav2vec_ci": {**WAV2VEC, "max_duration": 20.0, **BUCKETS},
    "citrinet/citrinet_ssl_ci": CITRINET,
    "validation_ds": VALIDATION,
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_sections_of_nemos_examples_give_batches(example, tmp_path):
    manifest = make_corpus(tmp_path, [8.5] * 32)
    section = {**EXAMPLES[example], "manifest_filepath": str(manifest), "num_workers": 0}
    loader = ssl_data_from_config(section, seed=0)
    batch = next(loader.batches(0))
    assert batch.audio.shape == (section["batch_size"], int(8.5 * section["sample_rate"]))


def test_the_page_for_users_has_every_key(checkout):
    page = (checkout / "docs" / "training_data.md").read_text(encoding="utf-8")
    missing = [key for key in (*HONOURED, *ONLY_OFF, *WITHOUT_EFFECT) if f"`{key}`" not in page]
    assert missing == []


def test_no_key_is_in_two_tables():
    tables = (HONOURED, ONLY_OFF, WITHOUT_EFFECT)
    assert sum(len(table) for table in tables) == len({key for table in tables for key in table})


@pytest.mark.parametrize("key", ONLY_OFF)
def test_what_is_refused_says_what_to_do_and_passes_when_off(key):
    section = {"manifest_filepath": "m", "sample_rate": 16000}
    for off in ONLY_OFF[key][0]:
        checked_options({**section, key: off}, "model.train_ds")
    with pytest.raises(ValueError, match=rf"model\.train_ds\.{key}='on' is not supported, set it to .*: \w+"):
        checked_options({**section, key: "on"}, "model.train_ds")
