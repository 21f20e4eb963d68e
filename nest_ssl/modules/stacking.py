"""Sub-sampling by laying neighbouring frames end to end."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class StackingSubsampling(nn.Module):
    """Stack `subsampling_factor` frames, normalised one by one if `norm`, and project them to `feat_out`."""

    def __init__(self, subsampling_factor: int, feat_in: int, feat_out: int, norm: bool = False) -> None:
        super().__init__()
        self.subsampling_factor = subsampling_factor
        self.proj_out = nn.Linear(subsampling_factor * feat_in, feat_out)
        self.pre_norm = nn.LayerNorm(feat_in) if norm else None

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, feat_in), lengths (B,) int64 -> (B, T', feat_out), lengths' (B,) int64.

        The batch is padded with zeros to T' stacks.  As in NeMo every length counts the frames added for the
        longest item, so a shorter item's last stack may be all padding.
        """
        tail = -x.shape[1] % self.subsampling_factor
        x = F.pad(x, (0, 0, 0, tail))
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        x = x.reshape(x.shape[0], -1, self.subsampling_factor * x.shape[2])
        return self.proj_out(x), (lengths + tail) // self.subsampling_factor
