"""A NEST encoder in the place of Fun-ASR's own: the ConformerEncoder behind the same interface."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nest_ssl.modules.conformer_encoder import ConformerEncoder
from nest_ssl.modules.masked_batch_norm import use_valid_frames
from nest_ssl.modules.stacking import StackingSubsampling
from nest_ssl.modules.subsampling import ConvSubsampling


class NestAudioEncoder(ConformerEncoder):
    """A ConformerEncoder that takes and gives (B, T, D), as SenseVoiceEncoderSmall does.

    Constructor keys and state-dict names are those of ConformerEncoder, so the encoder of any NEST
    checkpoint can be loaded; `input_size` is the width of the features, `feat_in` there.  `batch_norm`:
    whether statistics of training are over "valid" frames, or "padded" ones too, as in NeMo.
    """

    def __init__(self, input_size: int, batch_norm: str = "valid", **options: Any):
        if options.setdefault("feat_in", input_size) != input_size:
            raise ValueError(f"feat_in: {options['feat_in']}, but the front end gives {input_size} features")
        if batch_norm not in ("valid", "padded"):
            raise ValueError(f"batch_norm: {batch_norm!r} is neither valid nor padded")
        super().__init__(**options)
        if batch_norm == "valid" and options.get("conv_norm_type", "batch_norm") == "batch_norm":
            use_valid_frames(self)

    @property
    def frame_factor(self) -> int:
        """Feature frames per output frame."""
        factor = 1 if isinstance(self.pre_encode, nn.Linear) else self.subsampling_factor
        reduction = self.reduction_subsampling
        return factor if reduction is None else factor * reduction.reduction_factor

    def output_size(self) -> int:
        """Give the width of an output frame."""
        return self._feat_out

    def frames_of(self, feature_lengths: Tensor) -> Tensor:
        """feature_lengths (B,) -> output frames (B,) int64 of each utterance when it is alone."""
        lengths = _sub_sampled(self.pre_encode, feature_lengths.to(torch.int64))
        reduction = self.reduction_subsampling
        if reduction is None:
            return lengths
        if reduction.reduction == "striding":
            return _sub_sampled(reduction.reduction_enc, lengths)
        for _ in range(reduction.reduction_factor.bit_length() - 1):
            lengths = lengths // reduction.reduction_factor
        return lengths

    def forward(self, xs_pad: Tensor, ilens: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """xs_pad (B, T, input_size) float, ilens (B,) -> (B, T', D), lengths (B,) int32.

        Raises ValueError for features of another width, such as (B, D, T) in place of (B, T, D).
        """
        if xs_pad.dim() != 3 or xs_pad.shape[2] != self._feat_in:
            swapped = xs_pad.dim() == 3 and xs_pad.shape[1] == self._feat_in
            hint = "; time and features are exchanged" if swapped else ""
            raise ValueError(
                f"features are {tuple(xs_pad.shape)}, the encoder takes (B, T, {self._feat_in}){hint}"
            )
        frames, lengths = super().forward(xs_pad.transpose(1, 2), ilens)
        # StackingSubsampling counts frames of padding in a batch
        lengths = torch.minimum(lengths, self.frames_of(ilens).to(lengths.device))
        return frames.transpose(1, 2), lengths.to(torch.int32)


def _sub_sampled(layer: nn.Module, lengths: Tensor) -> Tensor:
    if isinstance(layer, ConvSubsampling):
        for _ in range(layer.stages):
            lengths = layer.stage.length(lengths)
        return lengths
    if isinstance(layer, StackingSubsampling):
        return (lengths + layer.subsampling_factor - 1) // layer.subsampling_factor
    return lengths
