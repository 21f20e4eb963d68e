"""Self-attention over all frames that a mask allows, with absolute or with relative positions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import torch
import torch.nn.attention
import torch.nn.functional as F
from torch import Tensor, nn


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in `n_head` heads; positions are in the input.

    `use_pytorch_sdpa` computes the same through torch's fused kernel (other dropout noise), restricted to
    `use_pytorch_sdpa_backends` (names of torch.nn.attention.SDPBackend) unless that is empty. Under float16
    autocast it runs in bfloat16 (float32 where the device has none), as in NeMo. Source: Attention Is All You
    Need (arXiv 1706.03762), section 3.2.
    """

    def __init__(
        self,
        n_head: int,
        n_feat: int,
        dropout_rate: float,
        use_bias: bool = True,
        use_pytorch_sdpa: bool = False,
        use_pytorch_sdpa_backends: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if n_feat % n_head:
            raise ValueError(f"n_heads: {n_head} does not divide d_model {n_feat}")
        self.h, self.d_k = n_head, n_feat // n_head
        self.scale = 1.0 / math.sqrt(self.d_k)
        self.use_pytorch_sdpa = use_pytorch_sdpa
        self.sdpa_backends = _sdpa_backends(use_pytorch_sdpa_backends)
        self.linear_q = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.linear_k = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.linear_v = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.linear_out = nn.Linear(n_feat, n_feat, bias=use_bias)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        pos_emb: Tensor | None = None,
        pad_mask: Tensor | None = None,
    ) -> Tensor:
        """query, key, value (B, T, D) -> (B, T, D).

        `mask` (B, T, T) or (B, 1, T) bool, True where a query must not see a key; `pad_mask` (B, T) bool,
        True at queries of padding, which give the bias of `linear_out`.  `pos_emb` is not used.
        """
        with without_float16(query.device.type):
            q = self.heads(self.linear_q(query) * self.scale)
            k, v = self.heads(self.linear_k(key)), self.heads(self.linear_v(value))
            return self._output(self._attend(q, k, v, None, mask), pad_mask)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        """q (scaled), k, v (B, H, T, d_k); `bias` (B, H, T, T) joins the scores; `mask` as in forward."""
        if mask is not None:
            mask = mask[:, None]
        if self.use_pytorch_sdpa:
            return self._attend_sdpa(q, k, v, bias, mask)
        scores = torch.matmul(q, k.transpose(-2, -1))
        if bias is not None:
            scores.add_(bias)
        if mask is not None:
            scores.add_(penalty(mask, scores.dtype))
        return torch.matmul(self.dropout(scores.softmax(dim=-1)), v)

    def _attend_sdpa(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        if bias is not None and mask is not None:
            bias = bias + penalty(mask, bias.dtype)
        elif mask is not None:
            bias = ~mask
        dropout = self.dropout.p if self.training else 0.0
        restricted = torch.nn.attention.sdpa_kernel if self.sdpa_backends else contextlib.nullcontext
        with restricted(self.sdpa_backends):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=1.0)

    def _output(self, context: Tensor, pad_mask: Tensor | None) -> Tensor:
        context = context.transpose(1, 2).flatten(2)
        if pad_mask is not None:
            context = context * (~pad_mask)[:, :, None].to(context.dtype)
        return self.linear_out(context)

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, d_k)."""
        return x.unflatten(-1, (self.h, self.d_k)).transpose(1, 2)


class RelPositionMultiHeadAttention(MultiHeadAttention):
    """Multi-head attention whose scores add a term of content and distance to that of content and content.

    score(i, j) = ((q_i + u) k_j + (q_i + v) p_{i-j}) / sqrt(d_k), with p the projected sinusoids and u, v
    learnt per head; `pos_bias_u` and `pos_bias_v` (H, d_k) share them between layers.  Source:
    Transformer-XL (arXiv 1901.02860), section 3.3.
    """

    def __init__(
        self,
        n_head: int,
        n_feat: int,
        dropout_rate: float,
        use_bias: bool = True,
        use_pytorch_sdpa: bool = False,
        use_pytorch_sdpa_backends: Sequence[str] | None = None,
        pos_bias_u: nn.Parameter | None = None,
        pos_bias_v: nn.Parameter | None = None,
    ) -> None:
        super().__init__(n_head, n_feat, dropout_rate, use_bias, use_pytorch_sdpa, use_pytorch_sdpa_backends)
        self.linear_pos = nn.Linear(n_feat, n_feat, bias=False)
        self.pos_bias_u = pos_bias(n_head, n_feat) if pos_bias_u is None else pos_bias_u
        self.pos_bias_v = pos_bias(n_head, n_feat) if pos_bias_v is None else pos_bias_v

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        pos_emb: Tensor | None = None,
        pad_mask: Tensor | None = None,
    ) -> Tensor:
        """As MultiHeadAttention, with the sinusoids `pos_emb` (1, 2 T - 1, D) of T - 1 ... 1 - T."""
        assert pos_emb is not None
        with without_float16(query.device.type):
            q = self.linear_q(query) * self.scale
            k, v = self.heads(self.linear_k(key)), self.heads(self.linear_v(value))
            bias = rel_shift(self.position_scores(q, pos_emb))
            return self._output(self._attend(self.content_query(q), k, v, bias, mask), pad_mask)

    def content_query(self, q: Tensor) -> Tensor:
        """Scaled projected queries (B, T, D) with u, also scaled: (B, H, T, d_k)."""
        return self.heads(q + (self.pos_bias_u.flatten() * self.scale).to(q.dtype))

    def position_scores(self, q: Tensor, pos_emb: Tensor) -> Tensor:
        """(q + v) p of scaled projected queries (B, T, D) with each of `pos_emb` (1, P, D): (B, H, T, P).

        One product per head for the whole batch, so that p is not repeated for every item.
        """
        batch, frames, _ = q.shape
        p = self.linear_pos(pos_emb.to(self.linear_pos.weight.dtype))
        q_position = q + (self.pos_bias_v.flatten() * self.scale).to(q.dtype)
        q_position = q_position.reshape(batch * frames, self.h, self.d_k).transpose(0, 1)
        scores = torch.bmm(q_position, p.view(-1, self.h, self.d_k).permute(1, 2, 0))
        return scores.view(self.h, batch, frames, -1).transpose(0, 1)


def pos_bias(n_head: int, n_feat: int) -> nn.Parameter:
    """A learnt (H, d_k) vector per head that starts at zero."""
    return nn.Parameter(torch.zeros(n_head, n_feat // n_head))


def penalty(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores where `mask` is True: so little that they are exactly 0 after a softmax.

    Finite, so that a row without any allowed key stays finite.  Added because that is faster than filling,
    forward and backward.
    """
    return mask.to(dtype) * (torch.finfo(dtype).min / 2)


