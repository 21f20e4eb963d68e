"""Masked-token losses: the negative log-likelihood of the tokens at masked frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLMLoss(nn.Module):
    """Mean negative log-likelihood (nats) over the masked frames of a batch.

    A mask is finer than the encoder by `combine_time_steps`: an encoder frame counts when more than
    `mask_threshold` of the mask values it was made from are set.
    """

    needs_labels = True

    def __init__(self, combine_time_steps: int = 1, mask_threshold: float = 0.8) -> None:
        super().__init__()
        self.combine_time_steps = combine_time_steps
        self.mask_threshold = mask_threshold

    def forward(
        self,
        masks: Tensor | None = None,
        decoder_outputs: Tensor | None = None,
        targets: Tensor | None = None,
        decoder_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
        spec_masks: Tensor | None = None,
    ) -> Tensor:
        """masks (B, D, T), decoder_outputs (B, T', C), targets (B, T') int64 -> float32 scalar.

        The outputs are log probabilities.  `spec_masks` is another name of `masks`; without either all
        frames count.  Lengths are ignored, as in NeMo: masks lie within the items.  Outputs with one frame
        more or less than the mask (causal sub-sampling) are compared up to the shorter end; targets that
        are shorter than that are padded with token 0.  NaN if no frame is masked.
        """
        if decoder_outputs is None or targets is None:
            raise ValueError("the loss needs decoder_outputs and targets")
        masks = spec_masks if masks is None else masks
        if masks is None:
            selected = torch.ones(decoder_outputs.shape[:2], dtype=torch.bool, device=decoder_outputs.device)
        else:
            selected = self.selected_frames(masks)
        check_frames(selected, decoder_outputs)
        frames = min(selected.shape[1], decoder_outputs.shape[1])
        selected = selected[:, :frames]
        targets = F.pad(targets, (0, frames - targets.shape[1]))  # cut where that is negative
        return F.nll_loss(decoder_outputs[:, :frames][selected].float(), targets[selected])

    def selected_frames(self, masks: Tensor) -> Tensor:
        """masks (B, D, T) -> (B, T') bool, True at the encoder frames that count."""
        return selected_frames(masks, self.combine_time_steps, self.mask_threshold)


class MultiMLMLoss(nn.Module):
    """`MLMLoss` averaged over `num_decoders` codebooks."""

    needs_labels = True

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
    """Raise ValueError unless the mask and the decoder have the same number of frames, or one more or less.

    Causal sub-sampling makes one frame more than there are tokens.
    """
    if abs(selected.shape[1] - outputs.shape[1]) > 1:
        raise ValueError(
            f"the mask has {selected.shape[1]} encoder frames and the decoder {outputs.shape[1]}; "
            "loss.combine_time_steps must be the number of mask frames per encoder frame"
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
