"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) in a language model, by peft, under FunASR's names.

peft puts a layer around each chosen linear layer, which renames the weight inside.  Hooks undo that in state
dicts: seen from outside a model has FunASR's keys, `<linear>.weight`, `<linear>.lora_A` [r, in] and
`<linear>.lora_B` [out, r], whether it is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from nest_ssl.config import suggestion

ADAPTER = "default"  # peft's name of the one adapter we use
# FunASR's key of a LoRA layer -> peft's
NAMES = {
    "weight": "base_layer.weight",
    "bias": "base_layer.bias",
    "lora_A": f"lora_A.{ADAPTER}.weight",
    "lora_B": f"lora_B.{ADAPTER}.weight",
}
PEFT_NAMES = {theirs: funasr for funasr, theirs in NAMES.items()}
DEFAULTS: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "target_modules": ["q_proj", "v_proj"],
    "freeze_lora": False,
    "task_type": "CAUSAL_LM",  # nothing depends on it
    "bias": "none",
}


def add_lora(llm: nn.Module, lora_conf: Mapping[str, Any] | None = None) -> list[str]:
    """Put adapters into `llm`, in place, as FunASR's `llm_conf.lora_conf` says; gives the layers' names.

    A is Kaiming-uniform, B zero, both fp32 whatever the weights are: y = W x + alpha/r * B A dropout(x).  A
    linear layer is chosen if one component of its dotted name is in target_modules.  Whether the other
    weights are trained stays as it was.  Raises ValueError for a key, target or rank that does not fit.
    """
    options = {**DEFAULTS, **(lora_conf or {})}
    for key in options:
        if key not in DEFAULTS:
            raise ValueError(f"llm_conf.lora_conf.{key} is not supported; {suggestion(key, DEFAULTS)}")
    if options["bias"] != "none":
        raise ValueError("llm_conf.lora_conf.bias: only none is supported; lora_bias trains biases as well")
    rank = options["r"]
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(f"llm_conf.lora_conf.r: {rank!r} must be a whole number of at least 1")
    if has_lora(llm):
        raise ValueError("the language model has LoRA adapters already")
    chosen = _chosen(llm, options["target_modules"])
    trained = {id(parameter): parameter.requires_grad for parameter in llm.parameters()}
    peft = _peft()
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=options["lora_alpha"],
        lora_dropout=float(options["lora_dropout"]),
        target_modules=chosen,
        bias="none",
    )
    peft.inject_adapter_in_model(settings, llm, adapter_name=ADAPTER)
    for parameter in llm.parameters():  # peft freezes all but the adapters
        parameter.requires_grad_(trained.get(id(parameter), not options["freeze_lora"]))
    for _, layer in lora_layers(llm):
        for matrix in (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]):
            matrix.to(torch.float32)
        layer.register_state_dict_post_hook(_to_funasr)
        layer.register_load_state_dict_pre_hook(_from_funasr)
    return chosen


def has_lora(module: nn.Module) -> bool:
    return next(lora_layers(module), None) is not None


def lora_layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """(dotted name, layer) of every linear layer with an adapter."""
    for name, layer in module.named_modules():
        if hasattr(layer, "base_layer") and hasattr(layer, "lora_A"):
            yield name, layer


def funasr_name(parameter_name: str) -> str:
    """FunASR's name of a parameter, given the one in `named_parameters` of a model with adapters."""
    for theirs, ours in PEFT_NAMES.items():
        if parameter_name.endswith(f".{theirs}"):
            return f"{parameter_name.removesuffix(theirs)}{ours}"
    return parameter_name


def _chosen(llm: nn.Module, targets: Any) -> list[str]:
    if isinstance(targets, str) or not targets:
        raise ValueError(
            f"llm_conf.lora_conf.target_modules: {targets!r} must be a list, as [q_proj, v_proj]"
        )
    linear = [name for name, module in llm.named_modules() if isinstance(module, nn.Linear)]
    chosen = [name for name in linear if any(target in name.split(".") for target in targets)]
    parts = {part for name in linear for part in name.split(".")}
    for target in targets:
        if target not in parts:
            raise ValueError(
                f"llm_conf.lora_conf.target_modules: {target!r} is no layer of the language model; "
                f"{suggestion(str(target), sorted(part for part in parts if not part.isdigit()))}"
            )
    return chosen


def _to_funasr(layer: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """State dict hook: peft's keys of one layer become FunASR's."""
    for theirs, ours in PEFT_NAMES.items():
        if f"{prefix}{theirs}" in state:
            state[f"{prefix}{ours}"] = state.pop(f"{prefix}{theirs}")


def _from_funasr(layer: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Hook before loading: FunASR's keys of one layer become peft's."""
    for ours, theirs in NAMES.items():
        if f"{prefix}{ours}" in state:
            state[f"{prefix}{theirs}"] = state.pop(f"{prefix}{ours}")


def _peft() -> Any:
    try:
        import peft  # a second of imports that only LoRA needs
    except ImportError as error:
        raise ValueError(
            f'LoRA needs the package peft ({error}): pip install -e ".[llm]", or set llm_conf.use_lora=false'
        ) from error
    return peft
