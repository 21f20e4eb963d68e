"""Convolutional decoders on encoder frames: token probabilities, and spectrograms made anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "hardtanh": nn.Hardtanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
INITIALIZATIONS = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "kaiming_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
}


class ConvASRDecoder(nn.Module):
    """One linear layer and a softmax over `num_classes` tokens, and a blank behind them if `add_blank`.

    The layer is a 1x1 convolution, `decoder_layers.0`.  `num_classes` of 0 or less is the number of words
    in `vocabulary`.  `init_mode` names the weights' start (INITIALIZATIONS; None: torch's own).
    """

    def __init__(
        self,
        feat_in: int,
        num_classes: int,
        init_mode: str | None = "xavier_uniform",
        vocabulary: Sequence[str] | None = None,
        add_blank: bool = True,
    ) -> None:
        super().__init__()
        if num_classes <= 0:
            if vocabulary is None:
                raise ValueError(f"num_classes: {num_classes}; a positive number or a vocabulary is needed")
            num_classes = len(vocabulary)
        if vocabulary is not None and num_classes != len(vocabulary):
            raise ValueError(f"num_classes: {num_classes}, but the vocabulary has {len(vocabulary)} words")
        self.vocabulary = None if vocabulary is None else list(vocabulary)
        self.num_classes_with_blank = num_classes + 1 if add_blank else num_classes
        layer = nn.Conv1d(feat_in, self.num_classes_with_blank, kernel_size=1)
        self.decoder_layers = nn.Sequential(layer)
        self.temperature = 1.0
        initialize(self, init_mode)

    def forward(self, encoder_output: Tensor) -> Tensor:
        """encoder_output (B, D, T) -> log probabilities (B, T, classes), at least float32."""
        logits = self.decoder_layers(encoder_output).transpose(1, 2)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        return torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


class ConvASRDecoderReconstruction(nn.Module):
    """From encoder frames to vectors of `feat_out` features, compared with the masked spectrogram.

    A 1x1 convolution to `feat_hidden`; `stride_layers` blocks that double the frames (`stride_transpose`
    false: halve them) and `non_stride_layers` that keep them, each an activation, a depthwise convolution of
    `kernel_size`, a 1x1 one and a batch norm; an activation and a 1x1 convolution.  `apply_softmax` gives
    log probabilities.
    """

    def __init__(
        self,
        feat_in: int,
        feat_out: int,
        feat_hidden: int,
        stride_layers: int = 0,
        non_stride_layers: int = 0,
        kernel_size: int = 11,
        init_mode: str | None = "xavier_uniform",
        activation: str = "relu",
        stride_transpose: bool = True,
        apply_softmax: bool = False,
    ) -> None:
        super().__init__()
        if stride_layers + non_stride_layers > 0 and (kernel_size < 3 or kernel_size % 2 == 0):
            raise ValueError(f"kernel_size: {kernel_size} must be odd and at least 3")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: {activation!r} is not one of {', '.join(ACTIVATIONS)}")
        self.apply_softmax = apply_softmax
        layers: list[nn.Module] = [nn.Conv1d(feat_in, feat_hidden, kernel_size=1)]
        for block in range(stride_layers + non_stride_layers):
            layers += [
                ACTIVATIONS[activation](),
                _depthwise(feat_hidden, kernel_size, block < stride_layers, stride_transpose),
                nn.Conv1d(feat_hidden, feat_hidden, kernel_size=1),
                nn.BatchNorm1d(feat_hidden, eps=1e-3, momentum=0.1),
            ]
        layers += [ACTIVATIONS[activation](), nn.Conv1d(feat_hidden, feat_out, kernel_size=1)]
        self.decoder_layers = nn.Sequential(*layers)
        initialize(self, init_mode)

    def forward(self, encoder_output: Tensor) -> Tensor:
        """encoder_output (B, D, T) -> (B, T', feat_out)."""
        out = self.decoder_layers(encoder_output).transpose(1, 2)
        return torch.log_softmax(out, dim=-1) if self.apply_softmax else out


def _depthwise(channels: int, kernel_size: int, strided: bool, transposed: bool) -> nn.Module:
    if not strided:
        return nn.Conv1d(channels, channels, kernel_size, groups=channels, padding=kernel_size // 2)
    if transposed:
        padding = (kernel_size - 3) // 2 + 1
        return nn.ConvTranspose1d(
            channels, channels, kernel_size, stride=2, padding=padding, output_padding=1, groups=channels
        )
    padding = (kernel_size - 1) // 2
    return nn.Conv1d(channels, channels, kernel_size, stride=2, padding=padding, groups=channels)


def initialize(module: nn.Module, mode: str | None) -> None:
    """Draw the weights of 1-d convolutions and linear layers in `module` as `mode` says, in their order.

    Transposed convolutions and biases keep torch's own start, as in NeMo.
    """
    if mode is None:
        return
    if mode not in INITIALIZATIONS:
        raise ValueError(f"init_mode: {mode!r} is not one of {', '.join(INITIALIZATIONS)}")
    for part in module.modules():
        if isinstance(part, nn.Conv1d | nn.Linear):
            INITIALIZATIONS[mode](part.weight)
