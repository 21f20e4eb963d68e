"""The plan of a stage: learning rate, schedule, freeze keys, LoRA targets."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nest_ssl.preflight.context import SMALL, Context
from nest_ssl.preflight.report import Finding, shown

PLAN = {"encoder": 1e-4, "adaptor": 5e-5, "lora": 1e-5}  # of the released model (861 M parameters)
FAR = 10.0
FREEZE = {
    "encoder": ("audio_encoder_conf.freeze",),
    "adaptor": ("audio_adaptor_conf.freeze",),
    "all": ("audio_encoder_conf.freeze", "audio_adaptor_conf.freeze", "llm_conf.freeze"),
}
WANT_VALIDATION = (  # of train_conf
    *("monitor", "mode", "validate_interval", "early_stopping_patience"),
    *("avg_nbest_model", "avg_keep_nbest_models_type"),
)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of Qwen3


def check_plan(context: Context) -> Iterator[Finding]:
    """Check learning rate and schedule."""
    rate = context.value("optim_conf.lr")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0):
        yield Finding(
            "error",
            "STAGE.lr",
            f"optim_conf.lr is {rate!r}",
            "A learning rate is a positive number; YAML reads 1e-4 as a text, 1.0e-4 as a number.",
            "Write it as 1.0e-4 in YAML.",
        )
    elif rate is not None and context.part in PLAN:
        plan, ratio = PLAN[context.part], rate / PLAN[context.part]
        if ratio > FAR * 1.0001 or ratio < 1 / (FAR * 1.0001):
            small = context.num_parameters is not None and context.num_parameters < SMALL
            yield Finding(
                "note" if small and rate < 0.05 else "warning",
                "STAGE.lr",
                f"optim_conf.lr is {rate:g}; the plan of stage {context.part} is {plan:g} for the released "
                "model",
                "Above, a pre-trained part forgets what it knew; below, the stage changes nothing within "
                "its steps." + (" A small model wants a larger one." if small else ""),
                f"Set ++optim_conf.lr={plan:g}, unless it is meant.",
            )
    warmup = context.value("scheduler_conf.warmup_steps")
    steps = _steps(context)
    if isinstance(warmup, int) and steps is not None and warmup >= steps > 0:
        yield Finding(
            "warning",
            "STAGE.warmup",
            f"scheduler_conf.warmup_steps is {warmup}, the run has about {steps} steps",
            "The learning rate would still be rising when the run ends, and never reach optim_conf.lr.",
            f"Set scheduler_conf.warmup_steps to {max(1, steps // 10)}, a tenth of the steps.",
        )
    idle = [f"train_conf.{key}" for key in WANT_VALIDATION if f"train_conf.{key}" in context.overrides]
    if idle and context.train and not context.valid:
        yield Finding(
            "warning",
            "STAGE.valid",
            f"{shown(idle)} was given, and there are no validation data",
            "Nothing is validated: the last weights become the result, and the key has no effect.",
            "Give validation data with --valid, or leave the key away.",
        )


def _steps(context: Context) -> int | None:
    """Give the optimiser steps of the run: as set, or at most one per row and epoch."""
    most = context.value("train_conf.max_steps", -1)
    if isinstance(most, int) and most > 0:
        return most
    epochs, rows = context.value("train_conf.max_epoch", -1), len(context.training)
    if not isinstance(epochs, int) or epochs <= 0 or not rows:
        return None
    return epochs * rows // max(1, int(context.value("train_conf.accum_grad", 1)))


def check_freezing(context: Context) -> Iterator[Finding]:
    """Find freeze keys that a user gave against the stage."""
    for key in FREEZE.get(context.part or "", ()):
        if context.overrides.get(key) in (True, "true", "True"):
            yield Finding(
                "error",
                "STAGE.freeze",
                f"{key}=true was given, and --part {context.part} trains that part",
                "One of the two is not meant.",
                f"Leave {key} away: --part sets the freeze keys.",
            )
    if context.part is None and not context.value("llm_conf.use_lora", False):
        yield from _nothing_thawed(context)


def _nothing_thawed(context: Context) -> Iterator[Finding]:
    keys = {"audio_encoder_conf.freeze": True, "audio_adaptor_conf.freeze": False, "llm_conf.freeze": True}
    if context.model is None and all(context.value(key, default) for key, default in keys.items()):
        yield Finding(
            "warning",
            "STAGE.nothing",
            f"{', '.join(keys)} are all true",
            "Nothing that the language model's loss reaches would be trained.",
            "Give --part, or set the freeze key of what is to be trained to false.",
        )


def check_lora(context: Context) -> Iterator[Finding]:
    """Check that LoRA is on where it is wanted, and that its targets are there."""
    wanted = context.part == "lora"
    on = bool(context.value("llm_conf.use_lora", wanted))
    if wanted and context.overrides.get("llm_conf.use_lora") in (False, "false", "False"):
        yield Finding(
            "error",
            "LORA.off",
            "llm_conf.use_lora=false was given with --part lora",
            "The stage trains LoRA adapters and nothing else.",
            "Leave llm_conf.use_lora away.",
        )
    idle = [key for key in context.overrides if key.startswith("llm_conf.lora_conf.")]
    if not on and idle:
        yield Finding(
            "warning",
            "LORA.idle",
            f"{shown(idle)} was given, and llm_conf.use_lora is false",
            "The language model gets no adapters, so that their settings have no effect.",
            "Set ++llm_conf.use_lora=true, or take --part lora.",
        )
    if not on:
        return
    targets = context.value("llm_conf.lora_conf.target_modules", ["q_proj", "v_proj"])
    targets = [targets] if isinstance(targets, str) else list(targets)
    if context.model is not None:
        names = [
            name for name, module in context.model.llm.named_modules() if isinstance(module, torch.nn.Linear)
        ]
        parts = {part for name in names for part in name.split(".")}
    else:
        parts = set(LINEAR)
    unknown = [target for target in targets if target not in parts]
    if unknown:
        yield Finding(
            "error",
            "LORA.targets",
            f"llm_conf.lora_conf.target_modules {shown(unknown)} match no linear layer of the language model",
            "FunASR prints a warning and trains "
            + ("nothing at all." if len(unknown) == len(targets) else "the others only."),
            f"Qwen3 has {', '.join(LINEAR)}; the plan is q_proj, v_proj.",
        )
    rank = context.value("llm_conf.lora_conf.r", 16)
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        yield Finding(
            "error",
            "LORA.rank",
            f"llm_conf.lora_conf.r is {rank!r}",
            "The rank is a whole number from 1 on.",
            "The plan is 16.",
        )
    if not context.value("llm_conf.lora_conf.lora_alpha", 32):
        yield Finding(
            "error",
            "LORA.alpha",
            "llm_conf.lora_conf.lora_alpha is 0",
            "Adapters are scaled by alpha / r: they would have no effect and no gradient.",
            "The plan is 32.",
        )
