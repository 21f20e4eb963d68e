"""The order of batches: a pure function in which every utterance has its place."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.data.plan import BatchPlan

durations_of = st.lists(st.floats(0.5, 30, width=32), min_size=1, max_size=120).map(
    lambda values: np.array(values, np.float32)
)
sizes = st.one_of(
    st.fixed_dictionaries({"batch_size": st.integers(1, 9)}),
    st.fixed_dictionaries({"batch_duration": st.floats(1, 90)}),
    st.fixed_dictionaries({"batch_size": st.integers(1, 9), "batch_duration": st.floats(1, 90)}),
)
flags = st.fixed_dictionaries(
    {"shuffle": st.booleans(), "use_bucketing": st.booleans(), "seed": st.integers(0, 2**40)}
)
few = settings(max_examples=60, deadline=None, derandomize=True)


def ranks(durations, world_size, epoch=0, **options):
    """Lists of batches (lists of items), one list per rank."""
    result = []
    for rank in range(world_size):
        plan = BatchPlan(durations, rank=rank, world_size=world_size, **options).epoch(epoch)
        result.append([plan.items(b).tolist() for b in range(len(plan))])
    return result


def flat(batches):
    return [item for batch in batches for item in batch]


def prompts(count: int) -> np.ndarray:
    """Durations as the prompts have them (5 % .5 s, median 1.4 s, 95 % 7 s, at most 70 s), of 1..20 s."""
    z = np.random.default_rng(0).standard_normal(count)
    spread = np.where(z > 0, math.log(7 / 1.4), math.log(1.4 / 0.5)) / 1.645
    durations = np.minimum(1.4 * np.exp(z * spread), 70)
    return durations[(durations >= 1) & (durations <= 20)].astype(np.float32)


@few
@given(durations_of, sizes, flags, st.integers(0, 5))
def test_every_utterance_comes_exactly_once_without_drop_last(durations, size, flag, epoch):
    (batches,) = ranks(durations, 1, epoch, **size, **flag)
    assert sorted(flat(batches)) == list(range(len(durations)))


@few
@given(durations_of, sizes, flags, st.integers(2, 5), st.integers(0, 5))
def test_ranks_get_equally_many_batches_and_share_none_but_the_counted(durations, size, flag, world, epoch):
    per_rank = ranks(durations, world, epoch, **size, **flag)
    assert len({len(batches) for batches in per_rank}) == 1
    everything = flat(batch for batches in per_rank for batch in batches)
    assert set(everything) == set(range(len(durations)))
    plan = BatchPlan(durations, world_size=world, **size, **flag).epoch(epoch)
    cut = [tuple(plan.order[a:b].tolist()) for a, b in zip(plan.bounds[:-1], plan.bounds[1:], strict=True)]
    given_out = [tuple(batch) for batches in per_rank for batch in batches]
    assert len(given_out) == len(cut) + plan.repeated_batches
    assert plan.repeated_batches < world
    assert set(given_out) == set(cut)


@few
@given(durations_of, sizes, flags, st.integers(1, 4), st.integers(0, 5))
def test_drop_last_repeats_nothing_and_counts_what_it_leaves_out(durations, size, flag, world, epoch):
    try:
        per_rank = ranks(durations, world, epoch, drop_last=True, **size, **flag)
    except ValueError as error:
        assert "drop_last" in str(error)
        return
    assert len({len(batches) for batches in per_rank}) == 1
    everything = flat(batch for batches in per_rank for batch in batches)
    assert len(set(everything)) == len(everything)
    plan = BatchPlan(durations, world_size=world, drop_last=True, **size, **flag).epoch(epoch)
    assert plan.dropped_utterances == len(durations) - len(everything)
    assert plan.repeated_batches == 0
    if "batch_duration" not in size:
        assert all(len(batch) == size["batch_size"] for batches in per_rank for batch in batches)


@few
@given(durations_of, sizes, flags, st.integers(1, 4), st.booleans())
def test_validation_gives_each_utterance_to_one_rank_once(durations, size, flag, world, shuffle):
    per_rank = ranks(durations, world, 0, training=False, **size, **flag)
    assert sorted(flat(batch for batches in per_rank for batch in batches)) == list(range(len(durations)))
    counts = [len(batches) for batches in per_rank]
    assert max(counts) - min(counts) <= 1


@few
@given(durations_of, flags, st.floats(1, 90), st.one_of(st.none(), st.integers(1, 9)))
def test_a_batch_by_seconds_is_over_its_limit_only_if_it_holds_one_utterance(durations, flag, limit, most):
    plan = BatchPlan(durations, batch_duration=limit, batch_size=most, **flag)
    over = 0
    epoch = plan.epoch(0)
    for b in range(len(epoch)):
        items = epoch.items(b)
        padded = float(durations[items].max()) * len(items)
        if padded > limit:
            assert len(items) == 1
            over += 1
        assert most is None or len(items) <= most
    assert over == sum(float(d) > limit for d in durations) == plan.count_over_long()


@few
@given(durations_of, sizes, flags, st.integers(1, 3), st.booleans(), st.booleans())
def test_num_batches_is_the_length_of_the_plan(durations, size, flag, world, drop_last, training):
    for rank in range(world):
        try:
            plan = BatchPlan(
                durations, rank=rank, world_size=world, drop_last=drop_last, training=training, **size, **flag
            )
            assert plan.num_batches(3) == len(plan.epoch(3))
        except ValueError as error:
            assert "drop_last" in str(error)


def test_the_plan_is_a_pure_function_of_seed_and_epoch():
    durations = prompts(300)
    first = ranks(durations, 2, epoch=7, batch_size=4, seed=1)
    again = BatchPlan(durations, batch_size=4, seed=1, world_size=2, rank=1)
    for epoch in (3, 0, 9):
        again.epoch(epoch)
    plan = again.epoch(7)
    assert [plan.items(b).tolist() for b in range(len(plan))] == first[1]
    assert first != ranks(durations, 2, epoch=8, batch_size=4, seed=1)
    assert first != ranks(durations, 2, epoch=7, batch_size=4, seed=2)


def test_the_plan_is_the_same_on_every_machine():
    """Golden of this code: changing it would make runs that go on from a checkpoint see other batches."""
    durations = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], np.float32)
    plan = BatchPlan(durations, batch_size=3, seed=5, duration_jitter=0.5).epoch(2)
    assert [plan.items(b).tolist() for b in range(len(plan))] == [
        [0, 6, 4],
        [7, 5, 11],
        [10, 2, 8],
        [3, 1, 9],
    ]


def test_batches_hold_other_utterances_in_every_epoch():
    durations = prompts(400)
    plan = BatchPlan(durations, batch_size=8)

    def content(epoch):
        planned = plan.epoch(epoch)
        return {frozenset(planned.items(b).tolist()) for b in range(len(planned))}

    assert len(content(0) & content(1)) < len(content(0)) / 4


@pytest.mark.parametrize("size", [{"batch_size": 8}, {"batch_size": 16}, {"batch_duration": 60}])
def test_padding_of_the_prompts_is_below_five_percent(size):
    plan = BatchPlan(prompts(2600), **size)
    shares = []
    for epoch in range(3):
        planned = plan.epoch(epoch)
        padded = sum(
            len(planned.items(b)) * float(plan.durations[planned.items(b)].max()) for b in range(len(planned))
        )
        shares.append(1 - float(plan.durations.sum(dtype=np.float64)) / padded)
        assert plan.padding_share(planned) == pytest.approx(shares[-1], abs=1e-6)
    assert max(shares) < 0.05


def test_without_bucketing_padding_is_what_a_plain_loader_has():
    plan = BatchPlan(prompts(2600), batch_size=8, use_bucketing=False)
    assert plan.padding_share(plan.epoch(0)) > 0.3


def test_ranks_get_like_lengths_at_each_step():
    durations = prompts(3000)
    per_rank = ranks(durations, 4, batch_size=4)
    longest = np.array([[durations[batch].max() for batch in batches] for batches in per_rank])
    assert np.median(longest.max(axis=0) / longest.min(axis=0)) < 1.1
    assert (longest.argmin(axis=0) == 0).mean() < 0.5  # no rank always has the shortest


def test_manifest_order_without_shuffle_and_bucketing():
    (batches,) = ranks(prompts(30), 1, batch_size=4, shuffle=False, use_bucketing=False)
    assert flat(batches) == list(range(len(prompts(30))))


def test_fixed_order_is_longest_first_and_the_same_in_every_epoch():
    durations = np.array([2, 9, 4, 9, 1], np.float32)
    for epoch in (0, 5):
        assert ranks(durations, 1, epoch, batch_size=2, shuffle=False) == [[[1, 3], [2, 0], [4]]]


def test_nobody_is_left_out_for_ever_by_drop_last():
    durations = prompts(150)
    left_out = np.zeros(len(durations), int)
    plan = BatchPlan(durations, batch_size=16, drop_last=True)
    remainder = len(durations) % 16
    epochs = math.ceil(len(durations) / remainder)
    for epoch in range(epochs):
        planned = plan.epoch(epoch)
        items = set(flat(planned.items(b).tolist() for b in range(len(planned))))
        left_out[[i for i in range(len(durations)) if i not in items]] += 1
    assert left_out.max() <= 2 and left_out.min() >= 1


def test_fewer_utterances_than_a_step_names_numbers_and_keys():
    with pytest.raises(
        ValueError, match=r"model.train_ds: 5 utterances .* 16 .*batch_size 8 on 2 ranks.*drop_last=false"
    ):
        BatchPlan(prompts(60)[:5], batch_size=8, world_size=2, drop_last=True, name="model.train_ds")
    with pytest.raises(ValueError, match=r"1 batches of 60 s are fewer than the 2 ranks"):
        BatchPlan(np.ones(3, np.float32), batch_duration=60, world_size=2, drop_last=True).epoch(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "batch_size .* or batch_duration"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_duration": -1.0}, "batch_duration must be positive"),
        ({"batch_size": 2, "duration_jitter": 1.0}, r"duration_jitter must be in \[0, 1\)"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BatchPlan(np.ones(4, np.float32), **options)
