"""One Conformer layer: half a feed-forward, attention, convolution, the other half."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nest_ssl.modules.multi_head_attention import RelPositionMultiHeadAttention

HALF_STEP = 0.5  # weight of each feed-forward in the residual sum


class ConformerLayer(nn.Module):
    """x + FF/2, + attention, + convolution, + FF/2, each on a normalised input, then a layer norm.

    Source: Conformer (arXiv 2005.08100), section 2.4.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        n_heads: int,
        conv_kernel_size: int,
        dropout: float,
        dropout_att: float,
        use_bias: bool,
        use_pytorch_sdpa: bool,
    ) -> None:
        super().__init__()
        self.norm_feed_forward1 = nn.LayerNorm(d_model)
        self.feed_forward1 = ConformerFeedForward(d_model, d_ff, dropout, use_bias)
        self.norm_conv = nn.LayerNorm(d_model)
        self.conv = ConformerConvolution(d_model, conv_kernel_size, use_bias)
        self.norm_self_att = nn.LayerNorm(d_model)
        self.self_attn = RelPositionMultiHeadAttention(
            n_heads, d_model, dropout_att, use_bias, use_pytorch_sdpa
        )
        self.norm_feed_forward2 = nn.LayerNorm(d_model)
        self.feed_forward2 = ConformerFeedForward(d_model, d_ff, dropout, use_bias)
        self.dropout = nn.Dropout(dropout)
        self.norm_out = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, att_mask: Tensor | None, pos_emb: Tensor, pad_mask: Tensor | None) -> Tensor:
        """x (B, T, D); att_mask (B, T, T), pad_mask (B, T) bool, True where blocked; pos_emb (1, 2T-1, D)."""
        x = x + HALF_STEP * self.dropout(self.feed_forward1(self.norm_feed_forward1(x)))
        normed = self.norm_self_att(x)
        x = x + self.dropout(self.self_attn(normed, normed, normed, mask=att_mask, pos_emb=pos_emb))
        x = x + self.dropout(self.conv(self.norm_conv(x), pad_mask=pad_mask))
        x = x + HALF_STEP * self.dropout(self.feed_forward2(self.norm_feed_forward2(x)))
        return self.norm_out(x)


class ConformerFeedForward(nn.Module):
    """Linear, SiLU, dropout, linear, on (B, T, d_model)."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, use_bias: bool = True) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff, bias=use_bias)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(d_ff, d_model, bias=use_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.silu(self.linear1(x))))


class ConformerConvolution(nn.Module):
    """Gated 1x1 convolution, depthwise convolution over time, batch norm, SiLU, 1x1 convolution.

    The batch statistics include padded frames, as in NeMo.
    """

    def __init__(self, d_model: int, kernel_size: int, use_bias: bool = True) -> None:
        super().__init__()
        self.pointwise_conv1 = PointwiseConv(d_model, 2 * d_model, use_bias)
        self.depthwise_conv = nn.Conv1d(
            d_model, d_model, kernel_size, padding=(kernel_size - 1) // 2, groups=d_model, bias=use_bias
        )
        self.batch_norm = nn.BatchNorm1d(d_model)
        self.pointwise_conv2 = PointwiseConv(d_model, d_model, use_bias)

    def forward(self, x: Tensor, pad_mask: Tensor | None = None) -> Tensor:
        """x (B, T, D); pad_mask (B, T) bool, True at padding, which the depthwise convolution sees as 0."""
        x = F.glu(self.pointwise_conv1(x), dim=-1)
        if pad_mask is not None:
            x = x.masked_fill(pad_mask[:, :, None], 0.0)
        x = F.silu(self.batch_norm(self.depthwise_conv(x.transpose(1, 2))))
        return self.pointwise_conv2(x.transpose(1, 2))


class PointwiseConv(nn.Conv1d):
    """A convolution of width 1 on frames (B, T, D), computed as the matrix product that it is.

    The weight has a convolution's shape, (out, in, 1), and its first values.
    """

    def __init__(self, in_channels: int, out_channels: int, use_bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=use_bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.squeeze(-1), self.bias)
