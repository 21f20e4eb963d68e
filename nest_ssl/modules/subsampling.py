"""The encoder's front: strided convolutions that make one frame of 2, 4, 8, ... mel frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 2
INDEX_LIMIT = 2**31  # elements of one convolution's output beyond which a batch is computed in pieces


@dataclass(frozen=True)
class Stage:
    """How one halving of a sub-sampling looks at time: width of its window, padding on both sides."""

    kernel: int
    left: int
    right: int
    ceil: bool = False

    def length(self, length):
        """Frames (int or integer tensor) made of `length`."""
        rest = length + self.left + self.right - self.kernel
        return (rest + (STRIDE - 1 if self.ceil else 0)) // STRIDE + 1


# "vggnet" halves by a pooling, the others by a strided convolution; *_conv1d see the features as channels.
STAGES = {
    "dw_striding": Stage(3, 1, 1),
    "striding": Stage(3, 1, 1),
    "vggnet": Stage(2, 0, 0, ceil=True),
    "striding_conv1d": Stage(5, 2, 2),
    "dw_striding_conv1d": Stage(5, 2, 2),
}
CAUSAL = ("dw_striding", "striding", "striding_conv1d")


class CausalConv2d(nn.Conv2d):
    """A strided convolution that sees nothing beyond the last frame it halves, in time and frequency."""

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.kernel_size[0] - 1, self.stride[0] - 1
        return super().forward(F.pad(x, (before, after, before, after)))


class CausalConv1d(nn.Conv1d):
    """As CausalConv2d, in time alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.kernel_size[0] - 1, self.stride[0] - 1)))


class ConvSubsampling(nn.Module):
    """Halve the time log2(`subsampling_factor`) times, then project to `feat_out`.

    `subsampling`: "dw_striding": one full convolution, then depthwise and 1x1 ones; "striding": full ones;
    "vggnet": two full ones of stride 1 and a pooling; these halve the frequency too.  "striding_conv1d" and
    "dw_striding_conv1d": convolutions over time of width 5, the last giving `feat_out` features.  Every
    stage has biases and a ReLU.  `is_causal` pads on the left instead of both sides, which makes L // 2 +
    1 frames of L.

    Frames beyond an item's length never reach valid frames.  `chunking_factor` > 1 computes the batch in
    so many pieces, 1 only when one piece would overflow 32-bit indices, -1 never; results are the same,
    but for one item alone under "dw_striding", where NeMo then leaves its padding unmasked, and so does this.

    Sources: Fast Conformer (arXiv 2305.05084), section 2.1; for vggnet: arXiv 1910.12977, section 2.
    """

    def __init__(
        self,
        subsampling: str,
        subsampling_factor: int,
        feat_in: int,
        feat_out: int,
        conv_channels: int,
        is_causal: bool = False,
        chunking_factor: int = 1,
    ) -> None:
        super().__init__()
        if subsampling not in STAGES:
            raise ValueError(
                f"subsampling: {subsampling!r}; use {', '.join(STAGES)}, stacking, stacking_norm or null"
            )
        self.stages = subsampling_factor.bit_length() - 1
        if subsampling_factor < 2 or 2**self.stages != subsampling_factor:
            raise ValueError(f"subsampling_factor: {subsampling_factor}; {subsampling} needs 2, 4, 8, ...")
        if chunking_factor not in (-1, 1) and (chunking_factor < 1 or chunking_factor % 2):
            raise ValueError(
                f"subsampling_conv_chunking_factor: {chunking_factor}; use -1, 1 or an even number"
            )
        self.subsampling, self.subsampling_factor = subsampling, subsampling_factor
        self.chunking_factor, self.channels = chunking_factor, conv_channels
        self.stage = STAGES[subsampling]
        if is_causal and subsampling in CAUSAL:
            self.stage = Stage(self.stage.kernel, self.stage.kernel - 1, STRIDE - 1)
        self.over_time = subsampling.endswith("conv1d")
        layers = _layers(subsampling, self.stages, feat_in, feat_out, conv_channels, is_causal)
        self.out: nn.Linear | None = None
        if not self.over_time:
            width = feat_in
            for _ in range(self.stages):
                width = self.stage.length(width)
            self.out = nn.Linear(conv_channels * width, feat_out)
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, feat_in), lengths (B,) int64 -> (B, T', feat_out), lengths' (B,) int64."""
        x = x.transpose(1, 2) if self.over_time else x.unsqueeze(1)
        pieces = self._pieces(x)
        masked = not (self.chunking_factor > 1 and len(x) == 1 and self.subsampling == "dw_striding")
        if pieces == 1:
            x, lengths = self._convolve(x, lengths, masked)
        else:
            size = max(1, len(x) // pieces)
            split = zip(x.split(size), lengths.split(size), strict=True)
            done = [self._convolve(*piece, masked) for piece in split]
            x, lengths = torch.cat([y for y, _ in done]), torch.cat([length for _, length in done])
        if self.out is None:
            return x.transpose(1, 2), lengths
        return self.out(x.transpose(1, 2).flatten(2)), lengths

    def _convolve(self, x: Tensor, lengths: Tensor, masked: bool) -> tuple[Tensor, Tensor]:
        """The stack on (B, C, T, F) or (B, C, T).

        Padding is blanked in the input and before each ReLU, which keeps zeros: no other layer that looks
        at neighbours, nor the end of the stack, comes before a ReLU has.  Blanking in place costs no copy.
        """
        if masked:
            x = x * self._valid(x, lengths)
        if self._takes_channels_last(x):
            return self._convolve_channels_last(x, lengths, masked)
        for layer in self.conv:
            if isinstance(layer, nn.ReLU) and masked:
                x = x.mul_(self._valid(x, lengths))
            x = layer(x)
            if _stride(layer) == STRIDE:
                lengths = self.stage.length(lengths)
        return x, lengths

    def _takes_channels_last(self, x: Tensor) -> bool:
        return (
            self.subsampling == "dw_striding"
            and x.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and all(_is_plain(layer) for layer in self.conv)
        )

    def _convolve_channels_last(self, x: Tensor, lengths: Tensor, masked: bool) -> tuple[Tensor, Tensor]:
        """`_convolve` of "dw_striding", in memory as (B, T, F, C) from layer to layer.

        So the first convolution and those of width 1 are matrix products without a copy, and the CPU
        computes the depthwise ones three times as fast.  ReLUs are taken with the product before them.
        """
        x = self._windows(x.squeeze(1))
        for number, layer in enumerate(self.conv):
            if not isinstance(layer, nn.Conv2d):
                continue
            if _stride(layer) == STRIDE:
                lengths = self.stage.length(lengths)
            if number and _stride(layer) == STRIDE:
                x = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
                continue
            frames, weight, bias = x.flatten(0, 2), layer.weight.flatten(1), layer.bias
            assert bias is not None
            if number:
                y = torch.addmm(bias, frames, weight.t())
            else:  # the bias as the weight of a 1 saves passes over the largest tensor, there and back
                y = torch.mm(F.pad(frames, (0, 1), value=1.0), torch.cat((weight, bias[:, None]), 1).t())
            y = _BlankedReLU.apply(y, x.shape[:2], lengths.tolist() if masked else ())
            x = y.view(*x.shape[:3], -1)
        return x.permute(0, 3, 1, 2), lengths

    def _windows(self, x: Tensor) -> Tensor:
        """What a strided convolution sees of (B, T, F): (B, T', F', kernel * kernel)."""
        stage = self.stage
        x = F.pad(x, (stage.left, stage.right) * 2)
        return x.unfold(1, stage.kernel, STRIDE).unfold(2, stage.kernel, STRIDE).flatten(3)

    def _valid(self, x: Tensor, lengths: Tensor) -> Tensor:
        """1 at valid frames and 0 at padding, in the shape and type that `x` is multiplied by."""
        valid = (torch.arange(x.shape[2], device=x.device)[None, :] < lengths[:, None])[:, None].to(x.dtype)
        return valid if self.over_time else valid[..., None]

    def _pieces(self, x: Tensor) -> int:
        if self.chunking_factor != 1:
            return max(1, self.chunking_factor)
        if self.over_time or x.numel() * self.channels <= INDEX_LIMIT * STRIDE**2:
            return 1
        return 2 ** math.ceil(math.log2(x.numel() * self.channels / (INDEX_LIMIT * STRIDE**2)))


class _BlankedReLU(torch.autograd.Function):
    """ReLU in place of flattened frames (B, T, ...), and zeros from each item's length on; keeps its result.

    Not for a view: autograd would copy all of what it shows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, frames: tuple[int, int], lengths: Sequence[int]) -> Tensor:  # type: ignore[override]
        ctx.mark_dirty(x)
        x.relu_()
        for item, length in zip(x.view(*frames, -1), lengths, strict=False):
            item[length:] = 0.0
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            return torch.ops.aten.threshold_backward(gradient, y, 0), None, None
        # In place: nothing but the layer behind has made this gradient, and nobody else sees it.
        torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
        return gradient, None, None


