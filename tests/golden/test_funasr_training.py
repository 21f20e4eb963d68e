"""Trainable sets, gradients, optimiser steps and CTC losses of FunASR 1.4.16, and its learning rates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nest_ssl.checkpoints.funasr_load import load_weights_state
from nest_ssl.checkpoints.funasr_lora import lora_keys
from nest_ssl.models.fun_asr_trainable import trainable_names
from nest_ssl.models.fun_asr_training import FunASRNanoForTraining
from nest_ssl.models.lora import funasr_name
from nest_ssl.training.optim import build_optimizer
from nest_ssl.training.schedulers import build_schedule
from tests.golden.funasr_set import ROOT, needs_goldens, results, tensors

pytestmark = needs_goldens
GRADIENTS = {"rtol": 1e-4, "atol": 1e-9}  # some are rounding noise around zero, as of biases of keys


def batch(rows: list[int] | slice) -> SimpleNamespace:
    prefix, found = "train_all.", tensors("batches")
    return SimpleNamespace(
        tensors={k.removeprefix(prefix): v[rows] for k, v in found.items() if k.startswith(prefix)}
    )


def built(overrides: dict[str, Any], ctc_weight: float = 0.0) -> FunASRNanoForTraining:
    model = FunASRNanoForTraining.from_pretrained(ROOT / "model", overrides=overrides)
    model.prepare(ctc_weight=ctc_weight)
    return model


CASES = results("trainable_and_grads") if ROOT.is_dir() else {}


@pytest.mark.parametrize("case", CASES)
def test_trainable_names_loss_and_gradients_are_funasrs(case):
    wanted = CASES[case]
    overrides = dict(CASES[case.removesuffix("+lora_only")]["overrides"])
    if case.endswith("+lora_only"):
        overrides["lora_only"] = True
    model = built(overrides)
    adapters = ROOT / f"lora_{case}.safetensors"
    if adapters.is_file():
        state = load_file(adapters)
        whole = {**model.state_dict(), **state}
        load_weights_state(model, whole, str(adapters))
        assert sorted(lora_keys(model.state_dict())) == sorted(state)
        assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
        assert sorted(state) == sorted(wanted["state_dict_extra_keys"])
    assert trainable_names(model) == wanted["trainable"]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == wanted["n_trainable"]
    if "loss" not in wanted:
        return
    loss_sum, weight, _ = model.eval().training_loss(batch(slice(0, 3)))
    loss = loss_sum / weight
    assert loss.item() == pytest.approx(wanted["loss"], abs=1e-5)
    if wanted["grad_norm"]:
        loss.backward()
    norms = {funasr_name(n): p.grad.norm() for n, p in model.named_parameters() if p.grad is not None}
    assert norms.keys() == wanted["grad_norm"].keys()
    for name, value in wanted["grad_norm"].items():
        torch.testing.assert_close(norms[name].item(), value, **GRADIENTS)
    without = [name for name in trainable_names(model) if name not in norms]
    assert without == wanted["grad_none_but_trainable"]


def test_eight_steps_of_adamw_and_warmuplr_go_as_funasrs():
    wanted = results("train_steps")
    model = built({"audio_encoder_conf.freeze": False, "audio_adaptor_conf.freeze": False}).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout_rate", "attention_dropout_rate"):
            if hasattr(module, name):
                setattr(module, name, 0.0)
    optimizer = build_optimizer(
        model.parameter_groups(), {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01}, "optim_conf"
    )
    schedule = build_schedule({"name": "warmuplr", "warmup_steps": 5}, 1e-3, 8, "scheduler_conf")
    for number, step in enumerate(wanted["steps"]):
        assert schedule(number) == pytest.approx(step["lr_used"], abs=1e-12)
        optimizer.param_groups[0]["lr"] = schedule(number)
        loss_sum, weight, stats = model.training_loss(batch(step["idx"]))
        (loss_sum / weight).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), wanted["grad_clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert (loss_sum / weight).item() == pytest.approx(step["loss"], abs=1e-5)
        assert norm.item() == pytest.approx(step["grad_norm"], rel=2e-3)
        assert model.metrics(loss_sum.item(), weight.item(), stats)["acc"] == pytest.approx(step["acc"])
    named = dict(model.named_parameters())
    norms = {name: named[name].detach().norm().item() for name in wanted["final_param_l2"]}
    for name, value in wanted["final_param_l2"].items():
        assert norms[name] == pytest.approx(value, rel=1e-4, abs=2e-4), name


@pytest.mark.parametrize("case", ["fwd_train", "fwd_pair"])
def test_ctc_losses_are_those_of_the_reference(case):
    found = tensors("forward")
    given: dict[str, Tensor] = {k.removeprefix(f"{case}."): v for k, v in found.items() if k.startswith(case)}
    model = built({}, ctc_weight=1.0).eval()
    with torch.no_grad():
        encoder_out, lengths = model.encode(given["in.speech"], given["in.speech_lengths"])
        losses, fits = model.ctc_losses(
            model.ctc_log_probs(encoder_out, lengths), lengths, given["ctc_targets"], given["ctc_target_lens"]
        )
    assert fits.all()
    torch.testing.assert_close(losses, given["ctc_loss_per_utt"], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("case", ["warmuplr", "warmuplr_small", "tri_stage"])
def test_learning_rates_are_funasrs(case):
    wanted = results("lr_schedules")[case]
    name = case.removesuffix("_small")
    schedule = build_schedule({"name": name, **wanted["kw"]}, wanted["base_lr"], 200, "scheduler_conf")
    for step, rate in wanted["lr_at_step"].items():
        assert schedule(int(step)) == pytest.approx(rate, abs=1e-12), step