def rel_shift(scores: Tensor) -> Tensor:
    """scores (B, H, T, 2 T - 1) by distance, T - 1 first -> (B, H, T, T) with i - j at [i, j].

    Row i needs the columns T - 1 - i ... 2 T - 2 - i: in memory every row starts one element earlier
    relative to its own beginning, so the result is a view of the same storage.  Equal to the shift of
    Transformer-XL, appendix B.
    """
    batch, heads, frames, width = scores.shape
    if torch.compiler.is_exporting():  # an exported graph knows no strides; Transformer-XL's own way
        padded = F.pad(scores, (1, 0)).reshape(batch, heads, width + 1, frames)
        return padded[:, :, 1:].reshape(batch, heads, frames, width)[..., :frames]
    if scores.stride(3) != 1 or scores.stride(2) != width:
        scores = scores.contiguous()
    strides = (scores.stride(0), scores.stride(1), max(width - 1, 1), 1)
    # The compiler cannot read an offset; what it sees here is the result of a product, which has none.
    offset = 0 if torch.compiler.is_compiling() else scores.storage_offset()
    return scores.as_strided((batch, heads, frames, frames), strides, offset + frames - 1)


def without_float16(device_type: str) -> contextlib.AbstractContextManager:
    """bfloat16 (or no) autocast where float16 autocast is on: the scores of long inputs overflow float16."""
    if not torch.is_autocast_enabled(device_type) or torch.get_autocast_dtype(device_type) != torch.float16:
        return contextlib.nullcontext()
    if device_type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.autocast(device_type, enabled=False)
    return torch.autocast(device_type, dtype=torch.bfloat16)


def _sdpa_backends(names: Sequence[str] | None) -> list[torch.nn.attention.SDPBackend]:
    known = torch.nn.attention.SDPBackend.__members__
    for name in names or ():
        if name not in known:
            raise ValueError(f"use_pytorch_sdpa_backends: {name!r}; torch has {', '.join(known)}")
    return [known[name] for name in names or ()]
