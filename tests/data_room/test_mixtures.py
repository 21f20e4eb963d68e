"""Concat datasets, bucketing lists and patterns of paths."""

from itertools import chain, pairwise

import numpy as np
import pytest

from nest_ssl.data.braces import expand_paths, split_commas
from nest_ssl.data.bucket_plan import bucket_batch_sizes
from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.data.plan import BatchPlan
from nest_ssl.data.selections import Mixture
from tests.data_room.corpora import make_corpus

STARTS = [0, 1000, 5000, 5100]  # parts of 1000, 4000 and 100 items


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Three manifests: 3 items of 1.0 s, 5 of 2.0 s, 8 of 3.0 s."""
    folder = tmp_path_factory.mktemp("mixtures")
    return [
        str(make_corpus(folder, [seconds] * count, f"{name}.jsonl", name))
        for name, seconds, count in (("a", 1.0, 3), ("b", 2.0, 5), ("c", 3.0, 8))
    ]


def load(manifests, seed=1, rank=0, world_size=1, **changes):
    section = {"manifest_filepath": manifests, "sample_rate": 16000, "batch_size": 2, "shuffle": True}
    return ssl_data_from_config({**section, **changes}, seed=seed, rank=rank, world_size=world_size)


def planned(loader, epoch=0):
    plan = loader.plan.epoch(epoch)
    return [plan.items(b).tolist() for b in range(len(plan))]


def parts_of(items):
    return np.bincount(np.searchsorted(STARTS, items, "right") - 1, minlength=3)


def test_temperature_makes_shares_of_sizes_to_the_power():
    for temperature in (1, 5):
        expected = np.array([1000, 4000, 100], float) ** (1 / temperature)
        found = parts_of(Mixture(STARTS, "temperature", temperature=temperature, scale=4).items(0))
        assert found.sum() == 4 * 5100
        assert np.allclose(found / found.sum(), expected / expected.sum(), atol=0.02)


def test_random_follows_the_probabilities_and_round_robin_takes_turns():
    found = parts_of(Mixture(STARTS, "random", probabilities=[0.2, 0.1, 0.7], scale=4).items(0))
    assert np.allclose(found / found.sum(), [0.2, 0.1, 0.7], atol=0.02)
    items = Mixture(STARTS, "round-robin", scale=0.01).items(0)
    assert len(items) == 51
    assert (np.searchsorted(STARTS, items, "right") - 1).tolist() == [i % 3 for i in range(51)]


def test_a_part_repeats_nothing_before_it_is_through():
    items = Mixture(STARTS, "round-robin").items(3)
    small = items[items >= 5000]
    assert len(small) == 1700
    for start in range(0, 1700, 100):
        assert sorted(small[start : start + 100]) == list(range(5000, 5100))
    assert small[:100].tolist() != small[100:200].tolist()
    big = items[(items >= 1000) & (items < 5000)]
    assert len(set(big.tolist())) == len(big) == 1700


def test_a_mixture_follows_from_seed_and_epoch_alone():
    def items(seed, epoch):
        return Mixture(STARTS, "temperature", seed=seed).items(epoch).tolist()

    assert items(1, 2) == items(1, 2)
    assert items(1, 2) != items(1, 3) and items(1, 2) != items(2, 2)
    in_order = Mixture(STARTS, "round-robin", shuffle=False).items(0)
    assert in_order[:6].tolist() == [0, 1000, 5000, 1, 1001, 5001]


def test_concat_draws_from_all_and_ranks_share_the_draws(manifests):
    options = {"is_concat": True, "concat_sampling_technique": "round-robin", "concat_sampling_scale": 2}
    one = load(manifests, **options)
    assert one.plan.count == 32 and one.num_batches(0) == 16 == len(planned(one))
    drawn = sorted(chain.from_iterable(planned(one)))
    ranks = [load(manifests, rank=rank, world_size=2, **options) for rank in range(2)]
    assert sorted(chain.from_iterable(batch for r in ranks for batch in planned(r))) == drawn
    assert sum(item < 3 for item in drawn) == 11  # every third of 32, beginning with the first
    assert [len(batch.audio) for batch in one.batches(0)] == [2] * 16


def test_concat_gives_the_batch_augmentor_on(manifests):
    def silence(batch, rng):
        batch.noisy_audio = batch.audio * 0
        return batch

    section = {"manifest_filepath": manifests, "sample_rate": 16000, "batch_size": 4, "is_concat": True}
    loader = ssl_data_from_config(section, seed=1, batch_augmentor=silence)
    assert all(not batch.noisy_audio.any() for batch in loader.batches(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concat_sampling_technique": "other"}, "one of temperature, random, round-robin, not 'other'"),
        ({"concat_sampling_technique": "random", "concat_sampling_probabilities": [0.5, 0.6, 0.1]},
         "concat_sampling_probabilities must add up to 1, not 1.2"),
        ({"concat_sampling_technique": "random", "concat_sampling_probabilities": [0.5, 0.5]},
         "a positive number for each of the 3 manifests"),
        ({"concat_sampling_temperature": 0}, "concat_sampling_temperature must be positive, not 0"),
        ({"concat_sampling_scale": 0.001}, "concat_sampling_scale 0.001 leaves no utterance of 16"),
    ],
)  # fmt: skip
def test_a_mixture_that_cannot_be_drawn_is_refused(manifests, options, message):
    with pytest.raises(ValueError, match=message):
        load(manifests, is_concat=True, **options)


def test_batches_of_bucketing_lists_come_from_one_bucket(manifests):
    buckets = [[path] for path in manifests]
    for strategy in ("fixed_order", "synced_randomized", "fully_randomized"):
        for epoch in range(3):
            batches = planned(load(buckets, bucketing_strategy=strategy), epoch)
            found = [{0 if i < 3 else 1 if i < 8 else 2 for i in batch} for batch in batches]
            assert all(len(bucket) == 1 for bucket in found)
            assert sorted(chain.from_iterable(batches)) == list(range(16))
            order = [bucket.pop() for bucket in found]
            changes = sum(a != b for a, b in pairwise(order))
            if strategy == "fixed_order":
                assert order == sorted(order)
            if strategy == "synced_randomized":
                assert changes == 2


def test_the_order_of_buckets_differs_by_epoch_and_is_one_for_all_ranks(manifests):
    buckets = [[path] for path in manifests]

    def order(rank, epoch):
        batches = planned(load(buckets, rank=rank, world_size=2), epoch)
        return [0 if b[0] < 3 else 1 if b[0] < 8 else 2 for b in batches]

    assert [order(0, epoch) for epoch in range(6)] == [order(1, epoch) for epoch in range(6)]
    assert len({tuple(order(0, epoch)) for epoch in range(6)}) > 1


def test_bucketing_weights_repeat_a_bucket_and_batch_sizes_scale(manifests):
    buckets = [[path] for path in manifests]
    loader = load(buckets, batch_size=1, bucketing_batch_size=2, bucketing_weights=[3, 1, 1])
    batches = planned(loader)
    assert loader.num_batches(0) == len(batches) == 2 + 2 + 4  # 9 by 6, 5 by 4, 8 by 2
    assert sorted(chain.from_iterable(batches)) == sorted([0, 1, 2] * 3 + list(range(3, 16)))
    assert bucket_batch_sizes(2, 3, 1, "t") == [6, 4, 2]  # NeMo's linear scaling
    with pytest.raises(ValueError, match="batch_size must be 1 or null where bucketing_batch_size is given"):
        load(buckets, bucketing_batch_size=2)
    with pytest.raises(ValueError, match="bucketing_weights must be a whole number above 0 for each"):
        load(buckets, bucketing_weights=[1, 2])


def test_quadratic_duration_and_bins_bound_the_batches():
    durations = np.random.default_rng(0).uniform(1, 20, 3000).astype(np.float32)
    plan = BatchPlan(durations, batch_duration=100, quadratic_duration=10)
    epoch = plan.epoch(0)
    for b in range(len(epoch)):
        longest = float(durations[epoch.items(b)].max())
        assert len(epoch.items(b)) * (longest + longest**2 / 10) <= 100 * (1 + 1e-6)
    assert sorted(epoch.order.tolist()) == list(range(3000))
    bins = [(5.0, 16), (10.0, 8), (20.0, 3)]
    plan = BatchPlan(durations, bin_sizes=bins)
    epoch = plan.epoch(0)
    assert plan.num_batches(0) == len(epoch)
    for b in range(len(epoch)):
        longest = durations[epoch.items(b)].max()
        assert len(epoch.items(b)) <= next(size for edge, size in bins if longest <= np.float32(edge))
    assert max(len(epoch.items(b)) for b in range(len(epoch))) == 16


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a_{0..2}.tar", ["a_0.tar", "a_1.tar", "a_2.tar"]),
        ("a__OP_08..10_CL_.tar", ["a_08.tar", "a_09.tar", "a_10.tar"]),
        ("a_(2..0..2)[x,y]", ["a_2x", "a_2y", "a_0x", "a_0y"]),
        ("<a..c>", ["a", "b", "c"]),
        ("{p{1,2},q}", ["p1", "p2", "q"]),
        ("plain.json", ["plain.json"]),
    ],
)
def test_patterns_stand_for_paths(pattern, paths):
    assert expand_paths(pattern, "k") == paths


def test_patterns_that_cannot_be_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"k: the braces of 'a_\{1' do not match"):
        expand_paths("a_{1", "k")
    monkeypatch.setattr("nest_ssl.data.braces.MAX_PATHS", 100)
    with pytest.raises(ValueError, match="more than 100 paths"):
        expand_paths("{0..99999}{0..99999}{0..99999}", "k")
    (tmp_path / "a(1).json").touch()
    assert expand_paths(f"{tmp_path}/a(1).json", "k") == [f"{tmp_path}/a(1).json"]
    assert split_commas("a_{1,2}, b_OP_3,4_CL_") == ["a_{1,2}", "b_OP_3,4_CL_"]


def test_max_utts_takes_the_first_rows_that_pass(manifests):
    facts = load(",".join(manifests), max_utts=5, min_duration=1.5).describe()
    assert facts["utterances"] == 5
    assert facts["dropped"] == {"shorter than min_duration 1.5": 3, "beyond max_utts 5": 8}
