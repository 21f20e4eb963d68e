"""The encoder's front: strided convolutions that make one frame of 4, 8, ... mel frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNEL = 3
STRIDE = 2
PADDING = 1


class ConvSubsampling(nn.Module):
    """Halve time and frequency log2(`subsampling_factor`) times, then project to `feat_out`.

    `subsampling` "dw_striding": one full convolution, then depthwise and 1x1 ones; every stage ends in a
    ReLU. All have biases.  Frames beyond an item's length never reach valid frames and are zero before the
    projection. Source: Fast Conformer (arXiv 2305.05084), section 2.1.
    """

    def __init__(
        self, subsampling: str, subsampling_factor: int, feat_in: int, feat_out: int, conv_channels: int
    ) -> None:
        super().__init__()
        if subsampling != "dw_striding":
            raise ValueError(f"subsampling: {subsampling!r} is not supported yet; use dw_striding")
        stages = subsampling_factor.bit_length() - 1
        if subsampling_factor < 2 or 2**stages != subsampling_factor:
            raise ValueError(f"subsampling_factor: {subsampling_factor}; dw_striding needs 2, 4, 8, ...")
        self.subsampling_factor = subsampling_factor
        layers: list[nn.Module] = [
            nn.Conv2d(1, conv_channels, KERNEL, STRIDE, PADDING),
            nn.ReLU(inplace=True),
        ]
        width = strided_length(feat_in)
        for _ in range(stages - 1):
            layers += [
                nn.Conv2d(conv_channels, conv_channels, KERNEL, STRIDE, PADDING, groups=conv_channels),
                nn.Conv2d(conv_channels, conv_channels, 1),
                nn.ReLU(inplace=True),
            ]
            width = strided_length(width)
        self.out = nn.Linear(conv_channels * width, feat_out)
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, feat_in), lengths (B,) int64 -> (B, T', feat_out), lengths' (B,) int64."""
        x = x.unsqueeze(1)
        for layer in self.conv:
            # Only strided layers look at neighbouring frames, so only they need the padding to be zero.
            if isinstance(layer, nn.Conv2d) and layer.stride[0] == STRIDE:
                x = layer(_zero_padding(x, lengths))
                lengths = strided_length(lengths)
            else:
                x = layer(x)
        x = _zero_padding(x, lengths)
        return self.out(x.transpose(1, 2).flatten(2)), lengths


def strided_length(length):
    """Frames (int or integer tensor) that a strided convolution makes of `length`: half of it, rounded up."""
    return (length + 2 * PADDING - KERNEL) // STRIDE + 1


def _zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    valid = torch.arange(x.shape[2], device=x.device)[None, :] < lengths[:, None]
    return x * valid[:, None, :, None].to(x.dtype)
