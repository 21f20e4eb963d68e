"""Masked-token losses: the negative log-likelihood of the tokens at masked frames."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class MLMLoss(nn.Module):
    """Mean negative log-likelihood (nats) over the masked frames of a batch.

    A mask is finer than the encoder by `combine_time_steps`: an encoder frame counts when more than
    `mask_threshold` of the mask values it was made from are set.
    """

    def __init__(self, combine_time_steps: int = 1, mask_threshold: float = 0.8) -> None:
        super().__init__()
        self.combine_time_steps = combine_time_steps
        self.mask_threshold = mask_threshold

    def forward(
        self,
        masks: Tensor,
        decoder_outputs: Tensor,
        targets: Tensor,
        decoder_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
    ) -> Tensor:
        """masks (B, D, T), decoder_outputs (B, T', C), targets (B, T') int64 -> float32 scalar.

        The outputs are log probabilities.  Lengths are ignored, as in NeMo: masks lie within the items.
        NaN if no frame is masked.
        """
        selected = self.selected_frames(masks)
        check_frames(selected, decoder_outputs)
        if targets.shape[1] < selected.shape[1]:
            targets = F.pad(targets, (0, selected.shape[1] - targets.shape[1]))
        return F.nll_loss(decoder_outputs[selected].float(), targets[selected])

    def selected_frames(self, masks: Tensor) -> Tensor:
        """masks (B, D, T) -> (B, T') bool, True at the encoder frames that count."""
        return selected_frames(masks, self.combine_time_steps, self.mask_threshold)


class MultiMLMLoss(nn.Module):
    """`MLMLoss` averaged over `num_decoders` codebooks."""

    def __init__(
        self,
        combine_time_steps: int = 1,
        mask_threshold: float = 0.8,
        num_decoders: int = 1,
        squeeze_single: bool = False,
    ) -> None:
        super().__init__()
        self.num_decoders = num_decoders
        self.squeeze_single = squeeze_single
        self.mlm_loss = MLMLoss(combine_time_steps, mask_threshold)

    def forward(
        self,
        masks: Tensor,
        decoder_outputs: Tensor,
        targets: Tensor,
        decoder_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
    ) -> Tensor:
        """As `MLMLoss`, with outputs (B, T', C, K) and targets (B, T', K); without K if it was squeezed."""
        if self.squeeze_single and self.num_decoders == 1:
            return self.mlm_loss(masks, decoder_outputs, targets)
        losses = [
            self.mlm_loss(masks, decoder_outputs[..., k], targets[..., k]) for k in range(self.num_decoders)
        ]
        return sum(losses) / self.num_decoders

    def selected_frames(self, masks: Tensor) -> Tensor:
        """masks (B, D, T) -> (B, T') bool, True at the encoder frames that count."""
        return self.mlm_loss.selected_frames(masks)


def check_frames(selected: Tensor, outputs: Tensor) -> None:
    """Raise ValueError unless the mask and the decoder have the same number of frames."""
    if selected.shape[1] != outputs.shape[1]:
        raise ValueError(
            f"the mask has {selected.shape[1]} encoder frames and the decoder {outputs.shape[1]}; "
            "loss.combine_time_steps must be encoder.subsampling_factor"
        )


def selected_frames(masks: Tensor, combine_time_steps: int, mask_threshold: float) -> Tensor:
    """masks (B, D, T), 1 where masked -> (B, T / combine_time_steps) bool, True where a frame counts."""
    batch, _, frames = masks.shape
    if frames % combine_time_steps:
        raise ValueError(
            f"{frames} mask frames do not divide by loss.combine_time_steps {combine_time_steps}; "
            "preprocessor.pad_to must be a multiple of it"
        )
    grouped = masks.transpose(1, 2).reshape(batch, frames // combine_time_steps, -1)
    return grouped.float().mean(dim=-1) > mask_threshold
