"""FunASR's `Transformer`: what leads from the encoder to the language model, and to the CTC head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nest_ssl.modules.recompute import recomputed
from nest_ssl.modules.sanm_encoder import PositionwiseFeedForward

EPSILON = 1e-12  # of its norms, where the encoder has 1e-5


class Transformer(nn.Module):
    """`downsample_rate` frames side by side, two linear layers, `n_layer` transformer layers.

    Keys, defaults and state-dict names are FunASR's; there is no position code and no norm at the end.
    ValueError names the key that cannot be met.
    """

    def __init__(
        self,
        downsample_rate: int = 2,
        encoder_dim: int = 1280,
        llm_dim: int = 4096,
        ffn_dim: int = 2048,
        n_layer: int = 2,
        attention_heads: int = 8,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
    ):
        super().__init__()
        if downsample_rate < 1:
            raise ValueError(f"downsample_rate: {downsample_rate} is not a whole number from 1 on")
        if n_layer and llm_dim % attention_heads:
            raise ValueError(f"llm_dim: {llm_dim} is no multiple of attention_heads: {attention_heads}")
        self.k, self.encoder_dim, self.llm_dim = downsample_rate, encoder_dim, llm_dim
        self.gradient_checkpointing = False
        self.linear1 = nn.Linear(encoder_dim * downsample_rate, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, llm_dim)
        self.blocks = (
            nn.ModuleList(
                EncoderLayer(llm_dim, attention_heads, dropout_rate, attention_dropout_rate)
                for _ in range(n_layer)
            )
            if n_layer > 0
            else None
        )

    def frames_of(self, lengths: Tensor) -> Tensor:
        """Give the output frames of so many encoder frames."""
        return (lengths - 1) // self.k + 1

    def forward(self, x: Tensor, ilens: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, encoder_dim), ilens (B,) -> (B, ceil(T / k), llm_dim), lengths (B,) of ilens' dtype."""
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.k)).unflatten(1, (-1, self.k)).flatten(2)
        x = self.linear2(F.relu(self.linear1(x)))
        lengths = self.frames_of(ilens)
        valid = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
        for block in self.blocks or ():
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = recomputed(block, x, valid)
            else:
                x = block(x, valid)
        return x, lengths


class EncoderLayer(nn.Module):
    """Attention and a feed-forward part of a quarter of the width, each behind its norm and residual."""

    def __init__(self, size: int, heads: int, dropout_rate: float, attention_dropout_rate: float):
        super().__init__()
        self.self_attn = MultiHeadedAttention(heads, size, attention_dropout_rate)
        self.feed_forward = PositionwiseFeedForward(size, size // 4, dropout_rate)
        self.norm1 = nn.LayerNorm(size, eps=EPSILON)
        self.norm2 = nn.LayerNorm(size, eps=EPSILON)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, size), valid (B, T) bool, True for frames that are no padding -> (B, T, size)."""
        x = x + self.dropout(self.self_attn(self.norm1(x), valid))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class MultiHeadedAttention(nn.Module):
    """Scaled dot-product attention over valid frames, with a linear layer for each of q, k, v."""

    def __init__(self, heads: int, size: int, dropout_rate: float):
        super().__init__()
        self.heads, self.dropout_rate = heads, dropout_rate
        self.linear_q = nn.Linear(size, size)
        self.linear_k = nn.Linear(size, size)
        self.linear_v = nn.Linear(size, size)
        self.linear_out = nn.Linear(size, size)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, size), valid (B, T) bool -> (B, T, size)."""
        query, key, value = (
            linear(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=valid[:, None, None, :],
            dropout_p=self.dropout_rate if self.training else 0.0,
        )
        return self.linear_out(attended.transpose(1, 2).flatten(2))
