from __future__ import annotations

import datetime
import os
import signal
import time
from pathlib import Path

import pytest

from nest_ssl.config import load_config, resolved
from nest_ssl.training.options import CheckpointOptions, ExperimentOptions, TrainerOptions
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
        ({"fast_dev_run": True}, r"trainer\.fast_dev_run: True is not supported"),
        ({**STEPS, "limit_train_batches": 100}, r"limit_train_batches: 100 is not supported; all data"),
        ({**STEPS, "resume_from_checkpoint": "a.ckpt"}, "take init_from_ptl_ckpt"),
        ({}, "max_steps and trainer.max_epochs are both -1"),
        ({**STEPS, "precision": 16}, "float16 needs loss scaling"),
        ({**STEPS, "strategy": "fsdp"}, r"trainer\.strategy: 'fsdp' is not one of auto, ddp"),
        ({**STEPS, "accelerator": "tpu"}, r"trainer\.accelerator: 'tpu'"),
        ({**STEPS, "logger": True}, r"trainer\.logger: exp_manager makes them"),
        ({**STEPS, "val_check_interval": 0}, "val_check_interval: 0"),
        ({**STEPS, "val_check_interval": 1.5}, "val_check_interval: 1.5"),
        ({**STEPS, "accumulate_grad_batches": 0}, "at least 1"),
        ({**STEPS, "loss_weighting": "tokens"}, "not one of frames, nemo"),
        ({"max_steps": "ten"}, r"trainer\.max_steps: 'ten' is not of the type int"),
        ({**STEPS, "gradient_clip_val": "x"}, r"trainer\.gradient_clip_val: 'x' is not of the type float"),
        ({**STEPS, "gradient_clip_val": -1}, r"gradient_clip_val: -1 must be at least 0"),
        ({**STEPS, "enable_progress_bar": "no"}, r"'no' is not of the type bool"),
        ({**STEPS, "seed": True}, r"trainer\.seed: True is not of the type int"),
        ({**STEPS, "check_val_every_n_epoch": 0}, r"check_val_every_n_epoch: 0 must be at least 1"),
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
        ({"create_wandb_logger": True}, r"create_wandb_logger: True is not supported; set it to false"),
        ({"ema": {"enable": True}}, r"exp_manager\.ema is not supported"),
        ({"checkpoint_callback_params": {"save_topk": 1}}, "did you mean save_top_k"),
        ({"checkpoint_callback_params": {"mode": "lowest"}}, "not one of min, max"),
        ({"create_checkpoint_callback": False}, "must be true"),
        ({"checkpoint_callback_params": {"save_last": False}}, "must be true"),
        ({"checkpoint": 1}, r"exp_manager\.checkpoint is not supported"),
    ],
)
def test_an_exp_manager_key_that_cannot_be_honoured_is_refused_by_name(section, message):
    with pytest.raises(ValueError, match=message):
        ExperimentOptions.from_config(section)


def test_keys_of_nemos_other_yamls_that_ask_for_nothing_are_taken():
    old = {"progress_bar_refresh_rate": 10, "amp_level": "O0", "checkpoint_callback": False}
    options = TrainerOptions.from_config(
        {**STEPS, **old, "resume_from_checkpoint": None, "strategy": "ddp_find_unused_parameters_true"}
    )
    assert options.max_steps == 10
    wandb = {"create_wandb_logger": False, "wandb_logger_kwargs": {"name": None, "project": None}}
    section = {**wandb, "name": "NEST", "resume_from_checkpoint": None, "ema": {"enable": False}}
    assert ExperimentOptions.from_config(section).name == "NEST"


def test_null_leaves_a_default_and_every_field_is_read_somewhere(checkout):
    options = TrainerOptions.from_config({"max_epochs": 2, "max_steps": None, "seed": None})
    assert (options.max_steps, options.seed) == (-1, 0)
    code = "".join(path.read_text() for path in (checkout / "nest_ssl").rglob("*.py"))
    for cls in (TrainerOptions, ExperimentOptions, CheckpointOptions):
        for name in cls.__dataclass_fields__:
            assert f".{name}" in code or f'"{name}"' in code, f"{cls.__name__}.{name} has no effect"


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
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:  # as a data worker that outlives its trainer
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(told, 1)
    with pytest.raises(ValueError, match="is being written by process"):
        RunLock(tmp_path)
    lock.release()
    RunLock(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"run directory .*file/run cannot be written.*explicit_log_dir"):
        RunLock(tmp_path / "file" / "run")


def test_a_changed_configuration_is_listed_key_by_key(tmp_path):
    assert write_configuration(tmp_path, "a: {b: 1, c: 2}\n") == []
    assert write_configuration(tmp_path, "a: {b: 1, c: 3, d: 4}\n") == ["a.c: 2 -> 3", "a.d: absent -> 4"]
