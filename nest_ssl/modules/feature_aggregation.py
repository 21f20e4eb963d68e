"""Features of several encoder layers: tapped, and put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

MODES = ("cat", "sum", "mean", "avg", "max", "min", "none", "weighted_sum")


class Aggregator(nn.Module):
    """Make one tensor of those of several layers, each (B, D, T).

    mode: cat (along D), sum, mean or avg, max, min, weighted_sum; none gives the list as it is.  weights: of
    weighted_sum, (L,), a plain weighted sum without a softmax; None: a parameter that starts at 1 / L.
    NeMo's max and min give pairs of values and indices; here, the values.
    """

    def __init__(
        self,
        mode: str,
        weights: Tensor | nn.Parameter | Sequence[float] | None = None,
        layer_idx_list: Sequence[int] = (),
        channel_idx: int = 1,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
        self.mode, self.channel_idx = mode, channel_idx
        self.weights: Any = None
        if mode == "weighted_sum":
            layers = len(layer_idx_list)
            if weights is None:
                if not layers:
                    raise ValueError("weighted_sum needs weights, or layer_idx_list to know how many")
                weights = torch.full((layers,), 1.0 / layers)
            weights = weights if isinstance(weights, Tensor) else torch.tensor(list(weights))
            if weights.dim() != 1 or (layers and len(weights) != layers):
                raise ValueError(f"weights: shape {tuple(weights.shape)} for {layers} layers")
            self.weights = weights if isinstance(weights, nn.Parameter) else nn.Parameter(weights.float())

    def forward(self, encoded: Sequence[Tensor], encoded_len: Sequence[Tensor]) -> tuple[Any, Any]:
        """encoded: L tensors (B, D, T); encoded_len: L tensors (B,) -> the aggregate and its (B,) lengths."""
        if not encoded:
            raise ValueError("there is no layer to aggregate")
        if self.mode == "none":
            return list(encoded), list(encoded_len)
        if self.mode == "cat":
            return torch.cat(list(encoded), dim=self.channel_idx), encoded_len[0]
        stacked = torch.stack(list(encoded))
        if self.mode == "sum":
            result = stacked.sum(dim=0)
        elif self.mode in ("mean", "avg"):
            result = stacked.mean(dim=0)
        elif self.mode == "max":
            result = stacked.amax(dim=0)
        elif self.mode == "min":
            result = stacked.amin(dim=0)
        else:
            if len(self.weights) != len(encoded):
                raise ValueError(f"{len(self.weights)} weights for {len(encoded)} layers")
            result = torch.tensordot(self.weights.to(stacked.dtype), stacked, dims=1)
        return result, encoded_len[0]


class ConformerMultiLayerFeatureExtractor(nn.Module):
    """An encoder that gives the outputs of `layer_idx_list` (from 0; negative from the end; None for all).

    A layer's output is taken after its last norm, and after the encoder's projection where it has one.
    Without an aggregator: lists of (B, D, T) and (B,).
    """

    def __init__(
        self,
        encoder: nn.Module,
        aggregator: nn.Module | None = None,
        layer_idx_list: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.aggregator = encoder, aggregator
        layers: Any = encoder.layers
        self.layer_idx_list = layer_indices(layer_idx_list, len(layers))
        if getattr(encoder, "reduction_position", None) is not None:
            raise ValueError(
                "encoder.reduction_position: layers of different frame rates cannot be aggregated"
            )

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Any, Any]:
        """audio_signal (B, feat_in, T), length (B,) frames."""
        tapped: dict[int, Tensor] = {}

        def tap(index: int) -> Any:
            def keep(module: nn.Module, inputs: Any, output: Any) -> None:
                tapped[index] = output[0] if isinstance(output, tuple) else output

            return keep

        layers: Any = self.encoder.layers
        handles = [layers[i].register_forward_hook(tap(i)) for i in sorted(set(self.layer_idx_list))]
        try:
            _, encoded_len = self.encoder(audio_signal=audio_signal, length=length)
        finally:
            for handle in handles:
                handle.remove()
        projection = getattr(self.encoder, "out_proj", None)
        outputs = [tapped[i] if projection is None else projection(tapped[i]) for i in self.layer_idx_list]
        features = [output.transpose(1, 2) for output in outputs]
        lengths = [encoded_len] * len(features)
        return (features, lengths) if self.aggregator is None else self.aggregator(features, lengths)


class ConformerMultiLayerFeaturePreprocessor(nn.Module):
    """Stands where a downstream model has its preprocessor: waveforms in, aggregated encoder features out.

    The encoder's keys are `feature_extractor.encoder.*`.  freeze_encoder: front end and encoder get no
    gradient and stay in evaluation mode; the aggregator's weights learn (NeMo freezes them too).
    """

    def __init__(
        self,
        aggregator: nn.Module | None,
        preprocessor: nn.Module,
        encoder: nn.Module,
        spec_augment: nn.Module | None = None,
        layer_idx_list: Sequence[int] | None = None,
        freeze_encoder: bool = True,
    ) -> None:
        super().__init__()
        self.preprocessor = preprocessor
        self.spec_augmentation = spec_augment
        self.feature_extractor = ConformerMultiLayerFeatureExtractor(encoder, aggregator, layer_idx_list)
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            preprocessor.requires_grad_(False)
            encoder.requires_grad_(False)
            self.train(self.training)

    def train(self, mode: bool = True) -> ConformerMultiLayerFeaturePreprocessor:
        super().train(mode)
        if self.freeze_encoder:
            self.preprocessor.eval()
            self.feature_extractor.encoder.eval()
        return self

    def forward(self, input_signal: Tensor, length: Tensor) -> tuple[Any, Any]:
        """input_signal (B, N) samples, length (B,) -> features (B, D', T) and their lengths (B,)."""
        features, frames = self.preprocessor(input_signal=input_signal, length=length)
        if self.spec_augmentation is not None and self.training:
            features = self.spec_augmentation(input_spec=features, length=frames)
        return self.feature_extractor(audio_signal=features, length=frames)


def layer_indices(wanted: Sequence[int] | None, count: int) -> list[int]:
    """Give layer numbers from 0 for wanted ones, negative ones counted from the end; None gives all."""
    if wanted is None:
        return list(range(count))
    found = []
    for number in wanted:
        number = int(number)
        if not -count <= number < count:
            raise ValueError(f"layer {number}: the encoder has layers 0 to {count - 1}, or -{count} to -1")
        found.append(number % count)
    if not found:
        raise ValueError("layer_idx_list is empty; null takes all layers")
    return found
