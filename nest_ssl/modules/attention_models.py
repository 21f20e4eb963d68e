"""The kinds of attention an encoder can have: which positions and which attention layers belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nest_ssl.modules.local_attention import RelPositionMultiHeadAttentionLongformer
from nest_ssl.modules.multi_head_attention import MultiHeadAttention, RelPositionMultiHeadAttention
from nest_ssl.modules.positional_encoding import (
    LocalAttRelPositionalEncoding,
    PositionalEncoding,
    RelPositionalEncoding,
)

KINDS = ("rel_pos", "rel_pos_local_attn", "abs_pos")


@dataclass(frozen=True)
class AttentionModel:
    """`self_attention_model` and the options it is built from, by the names of the encoder's keys."""

    kind: str
    d_model: int
    n_heads: int
    att_context_size: Sequence[int]
    xscale: float | None
    pos_emb_max_len: int
    use_bias: bool
    dropout: float
    dropout_pre_encoder: float
    dropout_emb: float
    dropout_att: float
    global_tokens: int
    global_tokens_spacing: int
    global_attn_separate: bool
    use_pytorch_sdpa: bool
    use_pytorch_sdpa_backends: Sequence[str] | None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"self_attention_model: {self.kind!r}; use {', '.join(KINDS)}")
        if self.kind == "rel_pos_local_attn" and (
            min(self.att_context_size) < 0 or max(self.att_context_size) == 0
        ):
            raise ValueError(
                f"att_context_size: {list(self.att_context_size)}; rel_pos_local_attn needs [left, right] "
                "frames that are not negative, and not both 0"
            )

    def positions(self) -> PositionalEncoding:
        """The positions; local ones drop out the input by `dropout`, as in NeMo."""
        if self.kind == "rel_pos":
            return RelPositionalEncoding(
                self.d_model, self.dropout_pre_encoder, self.pos_emb_max_len, self.xscale, self.dropout_emb
            )
        if self.kind == "abs_pos":
            return PositionalEncoding(
                self.d_model, self.dropout_pre_encoder, self.pos_emb_max_len, self.xscale
            )
        return LocalAttRelPositionalEncoding(
            self.att_context_size, self.d_model, self.dropout, self.xscale, self.dropout_emb
        )

    def attention(
        self, pos_bias_u: nn.Parameter | None = None, pos_bias_v: nn.Parameter | None = None
    ) -> MultiHeadAttention:
        """One layer's attention; rel_pos takes the biases u and v of other layers, where they are shared."""
        if self.kind == "rel_pos_local_attn":
            return RelPositionMultiHeadAttentionLongformer(
                self.n_heads,
                self.d_model,
                self.dropout_att,
                self.att_context_size,
                self.global_tokens,
                self.global_tokens_spacing,
                self.global_attn_separate,
                self.use_bias,
            )
        options = (
            *(self.n_heads, self.d_model, self.dropout_att, self.use_bias),
            *(self.use_pytorch_sdpa, self.use_pytorch_sdpa_backends),
        )
        if self.kind == "abs_pos":
            return MultiHeadAttention(*options)
        return RelPositionMultiHeadAttention(*options, pos_bias_u, pos_bias_v)
