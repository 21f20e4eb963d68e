"""Batch norm whose statistics leave the padding out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ValidFramesBatchNorm1d(nn.BatchNorm1d):
    """Batch norm on (B, D, T) over the frames that `pad_mask` (B, T) bool, True at padding, leaves.

    `pad_mask` is set before each call (`use_valid_frames`); None counts all frames.  In evaluation it is the
    plain batch norm, whose names and shapes it has.
    """

    pad_mask: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        pad_mask, self.pad_mask = self.pad_mask, None
        if not self.training or pad_mask is None:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        x = input.float()
        valid = (~pad_mask)[:, None, :].to(x.dtype)
        count = valid.sum().clamp(min=1.0)
        mean = (x * valid).sum(dim=(0, 2)) / count
        centred = x - mean[:, None]
        variance = (centred.square() * valid).sum(dim=(0, 2)) / count
        with torch.no_grad():
            unbiased = variance * (count / (count - 1.0).clamp(min=1.0))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None] + self.bias[:, None]).to(input.dtype)


def use_valid_frames(encoder: nn.Module) -> None:
    """Give every convolution of a Conformer encoder that has a batch norm one over valid frames.

    A convolution is a module with a `batch_norm` that is called with `pad_mask`.  Raises ValueError if the
    encoder has no batch norm.
    """
    found = 0
    for module in list(encoder.modules()):
        norm = getattr(module, "batch_norm", None)
        if type(norm) is nn.BatchNorm1d:
            norm.__class__ = ValidFramesBatchNorm1d  # keeps the parameters, and draws nothing
            module.register_forward_pre_hook(_hand_on_pad_mask, with_kwargs=True)
            found += 1
    if not found:
        raise ValueError(
            "conv_norm_type: model.parity.batch_norm=valid is about batch_norm, and there is none"
        )


def _hand_on_pad_mask(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    module.batch_norm.pad_mask = kwargs.get("pad_mask")
