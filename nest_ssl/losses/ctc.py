"""Connectionist temporal classification (Graves et al., 2006), with the blank as the last class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REDUCTIONS = ("none", "mean", "sum", "mean_batch", "mean_volume")


class CTCLoss(nn.Module):
    """NeMo's CTCLoss: `num_classes` labels, the blank is number `num_classes`.

    reduction: mean_batch, the mean over utterances; mean_volume, the sum over all tokens of the batch; mean,
    each utterance over its tokens, then the mean; sum; none.  zero_infinity: an utterance whose text does
    not fit into its frames counts 0 instead of infinity.
    """

    def __init__(self, num_classes: int, zero_infinity: bool = False, reduction: str = "mean_batch") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"ctc_reduction: {reduction!r} is not one of {', '.join(REDUCTIONS)}")
        self.blank, self.zero_infinity, self.reduction = num_classes, zero_infinity, reduction

    def losses(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """(B,) float32 nats: of log_probs (B, T, C), targets (B, U), lengths (B,)."""
        with torch.autocast(log_probs.device.type, enabled=False):
            return F.ctc_loss(
                log_probs.float().transpose(0, 1),
                targets.long(),
                input_lengths.long(),
                target_lengths.long(),
                blank=self.blank,
                reduction="none",
                zero_infinity=self.zero_infinity,
            )

    def sum_and_weight(self, losses: Tensor, target_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What is summed and what it is divided by, so that both may be added over batches."""
        tokens = target_lengths.to(losses.dtype)
        count = torch.tensor(float(len(losses)), device=losses.device)
        if self.reduction == "mean":
            return (losses / tokens.clamp(min=1)).sum(), count
        if self.reduction == "mean_volume":
            return losses.sum(), tokens.sum()
        if self.reduction == "mean_batch":
            return losses.sum(), count
        raise ValueError(f"ctc_reduction: {self.reduction!r} cannot be trained with; use mean_batch")

    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """log_probs (B, T, C), targets (B, U), lengths (B,) -> a scalar, or (B,) with reduction none."""
        losses = self.losses(log_probs, targets, input_lengths, target_lengths)
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return losses.sum()
        total, weight = self.sum_and_weight(losses, target_lengths)
        return total / weight
