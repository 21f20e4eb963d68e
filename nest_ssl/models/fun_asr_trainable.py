"""Which weights of a FunASRNano are trained: FunASR's switches, one of ours, and an audit of the outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from nest_ssl.models.lora import funasr_name, lora_layers

PARTS = ("audio_encoder", "audio_adaptor", "ctc_decoder", "ctc", "llm")
LORA = "lora"  # as a declared part: the adapters of the language model
# part -> (section of the configuration, FunASR's default).  The head's switch is ours: FunASR has none.
SWITCHES = {
    "audio_encoder": ("audio_encoder_conf", True),
    "audio_adaptor": ("audio_adaptor_conf", False),
    "ctc_decoder": ("ctc_decoder_conf", False),
    "ctc": ("ctc_conf", False),
    "llm": ("llm_conf", True),
}
LORA_BIASES = ("none", "all", "lora_only")


def set_trainable(model: nn.Module, config: Mapping[str, Any]) -> None:
    """Set `requires_grad` of every parameter as `config` says: the `freeze` of each section, `freeze_param`,
    `lora_only`, `lora_bias`.

    Adapters are trained whatever llm_conf.freeze says, unless lora_conf.freeze_lora.  Raises ValueError for a
    prefix of freeze_param that no parameter has and for lora_only without adapters.
    """
    adapters = _adapters(model)
    frozen_lora = bool(((config.get("llm_conf") or {}).get("lora_conf") or {}).get("freeze_lora"))
    for part, (section, default) in SWITCHES.items():
        frozen = (config.get(section) or {}).get("freeze", default)
        if not isinstance(frozen, bool):
            raise ValueError(f"{section}.freeze: {frozen!r} is neither true nor false")
        for parameter in _parameters(model, part):
            is_adapter = id(parameter) in adapters
            parameter.requires_grad_(not frozen_lora if is_adapter else not frozen)
    _freeze_by_name(model, config.get("freeze_param"))
    if config.get("lora_only"):
        _only_lora(model, str(config.get("lora_bias") or "none"))


def trainable_names(model: nn.Module) -> list[str]:
    """FunASR's names of the parameters that are trained, in the model's order."""
    return [funasr_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad]


@dataclass(frozen=True)
class PartAccount:
    """Parameters of one part of the model."""

    part: str
    parameters: int
    trainable: int
    dtypes: str


def account(model: nn.Module) -> list[PartAccount]:
    """One line for each part of the model; the adapters are a line of their own, `lora`."""
    adapters = _adapters(model)
    lines = []
    for part in PARTS:
        mine = [p for p in _parameters(model, part) if id(p) not in adapters]
        if mine:
            lines.append(_line(part, mine))
    mine = [p for p in model.parameters() if id(p) in adapters]
    return [*lines, _line(LORA, mine)] if mine else lines


def audit(model: nn.Module, declared: Sequence[str]) -> list[PartAccount]:
    """Check that exactly the declared parts are trained, and give the account of all parts.

    declared: names of PARTS, or `lora`.  A part that the model does not have is passed over.  Raises
    ValueError that names what is trained and not declared, or declared and not trained.
    """
    for part in declared:
        if part not in (*PARTS, LORA):
            raise ValueError(
                f"nest_ssl.trainable: {part!r} is not one of the parts {', '.join((*PARTS, LORA))}"
            )
    if not declared:
        raise ValueError("nest_ssl.trainable is empty: name the parts to train")
    lines = account(model)
    problems = []
    for line in lines:
        wanted = line.parameters if line.part in declared else 0
        if line.trainable != wanted:
            problems.append(f"{line.part} {line.trainable:,} of {line.parameters:,} instead of {wanted:,}")
    if problems:
        raise ValueError(
            f"the trainable parameters are not the declared ones ({', '.join(declared)}): "
            f"{'; '.join(problems)}; look at the freeze switches of these sections, freeze_param and "
            "lora_only, or declare another set in nest_ssl.trainable"
        )
    if not any(line.trainable for line in lines):
        raise ValueError(
            f"nothing is trained: the model has none of the declared parts {', '.join(declared)}"
        )
    return lines


def keep_frozen_in_eval(module: nn.Module) -> None:
    """Put every sub-module whose parameters are all frozen into eval mode (no dropout, fixed statistics)."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        keep_frozen_in_eval(child)


def _line(part: str, parameters: list[nn.Parameter]) -> PartAccount:
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return PartAccount(part, sum(p.numel() for p in parameters), trained, "+".join(dtypes))


def _parameters(model: nn.Module, part: str) -> list[nn.Parameter]:
    module = getattr(model, part, None)
    return [] if module is None else list(module.parameters())


def _adapters(model: nn.Module) -> set[int]:
    """Identities of the adapters' A and B."""
    llm = getattr(model, "llm", None)
    layers = lora_layers(llm) if llm is not None else iter(())
    return {id(p) for _, layer in layers for part in (layer.lora_A, layer.lora_B) for p in part.parameters()}


def _freeze_by_name(model: nn.Module, prefixes: str | Iterable[str] | None) -> None:
    if not prefixes:
        return
    listed = prefixes.split(",") if isinstance(prefixes, str) else list(prefixes)
    for prefix in (part.strip() for part in listed):
        if not prefix:
            continue
        hit = [p for name, p in model.named_parameters() if _below(funasr_name(name), prefix)]
        if not hit:
            raise ValueError(
                f"freeze_param: no parameter starts with {prefix!r}; the parts are {', '.join(PARTS)}"
            )
        for parameter in hit:
            parameter.requires_grad_(False)


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _only_lora(model: nn.Module, bias: str) -> None:
    """FunASR's lora_only: adapters keep their switch, all else is frozen but for what lora_bias names."""
    if bias not in LORA_BIASES:
        raise ValueError(f"lora_bias: {bias!r} is not one of {', '.join(LORA_BIASES)}")
    adapters = _adapters(model)
    if not adapters:
        raise ValueError("lora_only: the model has no LoRA adapters; set llm_conf.use_lora=true")
    for name, parameter in model.named_parameters():
        if id(parameter) not in adapters:
            parameter.requires_grad_(bias == "all" and "bias" in name)
    if bias == "lora_only":
        for _, layer in lora_layers(model):
            own = layer.base_layer.bias
            if own is not None:
                own.requires_grad_(True)
