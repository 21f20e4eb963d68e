"""Weights into a module, with an account of every key."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

SHOWN = 5  # keys named in a message before the rest is only counted


@dataclass(frozen=True)
class LoadAccount:
    """What became of the keys: loaded from the source, kept as they were (missing there), left unread."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        return f"loaded {len(self.loaded)} missing {len(self.missing)} unexpected {len(self.unexpected)}"


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    allowed_missing: Iterable[str] = (),
    allowed_unexpected: Iterable[str] = (),
) -> LoadAccount:
    """Copy `state` into `module`; keys and shapes must fit, but for keys that start with an allowed prefix.

    `source` names the file in messages.  Tensors are cast to the module's dtypes.  Raises ValueError, before
    anything is copied, with counts and the first keys of each kind.
    """
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    loaded = [key for key in wanted if key in state]
    account = LoadAccount(tuple(loaded), tuple(missing), tuple(unexpected))
    misshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in loaded
        if state[key].shape != wanted[key].shape
    ]
    problems = [
        _listed("missing", [key for key in missing if not key.startswith(tuple(allowed_missing))]),
        _listed("unexpected", [key for key in unexpected if not key.startswith(tuple(allowed_unexpected))]),
        _listed("of another shape", misshaped),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        raise ValueError(f"{source} does not fit the model ({account}): {'; '.join(problems)}")
    with torch.no_grad():
        for key in loaded:
            wanted[key].copy_(state[key])
    log.info("weights %s %s", source, account)
    return account


def portable_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict on the CPU, contiguous, each tensor in storage of its own size, ready to be written."""
    state = {}
    for key, tensor in module.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone()
        state[key] = tensor
    return state


def _listed(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {what}: {', '.join(keys[:SHOWN])}{more}"
