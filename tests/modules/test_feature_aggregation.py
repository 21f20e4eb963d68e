"""Several layers' features as one, by plain definitions; the taps give what the layers gave."""

from __future__ import annotations

import pytest
import torch

from nest_ssl.modules.feature_aggregation import (
    Aggregator,
    ConformerMultiLayerFeatureExtractor,
    ConformerMultiLayerFeaturePreprocessor,
    layer_indices,
)
from tests.models.ctc_small import small_model

PLAIN = {
    "cat": lambda x: torch.cat([x[0], x[1], x[2]], dim=1),
    "sum": lambda x: x[0] + x[1] + x[2],
    "mean": lambda x: (x[0] + x[1] + x[2]) / 3,
    "avg": lambda x: (x[0] + x[1] + x[2]) / 3,
    "max": lambda x: torch.maximum(torch.maximum(x[0], x[1]), x[2]),
    "min": lambda x: torch.minimum(torch.minimum(x[0], x[1]), x[2]),
    "weighted_sum": lambda x: (x[0] + x[1] + x[2]) / 3,
}


@pytest.mark.parametrize("mode", PLAIN)
def test_every_mode_gives_one_tensor(mode):
    layers = list(torch.randn(3, 2, 4, 5))
    lengths = [torch.tensor([5, 3])] * 3
    result, length = Aggregator(mode, layer_idx_list=[0, 1, 2])(layers, lengths)
    torch.testing.assert_close(result, PLAIN[mode](layers))
    assert length is lengths[0]


def test_none_gives_the_layers_and_weights_are_summed_plainly_and_learn():
    layers = list(torch.randn(2, 1, 4, 5))
    assert Aggregator("none")(layers, [torch.tensor([5])] * 2)[0] == layers
    aggregator = Aggregator("weighted_sum", [2.0, -1.0])
    result, _ = aggregator(layers, [torch.tensor([5])] * 2)
    torch.testing.assert_close(result, 2 * layers[0] - layers[1])
    result.sum().backward()
    assert aggregator.weights.grad is not None
    with pytest.raises(ValueError, match="2 weights for 3 layers"):
        aggregator([*layers, layers[0]], [torch.tensor([5])] * 3)
    with pytest.raises(ValueError, match="mode: 'median'"):
        Aggregator("median")


def test_the_last_layers_features_are_the_encoders_output():
    encoder = small_model().encoder.eval()
    features, length = torch.randn(2, 80, 64), torch.tensor([64, 40])
    with torch.no_grad():
        expected, expected_length = encoder(audio_signal=features, length=length)
        (first, last), lengths = ConformerMultiLayerFeatureExtractor(encoder, None, [0, -1])(features, length)
    assert torch.equal(last, expected)
    assert torch.equal(lengths[0], expected_length)
    assert first.shape == last.shape
    assert not torch.equal(first, last)
    assert not encoder.layers[0]._forward_hooks


def test_a_frozen_encoder_stays_so_while_the_weights_learn():
    model = small_model()
    layers = ConformerMultiLayerFeaturePreprocessor(
        Aggregator("weighted_sum", layer_idx_list=[0, 1]), model.preprocessor, model.encoder
    ).train()
    assert not layers.feature_extractor.encoder.training
    names = {name for name, p in layers.named_parameters() if p.requires_grad}
    assert names == {"feature_extractor.aggregator.weights"}
    assert all(key.startswith(("preprocessor.", "feature_extractor.")) for key in layers.state_dict())
    result, length = layers(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    assert result.shape[:2] == (2, 24)
    assert length.tolist() == model.frames_of(torch.tensor([16000, 8000])).tolist()


def test_layer_numbers():
    assert layer_indices(None, 3) == [0, 1, 2]
    assert layer_indices([-1, 0], 3) == [2, 0]
    with pytest.raises(ValueError, match="layer 3: the encoder has layers 0 to 2"):
        layer_indices([3], 3)
    with pytest.raises(ValueError, match="empty"):
        layer_indices([], 3)
