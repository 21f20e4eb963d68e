"""Self-attention with relative positions, and the sinusoids it takes them from."""

from __future__ import annotations

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASKED_SCORE = -10000.0  # NeMo's: finite, so that a row without any allowed key stays finite


class RelPositionalEncoding(nn.Module):
    """Sinusoids of the relative positions T-1 ... -(T-1), and the scaling and dropout of the encoder's input.

    The table is computed when first needed, for at least `max_len` frames, and grows for longer inputs; it
    is neither a parameter nor a buffer, so it is not saved and not sent between ranks. Source:
    Transformer-XL (arXiv 1901.02860), section 3.3.
    """

    def __init__(
        self,
        d_model: int,
        dropout_rate: float,
        max_len: int,
        xscale: float | None,
        dropout_rate_emb: float = 0.0,
    ) -> None:
        super().__init__()
        self.d_model, self.max_len, self.xscale = d_model, max_len, xscale
        self.dropout = nn.Dropout(dropout_rate)
        self.dropout_emb = nn.Dropout(dropout_rate_emb)
        self._table: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, d_model) -> x scaled and dropped out, positions (1, 2 T - 1, d_model), T - 1 first."""
        if self.xscale is not None:
            x = x * self.xscale
        return self.dropout(x), self.dropout_emb(self._positions(x.shape[1], x.device))

    def _positions(self, frames: int, device: torch.device) -> Tensor:
        table = self._table
        if table is None or table.shape[1] < 2 * frames - 1 or table.device != device:
            table = self._table = sinusoids(max(frames, self.max_len), self.d_model, device)
        centre = table.shape[1] // 2
        return table[:, centre - frames + 1 : centre + frames]


def sinusoids(frames: int, d_model: int, device: torch.device) -> Tensor:
    """(1, 2 frames - 1, d_model) float32: sin and cos of the positions frames - 1 ... 1 - frames."""
    with torch.inference_mode(False):
        positions = torch.arange(frames - 1, -frames, -1, dtype=torch.float32, device=device)[:, None]
        frequencies = torch.exp(
            torch.arange(0, d_model, 2, dtype=torch.float32, device=device) * -(math.log(10000.0) / d_model)
        )
        angles = positions * frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[None]


class RelPositionMultiHeadAttention(nn.Module):
    """Multi-head attention whose scores add a term of content and distance to that of content and content.

    score(i, j) = ((q_i + u) k_j + (q_i + v) p_{i-j}) / sqrt(d_k), with p the projected sinusoids and u, v
    learnt per head.  `use_pytorch_sdpa` computes the same through torch's fused kernel (other dropout
    noise). Under float16 autocast it runs in bfloat16 (float32 where the device has none), as in NeMo.
    Source: Transformer-XL (arXiv 1901.02860), section 3.3.
    """

    def __init__(
        self,
        n_head: int,
        n_feat: int,
        dropout_rate: float,
        use_bias: bool = True,
        use_pytorch_sdpa: bool = False,
    ) -> None:
        super().__init__()
        if n_feat % n_head:
            raise ValueError(f"n_heads: {n_head} does not divide d_model {n_feat}")
        self.h, self.d_k = n_head, n_feat // n_head
        self.use_pytorch_sdpa = use_pytorch_sdpa
        self.linear_q = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.linear_k = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.linear_v = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.linear_out = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.dropout = nn.Dropout(dropout_rate)
        self.linear_pos = nn.Linear(n_feat, n_feat, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(n_head, self.d_k))
        self.pos_bias_v = nn.Parameter(torch.zeros(n_head, self.d_k))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, pos_emb: Tensor
    ) -> Tensor:
        """query, key, value (B, T, D); mask (B, T, T) bool, True where blocked; pos_emb (1, 2 T - 1, D).

        Gives (B, T, D).  A row that may see nothing gives the bias of `linear_out`.
        """
        with _without_float16(query.device.type):
            q = self._heads(self.linear_q(query))
            k = self._heads(self.linear_k(key))
            v = self._heads(self.linear_v(value))
            p = self._heads(self.linear_pos(pos_emb.to(self.linear_pos.weight.dtype)))
            q_content = q + self.pos_bias_u[:, None, :].to(q.dtype)
            q_position = q + self.pos_bias_v[:, None, :].to(q.dtype)
            position_scores = rel_shift(torch.matmul(q_position, p.transpose(-2, -1)))
            attend = self._attend_sdpa if self.use_pytorch_sdpa else self._attend
            context = attend(q_content, k, v, position_scores, None if mask is None else mask[:, None])
            if mask is not None:
                context = context.masked_fill(mask.all(dim=-1)[:, None, :, None], 0.0)
            return self.linear_out(context.transpose(1, 2).flatten(2))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, position_scores: Tensor, mask: Tensor | None
    ) -> Tensor:
        scores = (torch.matmul(q, k.transpose(-2, -1)) + position_scores) / math.sqrt(self.d_k)
        if mask is not None:
            scores.masked_fill_(mask, MASKED_SCORE)
        return torch.matmul(self.dropout(scores.softmax(dim=-1)), v)

    def _attend_sdpa(
        self, q: Tensor, k: Tensor, v: Tensor, position_scores: Tensor, mask: Tensor | None
    ) -> Tensor:
        scale = 1.0 / math.sqrt(self.d_k)
        bias = position_scores * scale
        if mask is not None:
            bias.masked_fill_(mask, MASKED_SCORE)
        dropout = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, d_k)."""
        return x.unflatten(-1, (self.h, self.d_k)).transpose(1, 2)


def rel_shift(scores: Tensor) -> Tensor:
    """scores (B, H, T, 2 T - 1) by distance, T - 1 first -> (B, H, T, T) with i - j at [i, j].

    Row i needs the columns T - 1 - i ... 2 T - 2 - i: in memory every row starts one element earlier
    relative to its own beginning, so the result is a view of the same storage.  Equal to the shift of
    Transformer-XL, appendix B.
    """
    batch, heads, frames, width = scores.shape
    scores = scores.contiguous()
    strides = (heads * frames * width, frames * width, max(width - 1, 1), 1)
    return scores.as_strided((batch, heads, frames, frames), strides, scores.storage_offset() + frames - 1)


def _without_float16(device_type: str) -> contextlib.AbstractContextManager:
    """bfloat16 (or no) autocast where float16 autocast is on: the scores of long inputs overflow float16."""
    if not torch.is_autocast_enabled(device_type) or torch.get_autocast_dtype(device_type) != torch.float16:
        return contextlib.nullcontext()
    if device_type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.autocast(device_type, enabled=False)
    return torch.autocast(device_type, dtype=torch.bfloat16)
