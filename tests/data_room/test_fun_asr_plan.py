"""Plans of fine-tuning data: budgets that split, FunASR's order with every rank at every step."""

import numpy as np
import pytest

from nest_ssl.data.fun_asr_plan import FunASRPlan, TokenPlan
from nest_ssl.data.fun_asr_sampler import FunASRBatchSampler
from nest_ssl.data.plan import BatchPlan
from nest_ssl.data.selections import Listed

COUNT = 97


@pytest.fixture
def lengths():
    draws = np.random.RandomState(5)
    frames = draws.randint(30, 900, COUNT)
    return frames, (frames / 100).astype(np.float32), draws.randint(20, 200, COUNT)


def batches(plan, epoch=0):
    made = plan.epoch(epoch)
    return [made.items(b).tolist() for b in range(len(made))]


def items(found):
    return sorted(item for batch in found for item in batch)


@pytest.mark.parametrize("token_max", [150, 600])
def test_no_batch_is_above_either_budget_and_nothing_is_dropped(token_max, lengths):
    frames, seconds, tokens = lengths
    plan = TokenPlan(frames.astype(np.float32), seconds, tokens, token_max, batch_duration=2000, batch_size=9)
    found = batches(plan)
    assert items(found) == list(range(COUNT))
    for batch in found:
        assert len(batch) == 1 or frames[batch].max() * len(batch) <= 2000
        assert len(batch) == 1 or tokens[batch].max() * len(batch) <= token_max
        assert len(batch) <= 9
    # and no batch could have taken the first of the next one that was cut
    made = plan.epoch(0)
    for b in range(len(made.bounds) - 2):
        wider = made.order[made.bounds[b] : made.bounds[b + 1] + 1]
        fits = frames[wider].max() * len(wider) <= 2000 and tokens[wider].max() * len(wider) <= token_max
        assert not (fits and len(wider) <= 9)


def test_without_a_second_budget_it_is_the_projects_plan(lengths):
    frames, seconds, tokens = lengths
    for options in ({"batch_duration": 12.5}, {"batch_size": 4}):
        ours = TokenPlan(seconds, seconds, tokens, None, seed=3, **options)
        assert batches(ours, 2) == batches(BatchPlan(seconds, seed=3, **options), 2)
    many = TokenPlan(frames.astype(np.float32), seconds, tokens, 10**9, batch_duration=2000)
    assert batches(many) == batches(BatchPlan(frames.astype(np.float32), batch_duration=2000))


def test_seconds_are_seconds_whatever_the_budget_counts(lengths):
    frames, seconds, tokens = lengths
    plan = TokenPlan(frames.astype(np.float32), seconds, tokens, 600, batch_duration=2000)
    made = plan.epoch(0)
    total, padded = plan.seconds(made)
    assert total == pytest.approx(seconds.sum(), rel=1e-5)
    cut = made.order[made.bounds[0] : made.bounds[1]]
    assert padded[0] == pytest.approx(seconds[cut].max() * len(cut))


def test_a_selection_leaves_the_others_out(lengths):
    frames, seconds, tokens = lengths
    kept = np.flatnonzero(tokens < 150)
    plan = TokenPlan(
        frames.astype(np.float32), seconds, tokens, 600, batch_duration=2000, selection=Listed(kept)
    )
    assert items(batches(plan)) == kept.tolist()


CONF = {"batch_type": "token", "batch_size": 2000, "sort_size": 16, "max_token_length": 800}


def test_funasrs_plan_is_funasrs_sampler(lengths):
    frames, seconds, tokens = lengths
    for rank in (0, 1):
        plan = FunASRPlan(frames, seconds, tokens, CONF, rank=rank, world_size=2)
        sampler = FunASRBatchSampler(frames.tolist(), CONF, rank=rank, world_size=2)
        for epoch in (0, 4):
            assert batches(plan, epoch) == [b for b in sampler.batches(epoch) if b]
            assert plan.num_batches(epoch) == len(batches(plan, epoch))


@pytest.mark.parametrize(
    "conf", [CONF, CONF | {"sort_size": 0}, CONF | {"batch_type": "example", "batch_size": 3}]
)
def test_in_training_every_rank_has_as_many_batches(conf, lengths):
    frames, seconds, tokens = lengths
    allowed = tokens < 180
    plans = [
        FunASRPlan(
            frames, seconds, tokens, conf, allowed=allowed, token_max=500, rank=rank, world_size=3,
            slices=[(0, 40), (40, COUNT)],
        )
        for rank in range(3)
    ]  # fmt: skip
    found = [batches(plan, 1) for plan in plans]
    assert len({len(rank) for rank in found}) == 1
    seen = {item for rank in found for batch in rank for item in batch}
    assert seen == set(np.flatnonzero(allowed & (frames <= 800)))
    for rank in found:
        assert all(len(batch) == 1 or tokens[batch].max() * len(batch) <= 500 for batch in rank)


def test_a_first_item_above_the_budget_makes_no_empty_batch(lengths):
    conf = {"batch_type": "token", "batch_size": 10, "sort_size": 4, "max_token_length": 100}
    sampler = FunASRBatchSampler([20, 30], conf)
    assert [] in sampler.batches(0)  # FunASR's, on which its collator fails
    plan = FunASRPlan(np.array([20, 30]), np.ones(2, np.float32), np.array([5, 5]), conf)
    assert items(batches(plan)) == [0, 1] and [] not in batches(plan)


def test_a_sampler_that_leaves_nothing_is_refused(lengths):
    frames, seconds, tokens = lengths
    with pytest.raises(ValueError, match="raise max_token_length"):
        FunASRPlan(frames, seconds, tokens, CONF | {"max_token_length": 3}).epoch(0)
