"""One Conformer layer: half a feed-forward, attention, convolution, the other half."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HALF_STEP = 0.5  # weight of each feed-forward in the residual sum


class ConformerLayer(nn.Module):
    """x + FF/2, + attention, + convolution, + FF/2, each on a normalised input, then a layer norm.

    `self_attn` is called as MultiHeadAttention is. Source: Conformer (arXiv 2005.08100), section 2.4.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        make_attention: Callable[[], nn.Module],
        conv_kernel_size: int,
        conv_norm_type: str,
        conv_context_size: Sequence[int],
        dropout: float,
        use_bias: bool,
    ) -> None:
        super().__init__()
        self.norm_feed_forward1 = nn.LayerNorm(d_model)
        self.feed_forward1 = ConformerFeedForward(d_model, d_ff, dropout, use_bias)
        self.norm_conv = nn.LayerNorm(d_model)
        self.conv = ConformerConvolution(
            d_model, conv_kernel_size, use_bias, conv_norm_type, conv_context_size
        )
        self.norm_self_att = nn.LayerNorm(d_model)
        self.self_attn = make_attention()  # here, for the order in which initial weights are drawn
        self.norm_feed_forward2 = nn.LayerNorm(d_model)
        self.feed_forward2 = ConformerFeedForward(d_model, d_ff, dropout, use_bias)
        self.dropout = Dropout(dropout)
        self.norm_out = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, att_mask: Tensor | None, pos_emb: Tensor, pad_mask: Tensor | None) -> Tensor:
        """x (B, T, D) -> (B, T, D).

        `att_mask` (B, 1 or T, T) and `pad_mask` (B, T) bool, True where blocked and at padding; `pos_emb`
        (1, P, D), the sinusoids that the attention takes.
        """
        x = torch.add(x, self.dropout(self.feed_forward1(self.norm_feed_forward1(x))), alpha=HALF_STEP)
        y = self.norm_self_att(x)
        y = self.self_attn(y, y, y, mask=att_mask, pos_emb=pos_emb, pad_mask=pad_mask)
        x = x + self.dropout(y)
        x = x + self.dropout(self.conv(self.norm_conv(x), pad_mask=pad_mask))
        x = torch.add(x, self.dropout(self.feed_forward2(self.norm_feed_forward2(x))), alpha=HALF_STEP)
        return self.norm_out(x)


class Dropout(nn.Dropout):
    """nn.Dropout, on the CPU from 16 random bits a value and with a mask of one byte a value.

    That takes two thirds of the time and a quarter of the memory, and gives other draws for the same seed.
    The share of zeros is `p` to the next 2**-16.
    """

    def forward(self, input: Tensor) -> Tensor:
        dropped = round(self.p * 2**16)
        usual = input.device.type != "cpu" or torch.compiler.is_compiling() or not self.training
        if usual or not 0 < dropped < 2**16:
            return super().forward(input)
        count = input.numel()
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = (bits.view(torch.int16)[:count] >= dropped - 2**15).view(input.shape)
        # As bytes, because a product with bool converts it four times as slowly.
        return (input * keep.view(torch.uint8)).mul_(2**16 / (2**16 - dropped))


class ConformerFeedForward(nn.Module):
    """Linear, SiLU, dropout, linear, on (B, T, d_model)."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, use_bias: bool = True) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff, bias=use_bias)
        self.dropout = Dropout(dropout)
        self.linear2 = nn.Linear(d_ff, d_model, bias=use_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.silu(self.linear1(x))))


class ConformerConvolution(nn.Module):
    """Gated 1x1 convolution, depthwise convolution over time, a norm, SiLU, 1x1 convolution.

    `context` [left, right]: the frames that the depthwise convolution sees on either side, kernel_size - 1
    in all; None: as many on both.  The norm is called `batch_norm` whatever its kind (conv_norm), and
    batch, instance and group statistics include padded frames, as in NeMo.
    """

    def __init__(
        self,
        d_model: int,
        kernel_size: int,
        use_bias: bool = True,
        norm_type: str = "batch_norm",
        context: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.left, self.right = context or [(kernel_size - 1) // 2] * 2
        self.pointwise_conv1 = PointwiseConv(d_model, 2 * d_model, use_bias)
        padding = self.left if self.left == self.right else 0
        self.depthwise_conv = nn.Conv1d(
            d_model, d_model, kernel_size, padding=padding, groups=d_model, bias=use_bias
        )
        self.batch_norm = conv_norm(norm_type, d_model)
        self.pointwise_conv2 = PointwiseConv(d_model, d_model, use_bias)

    def forward(self, x: Tensor, pad_mask: Tensor | None = None) -> Tensor:
        """x (B, T, D); pad_mask (B, T) bool, True at padding, which the depthwise convolution sees as 0."""
        x = F.glu(self.pointwise_conv1(x), dim=-1)
        if pad_mask is not None:
            x = x.mul_((~pad_mask)[:, :, None].to(x.dtype))  # faster than filling
        x = x.transpose(1, 2)
        if self.left != self.right:
            x = F.pad(x, (self.left, self.right))
        x = self.depthwise_conv(x)
        if isinstance(self.batch_norm, nn.LayerNorm):
            x = self.batch_norm(x.transpose(1, 2))
        else:
            x = self.batch_norm(x).transpose(1, 2)
        return self.pointwise_conv2(F.silu(x))


class PointwiseConv(nn.Conv1d):
    """A convolution of width 1 on frames (B, T, D), computed as the matrix product that it is.

    The weight has a convolution's shape, (out, in, 1), and its first values.
    """

    def __init__(self, in_channels: int, out_channels: int, use_bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=use_bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.squeeze(-1), self.bias)


class FusedBatchNorm1d(nn.Module):
    """What a batch norm is after training: a factor and an offset per channel of (B, D, T)."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None] + self.bias[:, None]


def conv_norm(kind: str, channels: int) -> nn.Module:
    """The norm of `conv_norm_type`: batch_norm, fused_batch_norm, instance_norm, layer_norm or group_normN.

    group_norm4 and groupnorm4 are four groups. ValueError names the key.
    """
    plain: dict[str, type[nn.Module]] = {
        "batch_norm": nn.BatchNorm1d,
        "fused_batch_norm": FusedBatchNorm1d,
        "instance_norm": nn.InstanceNorm1d,
        "layer_norm": nn.LayerNorm,
    }
    if kind in plain:
        return plain[kind](channels)
    groups = kind.removeprefix("group_norm").removeprefix("groupnorm")
    if groups == kind or not groups.isdecimal():
        raise ValueError(f"conv_norm_type: {kind!r}; use {', '.join(plain)} or group_normN with N groups")
    if int(groups) == 0 or channels % int(groups):
        raise ValueError(f"conv_norm_type: {kind!r}; the groups must divide d_model {channels}")
    return nn.GroupNorm(int(groups), channels)
