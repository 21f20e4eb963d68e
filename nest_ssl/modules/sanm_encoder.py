"""FunASR's SenseVoiceEncoderSmall: self-attention with a memory block (SANM), in two stacks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nest_ssl.modules.recompute import recomputed


class SenseVoiceEncoderSmall(nn.Module):
    """FunASR's encoder with its constructor keys and state-dict names.

    `num_blocks` layers, a norm, `tp_blocks` layers, a norm; the first layer changes the width from
    `input_size` to `output_size`.  Positions are sinusoids over the input features, computed for any
    length.  `kernel_size` frames of memory around a frame; `sanm_shfit` (sic) moves them into the past.
    `gradient_checkpointing` recomputes layers in the backward pass instead of keeping their activations.
    ValueError names the key that cannot be met.
    Source: SCAMA (Zhang et al., 2020, arXiv 2006.01713).
    """

    frame_factor = 1  # feature frames per output frame

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        tp_blocks: int = 0,
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        kernel_size: int = 11,
        sanm_shfit: int = 0,
    ):
        super().__init__()
        if input_size % 2 or input_size < 4:
            raise ValueError(
                f"input_size: {input_size} features; an even number is needed, sinusoids come in pairs"
            )
        if output_size % attention_heads:
            raise ValueError(
                f"output_size: {output_size} is no multiple of attention_heads: {attention_heads}"
            )
        if num_blocks < 1:
            raise ValueError(f"num_blocks: {num_blocks}; the first layer makes the width, so 1 is the least")
        self.input_size, self._output_size = input_size, output_size
        self.gradient_checkpointing = False

        def layer(width: int) -> EncoderLayerSANM:
            attention = MultiHeadedAttentionSANM(
                attention_heads, width, output_size, attention_dropout_rate, kernel_size, sanm_shfit
            )
            return EncoderLayerSANM(width, output_size, linear_units, attention, dropout_rate)

        self.embed = SinusoidalPositionEncoder()
        self.encoders0 = nn.ModuleList([layer(input_size)])
        self.encoders = nn.ModuleList(layer(output_size) for _ in range(num_blocks - 1))
        self.tp_encoders = nn.ModuleList(layer(output_size) for _ in range(tp_blocks))
        self.after_norm = nn.LayerNorm(output_size)
        self.tp_norm = nn.LayerNorm(output_size)

    def output_size(self) -> int:
        """Give the width of an output frame."""
        return self._output_size

    def frames_of(self, feature_lengths: Tensor) -> Tensor:
        """Give the output frames of so many feature frames: as many."""
        return feature_lengths

    def forward(self, xs_pad: Tensor, ilens: Tensor) -> tuple[Tensor, Tensor]:
        """xs_pad (B, T, input_size) float, ilens (B,) -> (B, T, output_size), lengths (B,) int32.

        The input is left as it is (FunASR's encoder scales it in place).  Raises ValueError for features of
        another width, such as (B, D, T) in place of (B, T, D).
        """
        if xs_pad.dim() != 3 or xs_pad.shape[2] != self.input_size:
            swapped = xs_pad.dim() == 3 and xs_pad.shape[1] == self.input_size
            hint = "; time and features are exchanged" if swapped else ""
            raise ValueError(
                f"features are {tuple(xs_pad.shape)}, the encoder takes (B, T, {self.input_size}){hint}"
            )
        valid = torch.arange(xs_pad.shape[1], device=xs_pad.device) < ilens.to(xs_pad.device)[:, None]
        x = self.embed(xs_pad * self._output_size**0.5)
        for layer in (*self.encoders0, *self.encoders):
            x = self._run(layer, x, valid)
        x = self.after_norm(x)
        for layer in self.tp_encoders:
            x = self._run(layer, x, valid)
        x = self.tp_norm(x)
        return x, ilens.to(torch.int32)

    def _run(self, layer: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return recomputed(layer, x, valid)
        return layer(x, valid)


class SinusoidalPositionEncoder(nn.Module):
    """Add sin and cos of the frame's number, from 1 on, all sines before all cosines."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> the same shape and dtype."""
        half = x.shape[2] // 2
        # In float32 from the logarithm on, as FunASR: a last bit here is seen behind twenty layers.
        step = torch.tensor(10000.0, device=x.device).log() / (half - 1)
        rates = torch.exp(torch.arange(half, device=x.device, dtype=torch.float32) * -step)
        angles = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float32)[:, None] * rates
        return x + torch.cat((angles.sin(), angles.cos()), dim=1).to(x.dtype)


class EncoderLayerSANM(nn.Module):
    """Attention with memory and a feed-forward part, each behind its norm; residual where widths agree."""

    def __init__(self, width: int, size: int, hidden: int, attention: nn.Module, dropout_rate: float):
        super().__init__()
        self.self_attn = attention
        self.feed_forward = PositionwiseFeedForward(size, hidden, dropout_rate)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout_rate)
        self.residual = width == size

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, width), valid (B, T) bool, True for frames that are no padding -> (B, T, size)."""
        attended = self.dropout(self.self_attn(self.norm1(x), valid))
        x = x + attended if self.residual else attended
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class MultiHeadedAttentionSANM(nn.Module):
    """Scaled dot-product attention plus a depthwise convolution of the values, the memory."""

    def __init__(
        self,
        heads: int,
        width: int,
        size: int,
        attention_dropout_rate: float,
        kernel_size: int,
        shift: int,
    ):
        super().__init__()
        self.heads, self.attention_dropout_rate = heads, attention_dropout_rate
        self.linear_out = nn.Linear(size, size)
        self.linear_q_k_v = nn.Linear(width, 3 * size)
        self.fsmn_block = nn.Conv1d(size, size, kernel_size, groups=size, bias=False)
        self.past = (kernel_size - 1) // 2 + max(0, shift)
        self.future = kernel_size - 1 - self.past
        self.dropout = nn.Dropout(attention_dropout_rate)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, width), valid (B, T) bool -> (B, T, size)."""
        parts = self.linear_q_k_v(x).chunk(3, dim=2)
        memory = self._memory(parts[2], valid)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=valid[:, None, None, :],
            dropout_p=self.attention_dropout_rate if self.training else 0.0,
        )
        return self.linear_out(attended.transpose(1, 2).flatten(2)) + memory

    def _memory(self, value: Tensor, valid: Tensor) -> Tensor:
        value = value * valid[:, :, None]
        padded = F.pad(value.transpose(1, 2), (self.past, self.future))
        return self.dropout(self.fsmn_block(padded).transpose(1, 2) + value) * valid[:, :, None]


class PositionwiseFeedForward(nn.Module):
    """Two linear layers with ReLU and dropout between."""

    def __init__(self, size: int, hidden: int, dropout_rate: float):
        super().__init__()
        self.w_1 = nn.Linear(size, hidden)
        self.w_2 = nn.Linear(hidden, size)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, size) -> the same."""
        return self.w_2(self.dropout(F.relu(self.w_1(x))))
