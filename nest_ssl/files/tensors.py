"""Tensors on their way into a file.  Torch is not imported here: they bring it along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def separate(state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a state dict on the CPU, contiguous, each in memory of its own and of its own size.

    Tensors already so are not copied; one that several names share is (safetensors refuses shared memory).
    """
    result, seen = {}, set()
    for key, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.numel() * tensor.element_size() or storage.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(storage.data_ptr())
        result[key] = tensor
    return result
