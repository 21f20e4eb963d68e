"""Learning rates by layer, and which parts of a CTC model stand still."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

FREEZABLE = ("encoder", "pre_encode", "decoder")


def layerwise_groups(
    model: nn.Module, lr: float, encoder_lr_factor: float, decay: float, splits: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Parameter groups of a model with `encoder` (pre_encode, layers) and `decoder`.

    The decoder and whatever else learns at `lr`; encoder layer i of L at lr * encoder_lr_factor *
    decay^(L - 1 - i), the sub-sampling below it at decay^L.  `splits` is `model.optim_param_groups`:
    {sub-module: {lr: ...}}, which wins for the decoder and other parts.  With both factors 1 the encoder is
    one group.  Frozen parameters are included: they get no gradient.
    """
    children = dict(model.named_children())
    splits = dict(splits or {})
    for name in splits:
        if name not in children:
            raise ValueError(
                f"model.optim_param_groups.{name}: the model has no such part; parts: {', '.join(children)}"
            )
    by_layer = encoder_lr_factor != 1.0 or decay != 1.0
    if by_layer and "encoder" in splits:
        raise ValueError("model.optim_param_groups.encoder and the layer-wise factors exclude each other")
    groups: list[dict[str, Any]] = []
    rest: list[nn.Parameter] = []
    for name, child in children.items():
        parameters = list(child.parameters())
        if name in splits:
            groups.append({"params": parameters, **(splits[name] or {})})
        elif name == "encoder" and by_layer:
            for part, depth in encoder_parts(child):
                group_lr = lr * encoder_lr_factor * decay**depth
                groups.append({"params": list(part.parameters()), "lr": group_lr})
        else:
            rest.extend(parameters)
    return ([{"params": rest}] if rest else []) + [group for group in groups if group["params"]]


def encoder_parts(encoder: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """Give each part of the encoder with its depth: how many layers lie above it."""
    layers: Any = encoder.layers
    for name, child in encoder.named_children():
        if name != "layers":
            above = name in ("pre_encode", "pos_enc")
            yield child, len(layers) if above else 0
    for i, layer in enumerate(layers):
        yield layer, len(layers) - 1 - i
