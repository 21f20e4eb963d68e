"""Random streams that depend on the utterance alone."""

import hashlib

import numpy as np
import pytest

from nest_ssl.files.rows import split_of
from nest_ssl.telephone.seed import SCHEMA, Streams, generator, key_bucket


def first_draws(**changes) -> list[float]:
    arguments = {"seed": 17, "utterance_id": "en/hello", "copy": 0, "stage": "noise"} | changes
    return generator(**arguments).random(4).tolist()


def number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "little")


@pytest.mark.parametrize("stage", ["level_dbov", "leg1/loss"])
def test_a_stream_is_a_philox_generator_keyed_by_the_utterance_and_placed_by_the_stage(stage):
    key, counter = number(f"17|en/hello|3|{SCHEMA}", 16), number(stage, 8) << 192
    plain = np.random.Generator(np.random.Philox(key=key, counter=counter))
    np.testing.assert_array_equal(generator(17, "en/hello", 3, stage).random(9), plain.random(9))


def test_a_stream_begins_anew_whatever_was_drawn_before():
    streams = Streams(17, "en/hello", 0)
    first = streams.stage("noise").random(5)
    streams.stage("level_dbov").normal(size=3)
    streams.stage("level_dbov").integers(7)  # leaves half a word in the generator
    np.testing.assert_array_equal(streams.stage("noise").random(5), first)


@pytest.mark.parametrize("change", [{"seed": 18}, {"utterance_id": "fr"}, {"copy": 1}, {"stage": "level"}])
def test_everything_named_changes_the_stream(change):
    assert not set(first_draws()) & set(first_draws(**change))


def test_ids_that_are_not_text_for_files_have_streams_too():
    assert first_draws(utterance_id="\udcff") != first_draws(utterance_id="汉语")


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
