"""From encoder frames to token probabilities, one softmax per codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiSoftmaxDecoder(nn.Module):
    """One linear layer and `num_decoders` softmaxes over `num_classes` tokens.

    The layer is a 1x1 convolution, `decoder_layers.0`, whose channel c * num_decoders + k is class c of
    book k.
    """

    def __init__(
        self,
        feat_in: int,
        num_classes: int,
        num_decoders: int = 1,
        use_bias: bool = True,
        squeeze_single: bool = False,
    ) -> None:
        super().__init__()
        self.feat_in, self.num_classes, self.num_decoders = feat_in, num_classes, num_decoders
        self.squeeze_single = squeeze_single
        layer = nn.Conv1d(feat_in, num_classes * num_decoders, 1, bias=use_bias)
        nn.init.xavier_uniform_(layer.weight)
        self.decoder_layers = nn.Sequential(layer)

    def forward(self, encoder_output: Tensor) -> Tensor:
        """encoder_output (B, D, T) -> log probabilities (B, T, num_classes, num_decoders), at least float32.

        With one book and `squeeze_single` the last axis goes.
        """
        logits = self.logits(encoder_output.transpose(1, 2))
        log_probs = F.log_softmax(logits, dim=2, dtype=torch.promote_types(logits.dtype, torch.float32))
        if self.squeeze_single and self.num_decoders == 1:
            return log_probs.squeeze(-1)
        return log_probs

    def logits(self, frames: Tensor) -> Tensor:
        """frames (..., D) -> (..., num_classes, num_decoders), before the softmax."""
        layer = self.decoder_layers[0]
        assert isinstance(layer, nn.Conv1d)
        logits = F.linear(frames, layer.weight.squeeze(-1), layer.bias)
        return logits.unflatten(-1, (self.num_classes, self.num_decoders))
