"""From encoder frames to CTC log probabilities: one linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITIALIZERS = {
    "xavier_uniform": lambda weight: nn.init.xavier_uniform_(weight, gain=1.0),
    "xavier_normal": lambda weight: nn.init.xavier_normal_(weight, gain=1.0),
    "kaiming_uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
}


class ConvASRDecoder(nn.Module):
    """A 1x1 convolution, `decoder_layers.0`, and a softmax; the blank is the last class.

    `num_classes` counts the labels without the blank; 0 or less takes the length of `vocabulary`.
    """

    def __init__(
        self,
        feat_in: int,
        num_classes: int = -1,
        init_mode: str = "xavier_uniform",
        vocabulary: Sequence[str] | None = None,
        add_blank: bool = True,
    ) -> None:
        super().__init__()
        vocabulary = list(vocabulary) if vocabulary else None
        if num_classes <= 0:
            if vocabulary is None:
                raise ValueError(f"num_classes: {num_classes}, and vocabulary is empty; give one of them")
            num_classes = len(vocabulary)
        if vocabulary is not None and num_classes != len(vocabulary):
            raise ValueError(f"num_classes: {num_classes}, but vocabulary has {len(vocabulary)} entries")
        if init_mode not in INITIALIZERS:
            raise ValueError(f"init_mode: {init_mode!r} is not one of {', '.join(INITIALIZERS)}")
        self.vocabulary = vocabulary
        self.num_classes_with_blank = num_classes + 1 if add_blank else num_classes
        layer = nn.Conv1d(feat_in, self.num_classes_with_blank, kernel_size=1)
        INITIALIZERS[init_mode](layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.decoder_layers = nn.Sequential(layer)

    def forward(self, encoder_output: Tensor) -> Tensor:
        """encoder_output (B, D, T) -> log probabilities (B, T, classes and blank), at least float32."""
        layer = self.decoder_layers[0]
        assert isinstance(layer, nn.Conv1d)
        logits = F.linear(encoder_output.transpose(1, 2), layer.weight.squeeze(-1), layer.bias)
        return F.log_softmax(logits, dim=2, dtype=torch.promote_types(logits.dtype, torch.float32))
