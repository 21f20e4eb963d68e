"""Fun-ASR-Nano against FunASR 1.4.16 on the committed sample: a tiny random model, odd sizes."""

import hashlib
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.modules.wav_frontend import WavFrontend
from tests.golden.make_funasr_sample import FRONTENDS, draw_weights, wave

pytest.importorskip("transformers")
TINY = Path(__file__).resolve().parent / "funasr" / "tiny"
CLOSE = {"rtol": 0.0, "atol": 2e-5}


@pytest.fixture(scope="module")
def expected():
    return load_file(TINY / "sample.safetensors")


@pytest.fixture(scope="module")
def model():
    model = FunASRNano(yaml.safe_load((TINY / "config.yaml").read_text()), TINY)
    draw_weights(model)
    return model.eval()


@pytest.fixture
def batch(expected):
    found = {name[3:]: tensor.clone() for name, tensor in expected.items() if name.startswith("in.")}
    return {**found, "speech": found["speech"].float()}


@pytest.mark.parametrize("name", FRONTENDS)
def test_features_are_those_of_funasr(name, expected):
    options, samples = FRONTENDS[name]
    features = WavFrontend(**options).features(wave(samples))
    # Logarithms of small energies: without AVX-512 their sums differ by 1.3e-4 already.
    torch.testing.assert_close(features, expected[f"frontend.{name}"], rtol=0.0, atol=1e-3)


def test_every_part_gives_what_it_gives_in_funasr(model, batch, expected):
    seen = {}
    parts = {
        "enc.layer0": model.audio_encoder.encoders0[0],
        "enc.after_norm": model.audio_encoder.after_norm,
        "encoder_out": model.audio_encoder,
        "adaptor_out": model.audio_adaptor,
    }
    hooks = [
        part.register_forward_hook(lambda module, given, output, name=name: seen.update({name: output}))
        for name, part in parts.items()
    ]
    with torch.no_grad():
        encoded = model.encode(batch["speech"], batch["speech_lengths"])
        model.adapt(*encoded)
        seen["ctc_log_probs"] = model.ctc_log_probs(*encoded)
    for hook in hooks:
        hook.remove()
    for name, output in seen.items():
        output = output[0] if isinstance(output, tuple) else output
        torch.testing.assert_close(
            output, expected[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_forward_gives_loss_statistics_and_weight_of_funasr_and_leaves_the_batch_alone(
    model, batch, expected
):
    digests = {name: hashlib.sha256(tensor.numpy()).digest() for name, tensor in batch.items()}
    logits = []
    hook = model.llm.register_forward_hook(lambda module, given, output: logits.append(output.logits))
    with torch.no_grad():
        loss, stats, weight = model(**batch)
    hook.remove()
    torch.testing.assert_close(logits[0], expected["logits"], rtol=0.0, atol=1e-4)
    torch.testing.assert_close(loss, expected["loss"], rtol=0.0, atol=1e-5)
    assert torch.equal(weight, expected["weight"])
    names = {name[6:] for name in expected if name.startswith("stats.")}
    assert stats.keys() == names
    for name in names:
        torch.testing.assert_close(stats[name].float(), expected[f"stats.{name}"], rtol=0.0, atol=1e-5)
    assert digests == {name: hashlib.sha256(tensor.numpy()).digest() for name, tensor in batch.items()}


def test_the_loss_from_label_positions_alone_is_that_of_forward(model, batch, expected):
    with torch.no_grad():
        encoded = model.encode(batch["speech"], batch["speech_lengths"])
        embeds = model.embeds(batch["input_ids"], encoded, batch["fbank_beg"], batch["fake_token_len"])
        logits, labels = model.label_logits(embeds, batch["attention_mask"], batch["labels_ids"])
    loss = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(loss[None], expected["loss"], rtol=0.0, atol=1e-5)
    assert len(labels) == int((batch["labels_ids"][:, 1:] >= 0).sum())
