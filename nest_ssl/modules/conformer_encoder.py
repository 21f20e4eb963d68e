"""The FastConformer encoder: sub-sampling, positions, a stack of Conformer layers."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nest_ssl.modules.attention_masks import attention_mask, padding_mask, parse_contexts
from nest_ssl.modules.attention_models import AttentionModel
from nest_ssl.modules.conformer_modules import ConformerLayer
from nest_ssl.modules.multi_head_attention import pos_bias
from nest_ssl.modules.recompute import recomputed
from nest_ssl.modules.reduction import SubsamplingReductionModule
from nest_ssl.modules.stacking import StackingSubsampling
from nest_ssl.modules.stochastic_depth import layer_drop_probs
from nest_ssl.modules.subsampling import ConvSubsampling


class ConformerEncoder(nn.Module):
    """FastConformer with NeMo's constructor keys and state-dict names.

    `feat_in` mel features per frame, `n_layers` layers of width `d_model`, `subsampling_factor` input
    frames per output frame by `subsampling` (ConvSubsampling, StackingSubsampling; null or a factor of 1:
    a linear layer), `subsampling_conv_channels` -1 is `d_model`.  `xscaling` multiplies the sub-sampled
    frames by sqrt(d_model).  `pos_emb_max_len` is the first size of the position table, which grows when
    an input is longer. `use_bias` is about linear layers and convolutions of the layers; norms and
    sub-sampling always have biases. `feat_out` > 0 projects the result to that width.

    `self_attention_model`: "rel_pos", "abs_pos", or "rel_pos_local_attn", whose `att_context_size` [left,
    right] is its window.  For the others that is a limit (attention_masks); of several pairs training
    draws one per batch with Python's `random` by `att_context_probs`, evaluation takes the first.
    `untie_biases` false shares u and v of rel_pos between layers.  `conv_context_size` [left, right] or
    "causal" is about the convolutions. `reduction` shortens once more, behind layer `reduction_position`
    (from 0; -1: behind the last).

    Outputs of single layers: `layer_outputs`, or a forward hook on `encoder.layers[i]`, whose result is
    (B, T', d_model) behind the layer's last norm, before stochastic depth, reduction and `feat_out`.

    `gradient_checkpointing` (an attribute) recomputes layers in the backward pass instead of keeping their
    activations.

    `sync_max_audio_length` has no effect: the position table is made where it is needed.
    `att_chunk_context_size` and `conv_context_style` are NeMo 3.0's and taken only where they ask for
    nothing.

    ValueError names the key that cannot be met. Sources: Fast Conformer (arXiv 2305.05084), Conformer
    (arXiv 2005.08100).
    """

    def __init__(
        self,
        feat_in: int,
        n_layers: int,
        d_model: int,
        feat_out: int | None = -1,
        causal_downsampling: bool = False,
        subsampling: str | None = "striding",
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
        att_chunk_context_size: None = None,
        conv_context_style: str | None = "regular",
    ) -> None:
        super().__init__()
        if att_chunk_context_size:
            raise ValueError("att_chunk_context_size: it came with NeMo 3.0 and is not built; use null")
        if conv_context_style not in (None, "regular"):
            raise ValueError(
                f"conv_context_style: {conv_context_style!r} came with NeMo 3.0 and is not built; use regular"
            )
        if d_model % 2:
            raise ValueError(f"d_model: {d_model} is odd; sinusoids come in pairs")
        self.d_model, self.n_layers, self.n_heads = d_model, n_layers, n_heads
        self.gradient_checkpointing = False
        self._feat_in, self._feat_out = feat_in, feat_out if feat_out and feat_out > 0 else d_model
        self.subsampling_factor = subsampling_factor
        self.att_context_style = att_context_style
        self.att_context_size_all, self.att_context_probs = parse_contexts(
            att_context_size, att_context_probs, att_context_style
        )
        self.att_context_size = self.att_context_size_all[0]
        self.conv_context_size = _conv_context(conv_context_size, conv_kernel_size)
        self.layer_drop_probs = layer_drop_probs(
            n_layers,
            stochastic_depth_drop_prob,
            stochastic_depth_mode,
            stochastic_depth_start_layer,
        )
        self.xscale = math.sqrt(d_model) if xscaling else None
        self._attention_model = AttentionModel(
            kind=self_attention_model,
            d_model=d_model,
            n_heads=n_heads,
            att_context_size=self.att_context_size,
            xscale=self.xscale,
            pos_emb_max_len=pos_emb_max_len,
            use_bias=use_bias,
            dropout=dropout,
            dropout_pre_encoder=dropout_pre_encoder,
            dropout_emb=dropout_emb,
            dropout_att=dropout_att,
            global_tokens=global_tokens,
            global_tokens_spacing=global_tokens_spacing,
            global_attn_separate=global_attn_separate,
            use_pytorch_sdpa=use_pytorch_sdpa,
            use_pytorch_sdpa_backends=use_pytorch_sdpa_backends,
        )
        # From here on in the order in which NeMo draws initial weights and lists them.
        self.pre_encode = _pre_encode(
            subsampling,
            subsampling_factor,
            feat_in,
            d_model,
            d_model if subsampling_conv_channels == -1 else subsampling_conv_channels,
            causal_downsampling,
            subsampling_conv_chunking_factor,
        )
        self.reduction_subsampling: SubsamplingReductionModule | None = None
        self.reduction_position: int | None = None
        if reduction and reduction_factor > 1:
            if reduction_position is None or not -1 <= reduction_position < n_layers:
                raise ValueError(
                    f"reduction_position: {reduction_position}; give a layer 0 ... {n_layers - 1}, or -1"
                )
            self.reduction_subsampling = SubsamplingReductionModule(reduction, d_model, reduction_factor)
            self.reduction_position = reduction_position
        shared: tuple[nn.Parameter, ...] = ()
        if self_attention_model == "rel_pos" and not untie_biases:
            shared = (pos_bias(n_heads, d_model), pos_bias(n_heads, d_model))
        self.pos_enc = self._attention_model.positions()
        self.layers = nn.ModuleList(
            ConformerLayer(
                d_model,
                d_model * ff_expansion_factor,
                lambda: self._attention_model.attention(*shared),
                conv_kernel_size,
                conv_norm_type,
                self.conv_context_size,
                dropout,
                use_bias,
            )
            for _ in range(n_layers)
        )
        self.out_proj = nn.Linear(d_model, self._feat_out) if self._feat_out != d_model else None

    @property
    def self_attention_model(self) -> str:
        """rel_pos, rel_pos_local_attn or abs_pos."""
        return self._attention_model.kind

    def forward(
        self, audio_signal: Tensor, length: Tensor | None = None, bypass_pre_encode: bool = False
    ) -> tuple[Tensor, Tensor]:
        """audio_signal (B, feat_in, T), length (B,) frames -> (B, D, T'), length' (B,) int64.

        D is `feat_out` or, where that is not given, `d_model`.  `bypass_pre_encode` takes sub-sampled frames
        (B, T', d_model) instead.  `length` None: all of T.  Frames beyond an item's length are computed
        but mean nothing.
        """
        return self._encode(audio_signal, length, bypass_pre_encode, {})

    def layer_outputs(
        self,
        audio_signal: Tensor,
        length: Tensor | None = None,
        layers: Collection[int] | None = None,
        bypass_pre_encode: bool = False,
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """What `layers` (from 0; None: all) give for the input of `forward`: layer -> (output, length').

        Outputs are (B, d_model or feat_out, T'), behind the layer's last norm, a reduction at that layer and
        `out_proj`; length' (B,) int64, shorter behind a reduction.  ValueError for a layer that is not there.
        """
        wanted = range(self.n_layers) if layers is None else layers
        for layer in wanted:
            if not 0 <= layer < self.n_layers:
                raise ValueError(f"layer {layer}: the encoder has the layers 0 ... {self.n_layers - 1}")
        taps: dict[int, tuple[Tensor, Tensor] | None] = dict.fromkeys(wanted)
        self._encode(audio_signal, length, bypass_pre_encode, taps)
        return {layer: output for layer, output in taps.items() if output is not None}

    def _encode(
        self,
        audio_signal: Tensor,
        length: Tensor | None,
        bypass_pre_encode: bool,
        taps: dict[int, tuple[Tensor, Tensor] | None],
    ) -> tuple[Tensor, Tensor]:
        """`forward`, writing the outputs of the layers that are keys of `taps` there."""
        axis, width = (2, self.d_model) if bypass_pre_encode else (1, self._feat_in)
        if audio_signal.dim() != 3 or audio_signal.shape[axis] != width:
            wanted = f"(B, T, {width})" if bypass_pre_encode else f"(B, {width}, T)"
            raise ValueError(f"the encoder takes {wanted}, not {tuple(audio_signal.shape)}")
        if length is None:
            frames = audio_signal.shape[3 - axis]
            length = audio_signal.new_full((audio_signal.shape[0],), frames, dtype=torch.int64)
        context = self.att_context_size
        if self.training and len(self.att_context_size_all) > 1:
            # NeMo's generator: the same seed of `random` gives the same contexts.
            context = random.choices(self.att_context_size_all, weights=self.att_context_probs)[0]
        x = audio_signal
        if not bypass_pre_encode:
            x = x.transpose(1, 2)
            if isinstance(self.pre_encode, nn.Linear):
                x = self.pre_encode(x)
            else:
                x, length = self.pre_encode(x, length)
        length = length.to(torch.int64)
        x, pos_emb = self.pos_enc(x)
        pad_mask, att_mask = self._masks(length, x.shape[1], context)
        for index, (layer, drop_prob) in enumerate(zip(self.layers, self.layer_drop_probs, strict=True)):
            before = x
            x = self._run(layer, x, att_mask=att_mask, pos_emb=pos_emb, pad_mask=pad_mask)
            if self.training and drop_prob > 0.0:
                x = _drop_layer(before, x, drop_prob)
            if self.reduction_position == index and self.reduction_subsampling is not None:
                x, length = self.reduction_subsampling(x, length)
                pos_emb = self.pos_enc.positions(x.shape[1], x.device)
                pad_mask, att_mask = self._masks(length, x.shape[1], context)
            if index in taps:
                taps[index] = (self._project(x).transpose(1, 2), length)
        x = self._project(x)
        if self.reduction_position == -1 and self.reduction_subsampling is not None:
            x, length = self.reduction_subsampling(x, length)
        return x.transpose(1, 2), length

    def _run(self, layer: nn.Module, x: Tensor, **masks: Tensor | None) -> Tensor:
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return recomputed(layer, x, **masks)
        output: Tensor = layer(x, **masks)
        return output

    def _project(self, x: Tensor) -> Tensor:
        return x if self.out_proj is None else self.out_proj(x)

    def _masks(self, length: Tensor, frames: int, context: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        pad_mask = padding_mask(length, frames)
        if self.self_attention_model == "rel_pos_local_attn":
            return pad_mask, None
        return pad_mask, attention_mask(pad_mask, context, self.att_context_style)

    def set_default_att_context_size(self, att_context_size: Sequence[int]) -> None:
        """Use this [left, right] in evaluation; one of the pairs of the configuration, or ValueError."""
        if list(att_context_size) not in self.att_context_size_all:
            raise ValueError(
                f"att_context_size: {list(att_context_size)} was not trained; "
                f"the encoder has {self.att_context_size_all}"
            )
        self.att_context_size = list(att_context_size)

    def change_attention_model(
        self, self_attention_model: str | None = None, att_context_size: Sequence[int] | None = None
    ) -> None:
        """Exchange the attention for another kind with the weights it shares with the present one.

        What the new kind has besides, such as u and v after abs_pos, starts fresh.  For long recordings a
        rel_pos encoder takes "rel_pos_local_attn" with, say, [128, 128].  The configuration is left as it is.
        """
        context = list(att_context_size or self.att_context_size)
        kind = self_attention_model or self.self_attention_model
        self._attention_model = replace(self._attention_model, kind=kind, att_context_size=context)
        self.att_context_size = context
        self.att_context_size_all, self.att_context_probs = [context], [1.0]
        self.pos_enc = self._attention_model.positions().train(self.training)
        for layer in self.layers:
            assert isinstance(layer, ConformerLayer)
            new = self._attention_model.attention().to(layer.norm_out.weight)
            new.load_state_dict(layer.self_attn.state_dict(), strict=False)
            layer.self_attn = new.train(self.training)


def _pre_encode(
    subsampling: str | None,
    factor: int,
    feat_in: int,
    d_model: int,
    channels: int,
    causal: bool,
    chunking: int,
) -> nn.Module:
    if not subsampling or factor <= 1:
        return nn.Linear(feat_in, d_model)
    if subsampling in ("stacking", "stacking_norm"):
        return StackingSubsampling(factor, feat_in, d_model, norm=subsampling == "stacking_norm")
    return ConvSubsampling(subsampling, factor, feat_in, d_model, channels, causal, chunking)


def _conv_context(size: Sequence[int] | str | None, kernel_size: int) -> list[int]:
    """[left, right] frames that a convolution of `kernel_size` sees."""
    if kernel_size % 2 == 0:
        raise ValueError(f"conv_kernel_size: {kernel_size} is even; it must be odd")
    if size is None:
        return [(kernel_size - 1) // 2] * 2
    if size == "causal":
        return [kernel_size - 1, 0]
    if isinstance(size, str) or len(size) != 2 or min(size) < 0 or sum(size) != kernel_size - 1:
        raise ValueError(
            f"conv_context_size: {size}; use null, causal or [left, right] with a sum of {kernel_size - 1}"
        )
    return list(size)


def _drop_layer(before: Tensor, after: Tensor, drop_prob: float) -> Tensor:
    """The layer's output or, in a share `drop_prob` of the calls, its input, with the same expectation.

    A layer left out is still computed and multiplied by zero: every parameter has a gradient on every rank.
    """
    if torch.rand(1) < drop_prob:
        return after * 0.0 + before
    return (after - before) / (1.0 - drop_prob) + before
