"""The FastConformer encoder: sub-sampling, positions, a stack of Conformer layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nest_ssl.modules.conformer_modules import ConformerLayer
from nest_ssl.modules.multi_head_attention import RelPositionalEncoding
from nest_ssl.modules.subsampling import ConvSubsampling

FULL_CONTEXT = [-1, -1]

# Keys of NeMo's encoder that this one knows but does not implement: only these values are taken.
ONLY_VALUES: dict[str, tuple] = {
    "causal_downsampling": (False,),
    "subsampling_conv_chunking_factor": (1,),
    "reduction": (None,),
    "reduction_position": (None,),
    "reduction_factor": (1,),
    "self_attention_model": ("rel_pos",),
    "att_context_size": (None, FULL_CONTEXT, [FULL_CONTEXT]),
    "att_context_probs": (None, [1.0]),
    "att_context_style": ("regular",),
    "untie_biases": (True,),
    "conv_norm_type": ("batch_norm",),
    "stochastic_depth_drop_prob": (0.0,),
    "global_tokens": (0,),
    "use_pytorch_sdpa_backends": (None, []),
}


class ConformerEncoder(nn.Module):
    """FastConformer with NeMo's constructor keys and state-dict names.

    `feat_in` mel features per frame, `n_layers` layers of width `d_model`, `subsampling_factor` input
    frames per output frame, `subsampling_conv_channels` -1 is `d_model`.  `xscaling` multiplies the
    sub-sampled frames by sqrt(d_model).  `pos_emb_max_len` is the first size of the position table, which
    grows when an input is longer. `use_bias` is about linear layers and convolutions of the layers; norms
    and sub-sampling always have biases.

    Built: dw_striding, rel_pos, full attention, batch norm.  Other values of NeMo's options raise
    ValueError with the key's name (ONLY_VALUES). Sources: Fast Conformer (arXiv 2305.05084), Conformer
    (arXiv 2005.08100).
    """

    def __init__(
        self,
        feat_in: int,
        n_layers: int,
        d_model: int,
        feat_out: int = -1,
        causal_downsampling: bool = False,
        subsampling: str = "striding",
        subsampling_factor: int = 4,
        subsampling_conv_chunking_factor: int = 1,
        subsampling_conv_channels: int = -1,
        reduction: str | None = None,
        reduction_position: int | None = None,
        reduction_factor: int = 1,
        ff_expansion_factor: int = 4,
        self_attention_model: str = "rel_pos",
        n_heads: int = 4,
        att_context_size: Sequence[Any] | None = None,
        att_context_probs: Sequence[float] | None = None,
        att_context_style: str = "regular",
        xscaling: bool = True,
        untie_biases: bool = True,
        pos_emb_max_len: int = 5000,
        conv_kernel_size: int = 31,
        conv_norm_type: str = "batch_norm",
        conv_context_size: Sequence[int] | str | None = None,
        use_bias: bool = True,
        dropout: float = 0.1,
        dropout_pre_encoder: float = 0.1,
        dropout_emb: float = 0.1,
        dropout_att: float = 0.0,
        stochastic_depth_drop_prob: float = 0.0,
        stochastic_depth_mode: str = "linear",
        stochastic_depth_start_layer: int = 1,
        global_tokens: int = 0,
        global_tokens_spacing: int = 1,
        global_attn_separate: bool = False,
        use_pytorch_sdpa: bool = False,
        use_pytorch_sdpa_backends: Sequence[str] | None = None,
        sync_max_audio_length: bool = True,
    ) -> None:
        super().__init__()
        given = locals()
        _refuse_unsupported({key: given[key] for key in ONLY_VALUES})
        if feat_out not in (-1, 0, None, d_model):
            raise ValueError(f"feat_out: {feat_out} is not supported yet; use -1")
        if conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size: {conv_kernel_size} is even; it must be odd")
        half = (conv_kernel_size - 1) // 2
        if conv_context_size is not None and (
            isinstance(conv_context_size, str) or list(conv_context_size) != [half] * 2
        ):
            raise ValueError(f"conv_context_size: {conv_context_size} is not supported yet; use null")
        if d_model % 2:
            raise ValueError(f"d_model: {d_model} is odd; sinusoids come in pairs")
        self.d_model = d_model
        self._feat_in, self._feat_out = feat_in, d_model
        self.n_layers = n_layers
        self.subsampling_factor = subsampling_factor
        channels = d_model if subsampling_conv_channels == -1 else subsampling_conv_channels
        self.pre_encode = ConvSubsampling(subsampling, subsampling_factor, feat_in, d_model, channels)
        self.pos_enc = RelPositionalEncoding(
            d_model,
            dropout_pre_encoder,
            pos_emb_max_len,
            math.sqrt(d_model) if xscaling else None,
            dropout_emb,
        )
        self.layers = nn.ModuleList(
            ConformerLayer(
                d_model=d_model,
                d_ff=d_model * ff_expansion_factor,
                n_heads=n_heads,
                conv_kernel_size=conv_kernel_size,
                dropout=dropout,
                dropout_att=dropout_att,
                use_bias=use_bias,
                use_pytorch_sdpa=use_pytorch_sdpa,
            )
            for _ in range(n_layers)
        )

    def forward(
        self, audio_signal: Tensor, length: Tensor | None = None, bypass_pre_encode: bool = False
    ) -> tuple[Tensor, Tensor]:
        """audio_signal (B, feat_in, T), length (B,) frames -> (B, d_model, T'), length' (B,) int64.

        `bypass_pre_encode` takes sub-sampled frames (B, T', d_model) instead.  `length` None: all of T.
        Frames beyond an item's length are computed but mean nothing.
        """
        if length is None:
            frames = audio_signal.shape[1 if bypass_pre_encode else 2]
            length = audio_signal.new_full((audio_signal.shape[0],), frames, dtype=torch.int64)
        if bypass_pre_encode:
            x, length = audio_signal, length.to(torch.int64)
        else:
            x, length = self.pre_encode(audio_signal.transpose(1, 2), length)
            length = length.to(torch.int64)
        x, pos_emb = self.pos_enc(x)
        pad_mask, att_mask = attention_masks(length, x.shape[1])
        for layer in self.layers:
            x = layer(x, att_mask=att_mask, pos_emb=pos_emb, pad_mask=pad_mask)
        return x.transpose(1, 2), length


def attention_masks(length: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """pad_mask (B, T), True at padding, and att_mask (B, T, T), True where frame i must not see frame j."""
    pad_mask = torch.arange(frames, device=length.device)[None, :] >= length[:, None]
    return pad_mask, pad_mask[:, :, None] | pad_mask[:, None, :]


def _refuse_unsupported(options: dict[str, Any]) -> None:
    for key, value in options.items():
        plain = (
            [list(x) if isinstance(x, (list, tuple)) else x for x in value] if _is_sequence(value) else value
        )
        if plain not in ONLY_VALUES[key]:
            known = " or ".join("null" if v is None else str(v).lower() for v in ONLY_VALUES[key])
            raise ValueError(f"{key}: {value} is not supported yet; use {known}")


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
