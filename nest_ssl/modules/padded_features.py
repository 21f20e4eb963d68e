"""A batch of signals through a front end that takes one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def padded_features(
    features: Callable[[Tensor, torch.Generator | None], Tensor],
    signals: Tensor,
    lengths: Sequence[int] | Tensor,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """signals (B, N), lengths (B,) in samples -> (B, T, width) padded with 0, frames (B,) int32.

    features: one signal (N,) and the generator of its dither -> (T, width).
    """
    found = [features(row[: int(length)], generator) for row, length in zip(signals, lengths, strict=True)]
    frames = torch.tensor([len(row) for row in found], dtype=torch.int32, device=signals.device)
    return pad_sequence(found, batch_first=True), frames
