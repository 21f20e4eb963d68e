"""The CTC model: its loss by enumeration, what is frozen, learning rates by layer, archives."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from nest_ssl.checkpoints.nemo_archive import read_nemo
from nest_ssl.losses.ctc import CTCLoss
from nest_ssl.models.ctc_models import EncDecCTCModelBPE
from nest_ssl.text.ctc_labels import collapse
from tests.models.ctc_small import TEXTS, small_model, speech_batch


def enumerated_loss(log_probs: torch.Tensor, labels: list[int], blank: int) -> float:
    frames, classes = log_probs.shape
    scores = log_probs.tolist()
    total = 0.0
    for path in itertools.product(range(classes), repeat=frames):
        if collapse(path, blank) == labels:
            total += math.exp(sum(scores[t][label] for t, label in enumerate(path)))
    return -math.log(total)


def test_the_loss_is_the_negative_log_of_all_paths_with_the_blank_last():
    torch.manual_seed(0)
    log_probs = torch.randn(2, 5, 4).log_softmax(-1)
    targets, lengths = torch.tensor([[0, 0], [2, 0]]), torch.tensor([2, 1])
    frames = torch.tensor([5, 4])
    expected = [
        enumerated_loss(log_probs[0], [0, 0], 3),
        enumerated_loss(log_probs[1, :4], [2], 3),
    ]

    def loss(reduction: str) -> torch.Tensor:
        return CTCLoss(3, reduction=reduction)(log_probs, targets, frames, lengths)

    torch.testing.assert_close(loss("none"), torch.tensor(expected))
    assert float(loss("mean_batch")) == pytest.approx(sum(expected) / 2)
    assert float(loss("mean_volume")) == pytest.approx(sum(expected) / 3)
    assert float(loss("mean")) == pytest.approx((expected[0] / 2 + expected[1]) / 2)
    with pytest.raises(ValueError, match=r"ctc_reduction: 'median'"):
        CTCLoss(3, reduction="median")


def test_training_lowers_the_loss_and_greedy_decoding_gets_the_texts():
    model = small_model("model.spec_augment=null")
    batch = speech_batch(model.tokenizer)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(70):
        loss_sum, weight, _ = model.train().training_loss(batch)
        optimizer.zero_grad()
        (loss_sum / weight).backward()
        optimizer.step()
    loss_sum, weight, stats = model.eval().validation_loss(batch)
    assert float(loss_sum / weight) < 5
    figures = model.metrics(loss_sum, weight, stats)
    assert list(figures) == ["blank_share", "cer", "wer"]
    assert figures["cer"] < 0.2
    assert stats["cer_total"] == sum(map(len, TEXTS))


def test_predicted_encoder_lengths_are_the_computed_ones():
    for factor in (2, 4, 8):
        model = small_model(f"model.encoder.subsampling_factor={factor}").eval()
        samples = torch.tensor([16000, 15999, 1600, 801, 12345])
        with torch.no_grad():
            _, lengths, _ = model(input_signal=torch.zeros(5, 16000), input_signal_length=samples)
        assert model.frames_of(samples).tolist() == lengths.tolist()


def test_layers_learn_the_more_slowly_the_deeper_they_lie():
    model = small_model("model.layer_lr_decay=0.5", "model.encoder_lr_factor=0.8")
    groups = model.parameter_groups({"lr": 1.0})
    rates = {id(p): group.get("lr", 1.0) for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(model.decoder.decoder_layers[0].weight)] == 1.0
    assert rates[id(model.encoder.layers[1].norm_out.weight)] == pytest.approx(0.8)
    assert rates[id(model.encoder.layers[0].norm_out.weight)] == pytest.approx(0.4)
    assert rates[id(model.encoder.pre_encode.out.weight)] == pytest.approx(0.2)
    assert len(small_model().parameter_groups({"lr": 1.0})) == 1


def test_a_resting_encoder_gets_no_gradient_and_keeps_its_batch_statistics():
    model = small_model("model.freeze_encoder_steps=2")
    batch = speech_batch(model.tokenizer)
    norm = model.encoder.layers[0].conv.batch_norm
    for step, rests in ((0, True), (1, True), (2, False)):
        before = norm.running_mean.clone()
        model.zero_grad(set_to_none=True)
        model.train().before_step(step)
        model.training_loss(batch)[0].backward()
        assert model.decoder.decoder_layers[0].weight.grad is not None
        assert (model.encoder.layers[0].norm_out.weight.grad is None) is rests
        assert torch.equal(before, norm.running_mean) is rests


def test_frozen_parts_stay_in_evaluation_mode():
    model = small_model("model.freeze=[pre_encode]").train()
    assert not model.encoder.pre_encode.training
    assert model.encoder.layers[0].training
    assert not any(p.requires_grad for p in model.encoder.pre_encode.parameters())
    with pytest.raises(ValueError, match=r"model\.freeze: 'preprocessor'"):
        small_model("model.freeze=[preprocessor]")


def test_an_archive_gives_the_model_back_with_its_tokenizer(tmp_path):
    model = small_model().eval()
    model.save_to(tmp_path / "a.nemo")
    again = EncDecCTCModelBPE.restore_from(tmp_path / "a.nemo").eval()
    assert again.tokenizer.proto == model.tokenizer.proto
    assert again.tokenizer.normalizer == model.tokenizer.normalizer
    batch = speech_batch(model.tokenizer)
    with torch.no_grad():
        assert torch.equal(model.training_loss(batch)[0], again.training_loss(batch)[0])
    again.save_to(tmp_path / "b.nemo")
    assert read_nemo(tmp_path / "b.nemo")[0] == read_nemo(tmp_path / "a.nemo")[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.encoder.n_layer=2", "no key"),
        ("model.decoder.num_classes=7", r"model\.decoder\.num_classes: 7"),
        ("model.ctc_reduction=median", r"ctc_reduction: 'median'"),
        ("model.text_normalization={upper: true}", r"model\.text_normalization\.upper"),
        ("~model.encoder", r"model\.encoder is missing"),
    ],
)
def test_bad_settings_are_refused_by_key(override, message):
    with pytest.raises(ValueError, match=message):
        small_model(override)