def _is_plain(layer: nn.Module) -> bool:
    """True if nobody has exchanged or hooked the layer: what it computes may be computed otherwise."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) in (nn.Conv2d, CausalConv2d, nn.ReLU) and not any(hooks)


def _stride(layer: nn.Module) -> int:
    stride = getattr(layer, "stride", 1)
    return stride[0] if isinstance(stride, tuple) else stride


def _layers(
    kind: str, stages: int, feat_in: int, feat_out: int, channels: int, causal: bool
) -> list[nn.Module]:
    """The modules of `conv`, made in NeMo's order, which is that of their initial weights."""
    layers: list[nn.Module] = []
    for stage in range(stages):
        first, last = stage == 0, stage == stages - 1
        planes, inputs = (1, feat_in) if first else (channels, channels)
        outputs = feat_out if last else channels
        if kind == "vggnet":
            layers += [nn.Conv2d(planes, channels, 3, 1, 1), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(inplace=True)]
            layers.append(nn.MaxPool2d(2, STRIDE, ceil_mode=True))
            continue
        if kind == "striding" or (kind == "dw_striding" and first):
            layers.append(_halving_conv2d(planes, channels, 1, causal))
        elif kind == "dw_striding":
            layers.append(_halving_conv2d(channels, channels, channels, causal))
            layers.append(nn.Conv2d(channels, channels, 1))
        elif kind == "striding_conv1d" and causal:
            layers.append(CausalConv1d(inputs, outputs, 5, STRIDE))
        elif kind == "striding_conv1d":
            layers.append(nn.Conv1d(inputs, outputs, 5, STRIDE, 2))
        else:
            layers.append(nn.Conv1d(inputs, inputs, 5, STRIDE, 2, groups=inputs))
            layers.append(nn.Conv1d(inputs, outputs, 1))
        layers.append(nn.ReLU(inplace=True))
    return layers


def _halving_conv2d(inputs: int, outputs: int, groups: int, causal: bool) -> nn.Conv2d:
    if causal:
        return CausalConv2d(inputs, outputs, 3, STRIDE, groups=groups)
    return nn.Conv2d(inputs, outputs, 3, STRIDE, 1, groups=groups)
