"""Checkpoints of PyTorch Lightning (.ckpt), as NeMo's training leaves them; no pickled code is run."""

from __future__ import annotations

import itertools
import os
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nest_ssl.checkpoints.inert_pickle import Record
from nest_ssl.checkpoints.torch_zip import StoredTensor, open_torch_zip
from nest_ssl.files.atomic import replaced

MAX_CONFIG_DEPTH = 64
MAX_CONFIG_VALUES = 100_000  # lists that hold one another many times over would fill the memory


@dataclass
class LightningCheckpoint:
    """What a checkpoint says, in plain values.

    `config` is the `model:` section (None where the file has none), interpolations as they were saved;
    `global_step` and `epoch` None in a bare file of weights; `optimizers` describes each optimiser's state.
    """

    state: dict[str, Tensor]
    config: dict[str, Any] | None = None
    global_step: int | None = None
    epoch: int | None = None
    lightning_version: str | None = None
    optimizers: list[dict[str, Any]] = field(default_factory=list)


def read_lightning(path: str | os.PathLike) -> LightningCheckpoint:
    """Read a .ckpt of Lightning, or a bare state dict of `torch.save`.

    Objects that the file holds beside (callbacks, loops, OmegaConf nodes) are read as inert records, never
    made; only the weights are read as tensors.  Raises FileNotFoundError, or ValueError naming the file.
    """
    path = Path(path)
    with open_torch_zip(path) as file:
        content = file.content
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds no dict, so it is no checkpoint")
        state = content.get("state_dict", content)
        if not isinstance(state, dict) or not state:
            raise ValueError(f"{path}: state_dict is no dict of tensors; keys there: {_keys(content)}")
        for key, value in state.items():
            if not (isinstance(key, str) and isinstance(value, StoredTensor)):
                raise ValueError(f"{path}: state_dict[{key!r}] is {_kind(value)}, not a tensor")
        if state is content:
            return LightningCheckpoint({key: file.tensor(value) for key, value in state.items()})
        try:
            config = _model_config(content.get("hyper_parameters"))
        except ValueError as error:
            raise ValueError(f"{path}: hyper_parameters: {error}") from error
        optimizers = content.get("optimizer_states")
        return LightningCheckpoint(
            {key: file.tensor(value) for key, value in state.items()},
            config,
            _integer(content.get("global_step")),
            _integer(content.get("epoch")),
            _text(content.get("pytorch-lightning_version")),
            [_described(optimizer) for optimizer in optimizers] if isinstance(optimizers, list) else [],
        )


def write_lightning(
    path: str | os.PathLike,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    global_step: int = 0,
    epoch: int = 0,
) -> None:
    """Write weights as a .ckpt for NeMo's `init_from_ptl_ckpt`: plain values only, no optimiser state."""
    content = {
        "epoch": epoch,
        "global_step": global_step,
        "pytorch-lightning_version": "2.4.0",  # whose layout this is: Lightning converts older ones
        "state_dict": OrderedDict(state),
        "loops": {},
        "hparams_name": "cfg",
        "hyper_parameters": {"cfg": dict(config)},
    }
    with replaced(path) as temporary:
        torch.save(content, temporary)


def _model_config(hyper_parameters: Any) -> dict[str, Any] | None:
    plain = _plain(hyper_parameters, itertools.count())
    if not isinstance(plain, dict):
        return None
    section = plain.get("cfg", plain)
    return {str(key): value for key, value in section.items()} if isinstance(section, dict) else None


def _plain(value: Any, seen: Iterator[int], depth: int = 0) -> Any:
    """OmegaConf's nodes, and what stands in them, as dicts, lists and values; `seen` counts them."""
    if depth > MAX_CONFIG_DEPTH or next(seen) > MAX_CONFIG_VALUES:
        raise ValueError(f"nested more than {MAX_CONFIG_DEPTH} deep, or more than {MAX_CONFIG_VALUES} values")
    if isinstance(value, Record):
        state = value.state if isinstance(value.state, dict) else {}
        if not value.kind.startswith("omegaconf."):
            return f"<{value.kind}>"
        return _plain(state.get("_content", state.get("_val")), seen, depth + 1)
    if isinstance(value, dict):
        return {key: _plain(inner, seen, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, seen, depth + 1) for inner in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return f"<{_kind(value)}>"


def _described(optimizer: Any) -> dict[str, Any]:
    """What an optimiser's state holds: parameters, tensors and elements, and the options of its groups."""
    if not isinstance(optimizer, dict):
        return {"kind": _kind(optimizer)}
    state = optimizer.get("state")
    kept = [value for value in state.values() if isinstance(value, dict)] if isinstance(state, dict) else []
    tensors = [tensor for value in kept for tensor in value.values() if isinstance(tensor, StoredTensor)]
    names = Counter(str(name) for value in kept for name in value)
    groups = optimizer.get("param_groups")
    return {
        "parameters_with_state": len(kept),
        "state": dict(names),
        "elements": sum(torch.Size(tensor.shape).numel() for tensor in tensors),
        "groups": [
            {
                **{
                    str(key): _plain(value, itertools.count())
                    for key, value in group.items()
                    if key != "params"
                },
                "parameters": len(group["params"]) if isinstance(group.get("params"), list) else 0,
            }
            for group in (groups if isinstance(groups, list) else [])
            if isinstance(group, dict)
        ],
    }


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Record) else type(value).__name__


def _keys(content: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, list(content)[:12])) or "none"
