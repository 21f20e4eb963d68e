"""FunASR's CTC head: one linear layer from frames to units and a blank."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CTC(nn.Module):
    """`ctc_lo` gives `odim` scores per frame; `blank_id` is one of them."""

    def __init__(self, odim: int, encoder_output_size: int, blank_id: int = 0):
        super().__init__()
        if not 0 <= blank_id < odim:
            raise ValueError(f"blank_id: {blank_id} is none of the {odim} units")
        self.ctc_lo = nn.Linear(encoder_output_size, odim)
        self.blank_id = blank_id

    def log_softmax(self, hs_pad: Tensor) -> Tensor:
        """hs_pad (B, T, D) -> log probabilities (B, T, odim)."""
        return F.log_softmax(self.ctc_lo(hs_pad), dim=2)

    def softmax(self, hs_pad: Tensor) -> Tensor:
        """hs_pad (B, T, D) -> probabilities (B, T, odim)."""
        return F.softmax(self.ctc_lo(hs_pad), dim=2)

    def argmax(self, hs_pad: Tensor) -> Tensor:
        """hs_pad (B, T, D) -> the best unit of every frame (B, T) int64."""
        return self.ctc_lo(hs_pad).argmax(dim=2)

    forward = log_softmax
