"""The mean of the best checkpoints' weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from nest_ssl.training.checkpoint import read_tensors


def average_checkpoints(folders: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The mean of `model.safetensors` over checkpoint `folders`, best first; summed in float64.

    Integer tensors (counters) are the best one's.  Raises ValueError if the folders hold different tensors.
    """
    best = read_tensors(folders[0] / "model.safetensors")
    sums = {key: value.double() for key, value in best.items() if value.is_floating_point()}
    for folder in folders[1:]:
        other = read_tensors(folder / "model.safetensors")
        if other.keys() != best.keys():
            odd = sorted(other.keys() ^ best.keys())
            raise ValueError(f"{folder} and {folders[0]} hold different tensors: {', '.join(odd[:5])}")
        for key in sums:
            sums[key] += other[key].double()
    means = {key: (total / len(folders)).to(best[key].dtype) for key, total in sums.items()}
    return {key: means.get(key, value.clone()) for key, value in best.items()}
