"""LoRA in a state dict with FunASR's names: the adapters, and how they are folded into the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

A, B = ".lora_A", ".lora_B"


def lora_keys(state: Iterable[str]) -> list[str]:
    """The names of LoRA tensors, `<linear>.lora_A` [r, in] and `<linear>.lora_B` [out, r]."""
    return [key for key in state if key.endswith((A, B))]


def lora_scaling(lora_conf: Mapping[str, Any] | None) -> float:
    """The factor of B A in the weights, lora_alpha / r, with FunASR's defaults 32 and 16."""
    conf = lora_conf or {}
    return float(conf.get("lora_alpha", 32)) / float(conf.get("r", 16))


def merged(state: Mapping[str, Tensor], lora_conf: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """The state with each adapter folded in, W + alpha/r B A in fp32, and no LoRA left.

    W keeps its dtype: into bf16 weights the small change is rounded, so fold into fp32 where you can.  Raises
    ValueError for half an adapter, shapes that do not fit, or an `r` that is not that of the weights.
    """
    scaling, rank = lora_scaling(lora_conf), int((lora_conf or {}).get("r", 16))
    plain = {key: value for key, value in state.items() if not key.endswith((A, B))}
    for key in lora_keys(state):
        linear = key.removesuffix(A).removesuffix(B)
        if f"{linear}.weight" not in state or linear + A not in state or linear + B not in state:
            raise ValueError(f"{key}: of {linear} the weight, lora_A and lora_B must be there to be folded")
        if key.endswith(B):
            continue
        weight, down, up = state[f"{linear}.weight"], state[linear + A], state[linear + B]
        if (up.shape[0], down.shape[1]) != tuple(weight.shape) or not rank == down.shape[0] == up.shape[1]:
            raise ValueError(
                f"{linear}: lora_A {tuple(down.shape)} and lora_B {tuple(up.shape)} do not fit the weight "
                f"{tuple(weight.shape)} with lora_conf.r = {rank}; lora_conf must be that of the training run"
            )
        plain[f"{linear}.weight"] = (weight.float() + scaling * (up.float() @ down.float())).to(weight.dtype)
    return plain
