"""Which parameters an optimiser sees, in which groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, splits: Mapping[str, Mapping[str, Any] | None] | None
) -> list[dict[str, Any]]:
    """One group with all parameters, or the parameters of sub-modules split off with options of their own.

    `splits` is `model.optim_param_groups`: {sub-module: {lr: ...}}; the rest comes first.  Frozen
    parameters are included, as in NeMo: they get no gradient, so nothing changes them.  Raises ValueError
    for an unknown sub-module.
    """
    splits = splits or {}
    children = dict(model.named_children())
    for name in splits:
        if name not in children:
            raise ValueError(
                f"model.optim_param_groups.{name}: the model has no such part; parts: {', '.join(children)}"
            )
    taken: set[int] = set()
    groups = []
    for name, options in splits.items():
        parameters = [p for p in children[name].parameters() if id(p) not in taken]
        taken.update(id(p) for p in parameters)
        groups.append({"params": parameters, **(options or {})})
    rest = [p for p in model.parameters() if id(p) not in taken]
    return ([{"params": rest}] if rest else []) + groups
