"""Inside the model of the base case: where a difference from NeMo would start."""

import pytest
import torch

from tests.golden import cases

BLOCKS = {
    "l0.ff1": "encoder.layers.0.feed_forward1",
    "l0.att": "encoder.layers.0.self_attn",
    "l0.conv": "encoder.layers.0.conv",
    "l0.ff2": "encoder.layers.0.feed_forward2",
    "layer0": "encoder.layers.0",
    "layer1": "encoder.layers.1",
}


@pytest.fixture(scope="module")
def case(goldens):
    return cases.load_case(goldens / "nemo", "base")


@pytest.fixture(scope="module")
def seen(case):
    """Outputs of every sub-module in one evaluation forward, by name; `masked` is the encoder's input."""
    model = case.model()
    outputs = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, inputs, output, name=name: outputs.update({name: output}))
    keep = {}
    model.encoder.register_forward_pre_hook(lambda _, args, kwargs: keep.update(kwargs), with_kwargs=True)
    torch.manual_seed(case.meta["mask_seed_eval"])
    with torch.no_grad():
        model(**case.signals())
    return {**outputs, "masked": keep["audio_signal"]}


def test_features_of_clean_and_noisy(case):
    model, batch = case.model(), case.batch()
    for signal, key in ((batch.audio, "mel_clean"), (batch.noisy_audio, "mel_noisy")):
        features, frames = model.preprocessor(input_signal=signal, length=batch.audio_len)
        assert torch.equal(frames, case.tensors[f"{key}_len"])
        torch.testing.assert_close(features, case.tensors[key], **cases.ACTIVATIONS)


def test_masked_features(case, seen):
    torch.testing.assert_close(seen["masked"], case.tensors["masked_feats"], **cases.ACTIVATIONS)


def test_positions(case, seen):
    x, pos_emb = seen["encoder.pos_enc"]
    torch.testing.assert_close(x, case.tensors["pos_enc_x"], **cases.ACTIVATIONS)
    torch.testing.assert_close(pos_emb, case.tensors["pos_emb"], **cases.ACTIVATIONS)


@pytest.mark.parametrize("key", BLOCKS)
def test_blocks(case, seen, key):
    torch.testing.assert_close(seen[BLOCKS[key]], case.tensors[key], **cases.ACTIVATIONS)
