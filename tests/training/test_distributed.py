from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch

from nest_ssl.training.distributed import given_ranks, launch
from nest_ssl.training.options import TrainerOptions
from tests.training.toy import ToyData, ToyModel, make_trainer


def test_without_a_launcher_no_ranks_are_given():
    assert given_ranks({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) is None  # inside sbatch, outside srun


def test_torchrun_and_srun_are_understood():
    torchrun = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert given_ranks(torchrun) == (3, 1, 4, "env://")
    srun = {
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "2",
        "MASTER_ADDR": "n1",
    }
    assert given_ranks(srun) == (5, 1, 8, f"tcp://n1:{12000 + 7 * 31 + 2}")


def options(**given) -> TrainerOptions:
    return TrainerOptions.from_config({"accelerator": "cpu", "max_steps": 1, **given})


def test_several_nodes_need_a_launcher():
    with pytest.raises(ValueError, match=r"num_nodes 2: several nodes need a launcher"):
        launch(lambda ranks, _: 0, None, options(num_nodes=2))


def test_impossible_devices_are_refused():
    with pytest.raises(ValueError, match="devices: 'two'"):
        launch(lambda ranks, _: 0, None, options(devices="two"))


def test_minus_1_on_a_cpu_is_this_process():
    pid = os.getpid()
    assert launch(lambda ranks, _: int(os.getpid() != pid or ranks.world_size != 1), None, options()) == 0


def train_on_two_ranks(ranks, folder) -> int:
    data = ToyData(count=3, rank=ranks.rank, world_size=2)
    trainer = make_trainer(
        Path(folder), ToyModel(norm=False), data, ToyData(1), ranks, max_steps=1, accumulate_grad_batches=3
    )
    trainer.fit(None)
    return 0


def test_two_ranks_weigh_every_frame_alike(tmp_path):
    """Ranks and micro-batches of unequal length give the gradient of one batch with all their frames."""
    assert launch(train_on_two_ranks, str(tmp_path), options(devices=2)) == 0
    reference = ToyModel(norm=False)
    trained = make_trainer(tmp_path, copy.deepcopy(reference), ToyData(3, 0, 2), max_steps=1)
    trained.resume()
    x = torch.cat([ToyData(3, rank, 2).batch(0, number).x for rank in (0, 1) for number in range(3)])
    (reference.out(reference.linear(x)).squeeze(1) - x.mean(dim=1)).square().mean().backward()
    torch.optim.AdamW(reference.parameters(), lr=0.01).step()
    for got, wanted in zip(trained.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def fail_on_rank_1(ranks, _) -> int:
    if ranks.rank == 1:
        raise ValueError("x.jsonl:3: audio_filepath a.flac does not exist")
    ranks.wait()
    return 0


def test_a_failing_rank_ends_the_others_and_names_the_fault(capfd):
    assert launch(fail_on_rank_1, None, options(devices=2)) == 1
    assert "rank 1: error: x.jsonl:3: audio_filepath a.flac does not exist" in capfd.readouterr().err


def status_7(ranks, _) -> int:
    ranks.wait()
    return 7


def test_the_status_of_the_ranks_is_given():
    assert launch(status_7, None, options(devices=2)) == 7
