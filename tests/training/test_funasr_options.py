"""FunASR's train_conf as options of the loop, and what of it is refused."""

from __future__ import annotations

import pytest

from nest_ssl.training.funasr_options import optimizer_section, scheduler_section, train_options
from nest_ssl.training.optim import build_optimizer
from nest_ssl.training.schedulers import build_schedule

PUBLISHED = {
    "accum_grad": 1, "grad_clip": 5, "max_epoch": 2, "keep_nbest_models": 200, "log_interval": 100,
    "validate_interval": 2000, "save_checkpoint_interval": 2000, "avg_nbest_model": 100, "use_bf16": False,
    "use_deepspeed": False, "deepspeed_config": None, "save_init_model": False, "resume": True,
    "effective_save_name_excludes": ["llm."],
}  # fmt: skip


def test_the_published_section_means_what_it_means_in_funasr():
    trainer, experiment, values = train_options(PUBLISHED, seed=7)
    assert (trainer.max_epochs, trainer.max_steps, trainer.seed) == (2, -1, 7)
    assert (trainer.accumulate_grad_batches, trainer.gradient_clip_val) == (1, 5.0)
    assert (trainer.val_check_interval, trainer.val_at_epoch_end) == (2000, True)
    assert trainer.precision == "32"
    checkpoint = experiment.checkpoint
    assert (checkpoint.save_top_k, checkpoint.every_n_train_steps) == (200, 2000)
    assert (checkpoint.monitor, checkpoint.mode) == ("val_loss", "min")
    assert experiment.resume_if_exists
    assert values["avg_nbest_model"] == 100


def test_the_best_are_chosen_by_accuracy_where_funasr_is_told_so():
    checkpoint = train_options({**PUBLISHED, "avg_keep_nbest_models_type": "acc"}, 0)[1].checkpoint
    assert (checkpoint.monitor, checkpoint.mode) == ("val_acc", "max")
    checkpoint = train_options({**PUBLISHED, "monitor": "val_ctc_cer"}, 0)[1].checkpoint
    assert (checkpoint.monitor, checkpoint.mode) == ("val_ctc_cer", "min")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"use_deepspeed": True}, "train_conf.use_deepspeed: True is not supported; set it to false"),
        ({"use_fp16": True}, r"set train_conf\.use_bf16=true"),
        ({"max_step": 5}, r"train_conf\.max_step is not supported; did you mean max_steps\?"),
        ({"use_lora": True}, r"set llm_conf\.use_lora=true"),
        ({"grad_clip": "5"}, "train_conf.grad_clip: '5' is not of the type float"),
        ({"max_epoch": None}, "one of them must be set"),
        ({"max_steps": 0}, "0 would train nothing"),
        ({"monitor": "loss"}, "is no figure of the validation"),
        ({"accum_grad": 0}, "train_conf.accum_grad: 0 must be at least 1"),
        ({"mode": "best"}, "neither min nor max"),
    ],
)
def test_what_is_not_there_is_refused_by_name(section, message):
    with pytest.raises(ValueError, match=message):
        train_options({**PUBLISHED, **section}, 0)


def test_optimiser_and_schedule_have_funasrs_defaults_and_refuse_odd_keys():
    import torch

    assert optimizer_section({"optim_conf": {"lr": 1e-4}}) == {"name": "adam", "lr": 1e-4}
    assert scheduler_section({})["name"] == "warmuplr"
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]}]
    with pytest.raises(ValueError, match=r"optim_conf\.weight_decai"):
        build_optimizer(
            groups, optimizer_section({"optim_conf": {"lr": 1e-4, "weight_decai": 0}}), "optim_conf"
        )
    with pytest.raises(ValueError, match=r"scheduler_conf\.warmup: warmup_lr has no such option"):
        build_schedule(scheduler_section({"scheduler_conf": {"warmup": 5}}), 1.0, 10, "scheduler_conf")
    with pytest.raises(ValueError, match="'custom_lambdalr' is not one of"):
        build_schedule({"name": "custom_lambdalr"}, 1.0, 10, "scheduler_conf")
