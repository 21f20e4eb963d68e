from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from nest_ssl.config import load_config, resolved
from nest_ssl.training.options import ExperimentOptions, TrainerOptions
from nest_ssl.training.run_directory import RunLock, log_directory, write_configuration

STEPS = {"max_steps": 10}


def test_the_stock_yaml_is_honoured_key_by_key(checkout):
    config = load_config(checkout / "conf" / "nest_fast-conformer.yaml")
    options = TrainerOptions.from_config(resolved(config.trainer))
    assert (options.max_steps, options.val_check_interval, options.devices) == (500000, 2500, -1)
    assert not options.autocast_bf16
    experiment = ExperimentOptions.from_config(resolved(config.exp_manager))
    assert experiment.checkpoint.save_top_k == 1
    assert experiment.checkpoint.filename == "SSL-NEST-FastConformer--{val_loss:.3f}-{step}"
    assert experiment.checkpoint.always_save_nemo


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"max_step": 3}, r"trainer\.max_step is not supported; did you mean max_steps"),
        ({"fast_dev_run": True}, r"trainer\.fast_dev_run is not supported"),
        ({}, "max_steps and trainer.max_epochs are both -1"),
        ({**STEPS, "precision": 16}, "float16 needs loss scaling"),
        ({**STEPS, "strategy": "fsdp"}, r"trainer\.strategy: 'fsdp' is not one of auto, ddp"),
        ({**STEPS, "accelerator": "tpu"}, r"trainer\.accelerator: 'tpu'"),
        ({**STEPS, "logger": True}, r"trainer\.logger: exp_manager makes them"),
        ({**STEPS, "val_check_interval": 0}, "val_check_interval: 0"),
        ({**STEPS, "val_check_interval": 1.5}, "val_check_interval: 1.5"),
        ({**STEPS, "accumulate_grad_batches": 0}, "at least 1"),
        ({**STEPS, "loss_weighting": "tokens"}, "not one of frames, nemo"),
    ],
)
def test_a_trainer_key_that_cannot_be_honoured_is_refused_by_name(section, message):
    with pytest.raises(ValueError, match=message):
        TrainerOptions.from_config(section)


@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed"])
def test_bf16_is_known_by_both_names(precision):
    assert TrainerOptions.from_config({**STEPS, "precision": precision}).autocast_bf16


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"create_wandb_logger": True}, "Weights & Biases is not supported"),
        ({"ema": {"enable": True}}, r"exp_manager\.ema is not supported"),
        ({"checkpoint_callback_params": {"save_topk": 1}}, "did you mean save_top_k"),
        ({"checkpoint_callback_params": {"mode": "lowest"}}, "not one of min, max"),
    ],
)
def test_an_exp_manager_key_that_cannot_be_honoured_is_refused_by_name(section, message):
    with pytest.raises(ValueError, match=message):
        ExperimentOptions.from_config(section)


def test_the_run_directory_follows_nemos_rule():
    now = datetime.datetime(2026, 11, 21, 19, 40, 1)

    def folder(**options):
        return log_directory(ExperimentOptions.from_config(options), now)

    assert folder(name="NEST", resume_if_exists=True) == Path("nemo_experiments/NEST")
    assert folder(name="NEST", exp_dir="/x") == Path("/x/NEST/2026-11-21_19-40-01")
    assert folder(name="NEST", exp_dir="/x", version="v1", resume_if_exists=True) == Path("/x/NEST/v1")
    assert folder(name="NEST", explicit_log_dir="/y") == Path("/y")


def test_a_second_run_on_the_same_directory_is_refused(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(ValueError, match="is being written by process"):
        RunLock(tmp_path)
    del lock
    RunLock(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"run directory .*file/run cannot be written.*explicit_log_dir"):
        RunLock(tmp_path / "file" / "run")


def test_a_changed_configuration_is_listed_key_by_key(tmp_path):
    assert write_configuration(tmp_path, "a: {b: 1, c: 2}\n") == []
    assert write_configuration(tmp_path, "a: {b: 1, c: 3, d: 4}\n") == ["a.c: 2 -> 3", "a.d: absent -> 4"]
