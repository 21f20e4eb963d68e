"""Self-attention within a window of frames, with some frames that see all and are seen by all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nest_ssl.modules.multi_head_attention import (
    RelPositionMultiHeadAttention,
    penalty,
    without_float16,
)


class RelPositionMultiHeadAttentionLongformer(RelPositionMultiHeadAttention):
    """Relative-position attention of each frame to `att_context_size` [left, right] frames around it.

    Scores are computed for the 2 w + 1 distances of the wider side w alone, block by block, so memory
    grows with T w instead of T T.  The frames 0, s, 2 s ... (`global_tokens` of them, s =
    `global_tokens_spacing`) are seen by every frame besides its window, without a position term, and
    themselves attend to all valid frames; with `global_attn_separate` through projections of their own.
    Source: Longformer (arXiv 2004.05150).

    NeMo's numbers are kept where they surprise: the position terms of an uneven context are aligned to the
    ends of the window (right only for left = right); global frames are seen even if they are padding; the
    queries of several global frames are laid out over (batch, head) in another order than the keys, so
    that items of a batch meet there. One global frame and an even context are free of all that but the
    padding.
    """

    def __init__(
        self,
        n_head: int,
        n_feat: int,
        dropout_rate: float,
        att_context_size: Sequence[int],
        global_tokens: int = 0,
        global_tokens_spacing: int = 1,
        global_attn_separate: bool = False,
        use_bias: bool = True,
    ) -> None:
        super().__init__(n_head, n_feat, dropout_rate, use_bias)
        self.left, self.right = att_context_size
        self.window = max(self.left, self.right)
        self.global_tokens, self.global_tokens_spacing = global_tokens, global_tokens_spacing
        self.global_attn_separate = global_attn_separate
        if global_attn_separate:
            self.global_q = nn.Linear(n_feat, n_feat, bias=use_bias)
            self.global_k = nn.Linear(n_feat, n_feat, bias=use_bias)
            self.global_v = nn.Linear(n_feat, n_feat, bias=use_bias)

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

        `pad_mask` (B, T) bool, True at padding; `pos_emb` (1, left + right + 1, D), the sinusoids of left
        ... -right; `mask` is not used, the window takes its place.
        """
        assert pos_emb is not None
        frames, w = query.shape[1], self.window
        if pad_mask is None:
            pad_mask = query.new_zeros(query.shape[:2], dtype=torch.bool)
        with without_float16(query.device.type):
            tail = -frames % (2 * w)
            q, k, v = (
                F.pad(x, (0, 0, 0, tail))
                for x in (self.linear_q(query) * self.scale, self.linear_k(key), self.linear_v(value))
            )
            padding = F.pad(pad_mask, (0, tail), value=True)
            k, v = self.heads(k), self.heads(v)
            scores = band_scores(self.content_query(q), k, w) + self._spread(self.position_scores(q, pos_emb))
            scores = scores.add_(penalty(self._blocked(padding), scores.dtype))
            if not self.global_tokens:
                probs = self._probabilities(scores, padding)
                return self._output(band_context(probs, v, w)[:, :, :frames], None)
            chosen = self._global_frames(frames, query.device)
            if self.global_attn_separate:
                projected = (self.global_q(query) * self.scale, self.global_k(key), self.global_v(value))
                gq, gk, gv = (self.heads(F.pad(x, (0, 0, 0, tail))) for x in projected)
            else:
                gq, gk, gv = self.heads(q), k, v
            to_global = torch.matmul(gq, gk[:, :, chosen].transpose(-2, -1))
            probs = self._probabilities(torch.cat((to_global, scores), dim=-1), padding)
            count = chosen.numel()
            context = torch.matmul(probs[..., :count], v[:, :, chosen]) + band_context(
                probs[..., count:], v, w
            )
            from_global = self._global_to_all(gq[:, :, chosen], gk, gv, padding).to(context.dtype)
            context = context.index_copy(2, chosen, from_global)
            return self._output(context[:, :, :frames], None)

    def _probabilities(self, scores: Tensor, padding: Tensor) -> Tensor:
        """Softmax over the last axis of (B, H, T, N), zero for queries of padding; then dropout."""
        return self.dropout(scores.softmax(dim=-1).masked_fill(padding[:, None, :, None], 0.0))

    def _spread(self, position_scores: Tensor) -> Tensor:
        """(B, H, T, left + right + 1) -> (B, H, T, 2 w + 1): the left terms first, the others last."""
        gap = 2 * self.window - self.left - self.right
        if gap == 0:
            return position_scores
        left, right = position_scores.split((self.left, self.right + 1), dim=-1)
        return torch.cat((F.pad(left, (0, gap)), right), dim=-1)

    def _blocked(self, padding: Tensor) -> Tensor:
        """(B, 1, T, 2 w + 1) bool, True where the key is padding, out of the item or out of the window."""
        w = self.window
        keys = F.pad(padding, (w, w), value=True).unfold(1, 2 * w + 1, 1)
        offset = torch.arange(-w, w + 1, device=padding.device)
        return (keys | (offset < -self.left) | (offset > self.right))[:, None]

    def _global_frames(self, frames: int, device: torch.device) -> Tensor:
        stop = min(self.global_tokens * self.global_tokens_spacing, frames)
        return torch.arange(0, stop, self.global_tokens_spacing, device=device)

    def _global_to_all(self, gq: Tensor, gk: Tensor, gv: Tensor, padding: Tensor) -> Tensor:
        """Attention of the global queries (B, H, G, d_k) to all valid frames: (B, H, G, d_k)."""
        batch, heads, count, _ = gq.shape
        # NeMo's layout: (G, B, H) in memory read as (B, H, G); the same only for G = 1.
        gq = gq.permute(2, 0, 1, 3).reshape(batch, heads, count, self.d_k)
        scores = torch.matmul(gq, gk.transpose(-2, -1))
        scores = scores.masked_fill(padding[:, None, None, :], torch.finfo(scores.dtype).min)
        return torch.matmul(self.dropout(scores.softmax(dim=-1)).to(gv.dtype), gv)


def band_scores(q: Tensor, k: Tensor, w: int) -> Tensor:
    """q, k (B, H, T, d_k), T a multiple of w -> (B, H, T, 2 w + 1): q_i k_{i - w} ... q_i k_{i + w}.

    Frames out of range count as zero.
    """
    queries = q.unflatten(2, (-1, w))
    keys = F.pad(k, (0, 0, w, w)).unfold(2, 3 * w, w)  # (B, H, blocks, d_k, 3 w)
    square = torch.matmul(queries, keys)
    # Row r of a block wants the columns r ... r + 2 w: rows one element longer turn that into 0 ... 2 w.
    skewed = F.pad(square.flatten(-2), (0, w)).unflatten(-1, (w, 3 * w + 1))
    return skewed[..., : 2 * w + 1].flatten(2, 3)


def band_context(probs: Tensor, v: Tensor, w: int) -> Tensor:
    """probs (B, H, T, 2 w + 1) of the frames i - w ... i + w, v (B, H, T, d_k) -> (B, H, T, d_k)."""
    rows = F.pad(probs.unflatten(2, (-1, w)), (0, w)).flatten(-2)
    square = rows[..., : 3 * w * w].unflatten(-1, (w, 3 * w))
    values = F.pad(v, (0, 0, w, w)).unfold(2, 3 * w, w).transpose(-2, -1)
    return torch.matmul(square, values).flatten(2, 3)
