"""FunASR's samplers list by list, for each world size, rank and epoch, in training and validation."""

import random

from nest_ssl.data.fun_asr_sampler import FunASRBatchSampler
from tests.golden.funasr_set import needs_goldens, results

pytestmark = needs_goldens
BASE = {"batch_type": "token", "batch_size": 6000, "max_token_length": 3500, "batch_size_sample_max": 10}
# Name -> what differs from BASE, and the start_step.
CASES = {
    "token_sorted": ({"sort_size": 16}, 0),
    "token_sorted_maxtok1500": ({"sort_size": 16, "max_token_length": 1500}, 0),
    "token_unsorted": ({"sort_size": 0}, 0),
    "example": ({"batch_type": "example", "batch_size": 4, "sort_size": 16}, 0),
    "token_default_maxtok": ({"sort_size": 1024, "batch_size": 4000, "max_token_length": None}, 0),
    "start_step2": ({"sort_size": 16}, 2),
}


def sampler(
    case: str, lengths: list[int], draws: random.Random | None
) -> tuple[FunASRBatchSampler, int, int]:
    name, world, rank, training, epoch = case.split("|")
    conf, start = CASES[name]
    made = FunASRBatchSampler(
        lengths,
        BASE | conf,
        rank=int(rank[4:]),
        world_size=int(world[2:]),
        training=training == "train1",
        draws=draws,
    )
    return made, int(epoch[5:]), start


def test_every_batch_is_funasrs():
    reference = results("sampler")
    draws = random.Random()  # one generator for all, in the order in which FunASR ran
    assert len(reference["batches"]) == 72
    wrong = []
    for case, expected in reference["batches"].items():
        made, epoch, start = sampler(case, reference["source_len"], draws)
        if made.batches(epoch, start) != expected:
            wrong.append(case)
    assert wrong == []


def test_without_a_generator_training_is_funasrs_and_validation_repeats_itself():
    reference = results("sampler")
    for case, expected in reference["batches"].items():
        made, epoch, start = sampler(case, reference["source_len"], None)
        if "train1" in case:
            assert made.batches(epoch, start) == expected
        assert made.batches(epoch, start) == made.batches(epoch, start)
