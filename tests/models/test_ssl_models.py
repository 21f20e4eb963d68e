"""The NEST model's own behaviour: short cuts, overriding, empty masks, precision, configuration."""

from __future__ import annotations

import re

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from nest_ssl.losses.ssl_losses.mlm import MultiMLMLoss
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.models.small import noise_batch, signals_of, small_config, small_model

NO_DROPOUT = tuple(f"model.encoder.{key}=0" for key in ("dropout", "dropout_pre_encoder", "dropout_att"))
EXACT = (*NO_DROPOUT, "model.preprocessor.dither=0")


class GivenMask:
    """Masks the same frames every time, and remembers how it was called."""

    def __init__(self, start, end):
        self.start, self.end = start, end
        self.calls = []

    def __call__(self, *, input_feats, input_lengths):
        self.calls.append(input_lengths.tolist())
        masks = torch.zeros_like(input_feats)
        masks[:, :, self.start : self.end] = 1.0
        return input_feats * (1 - masks), masks


def with_given_mask(model, start, end):
    given = GivenMask(start, end)
    model.mask_processor.forward = given
    return given


def losses_both_ways(model, batch, seed=5):
    """The mean loss by training_loss, and by forward and the loss call, from the same random draws."""
    results = []
    torch.manual_seed(seed)
    loss_sum, weight, _ = model.training_loss(batch)
    results.append(loss_sum / weight)
    torch.manual_seed(seed)
    log_probs, encoded_len, masks, tokens = model(**signals_of(batch), apply_mask=True)
    results.append(
        model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)
    )
    return results


@pytest.mark.parametrize("books", [1, 2])
@pytest.mark.parametrize("squeeze", ["true", "false"])
def test_training_loss_is_the_loss_of_forward(books, squeeze):
    model = small_model(*EXACT, f"model.num_books={books}", f"model.squeeze_single={squeeze}")
    short, full = losses_both_ways(model, noise_batch(24000, 18000))
    torch.testing.assert_close(short, full, rtol=1e-6, atol=0.0)


def test_forward_without_mask_gives_zero_masks():
    model = small_model().eval()
    log_probs, encoded_len, masks, tokens = model(**signals_of(noise_batch(24000, 18000)))
    assert masks.shape == (2, 80, 160)
    assert not masks.any()
    assert log_probs.shape == (2, 20, 32, 1)
    assert tokens.shape == (2, 20, 1)
    assert encoded_len.tolist() == [19, 14]


def test_forward_takes_features_instead_of_waveforms():
    model, batch = small_model(*EXACT).eval(), noise_batch(24000, 18000)
    torch.manual_seed(3)
    expected = model(**signals_of(batch), apply_mask=True)
    clean, clean_len = model.preprocessor(input_signal=batch.audio, length=batch.audio_len)
    noisy, noisy_len = model.preprocessor(input_signal=batch.noisy_audio, length=batch.noisy_audio_len)
    torch.manual_seed(3)
    results = model(
        processed_signal=clean,
        processed_signal_length=clean_len,
        processed_noisy_input_signal=noisy,
        processed_noisy_input_signal_length=noisy_len,
        apply_mask=True,
    )
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted)


@pytest.mark.parametrize("left_out", ["input_signal", "noisy_input_signal_length"])
def test_forward_names_the_missing_input(left_out):
    signals = signals_of(noise_batch(16000))
    del signals[left_out]
    with pytest.raises(ValueError, match=left_out.removesuffix("_length")):
        small_model()(**signals)


def test_forward_refuses_both_forms_of_an_input():
    signals = signals_of(noise_batch(16000))
    with pytest.raises(ValueError, match="either input_signal"):
        small_model()(
            **signals, processed_signal=torch.zeros(1, 80, 16), processed_signal_length=torch.tensor([9])
        )


def test_dither_is_drawn_as_in_two_calls():
    model, batch = small_model(*NO_DROPOUT, "model.preprocessor.dither=0.01").train(), noise_batch(16000)
    torch.manual_seed(7)
    clean, _ = model.preprocessor(input_signal=batch.audio.clone(), length=batch.audio_len)
    noisy, _ = model.preprocessor(input_signal=batch.noisy_audio.clone(), length=batch.audio_len)
    torch.manual_seed(7)
    pair = model.preprocessor.forward_pair(batch.audio, batch.audio_len, batch.noisy_audio, batch.audio_len)
    torch.testing.assert_close(pair[0], clean)
    torch.testing.assert_close(pair[2], noisy)


def test_one_tensor_as_clean_and_noisy_is_dithered_twice_in_turn():
    model, batch = small_model(*NO_DROPOUT, "model.preprocessor.dither=0.01").train(), noise_batch(16000)
    once = batch.audio.clone()
    torch.manual_seed(7)
    clean, _ = model.preprocessor(input_signal=once, length=batch.audio_len)
    expected = model.quantizer(clean)[1]
    torch.manual_seed(7)
    tokens = model(
        input_signal=batch.audio,
        input_signal_length=batch.audio_len,
        noisy_input_signal=batch.audio,
        noisy_input_signal_length=batch.audio_len,
    )[3]
    assert torch.equal(tokens, expected)


class TestOverriding:
    """Users replace parts of the model; both ways to a loss must honour it."""

    def test_mask_processor(self):
        model, batch = small_model(*EXACT), noise_batch(24000, 18000)
        given = with_given_mask(model, 8, 40)
        short, full = losses_both_ways(model, batch)
        torch.testing.assert_close(short, full, rtol=1e-6, atol=0.0)
        assert given.calls == [[150, 112], [150, 112]]
        assert model.training_loss(batch)[1] == 2 * 4

    def test_mask_processor_replaced_whole(self):
        class Stub(nn.Module):
            def forward(self, input_feats, input_lengths):
                return input_feats, torch.ones_like(input_feats)

        model = small_model(*EXACT)
        model.mask_processor = Stub()
        _, weight, stats = model.training_loss(noise_batch(24000))
        assert weight == 20
        assert stats["target_counts"].sum() == 20

    @pytest.mark.parametrize("how", ["module", "forward", "class"])
    def test_loss(self, how, monkeypatch):
        class Constant(nn.Module):
            def forward(self, masks, decoder_outputs, targets, decoder_lengths=None):
                return decoder_outputs.sum() * 0 + 42.0

        model = small_model(*EXACT)
        with_given_mask(model, 8, 40)
        if how == "module":
            model.loss = Constant()
        elif how == "forward":
            model.loss.forward = Constant().forward
        else:
            monkeypatch.setattr(MultiMLMLoss, "forward", lambda _, **kwargs: Constant()(**kwargs))
        loss_sum, weight, _ = model.training_loss(noise_batch(24000, 18000))
        assert (loss_sum / weight).item() == 42.0
        assert weight == 8

    def test_decoder(self):
        class Uniform(nn.Module):
            def forward(self, encoder_output):
                batch, _, frames = encoder_output.shape
                return torch.log_softmax(encoder_output.sum() * 0 + torch.zeros(batch, frames, 32, 1), dim=2)

        model = small_model()
        model.decoder = Uniform()
        loss_sum, weight, _ = model.training_loss(noise_batch(24000))
        torch.testing.assert_close(loss_sum / weight, torch.tensor(32.0).log())

    def test_decoder_hook_is_run(self):
        model, ran = small_model(), []
        model.decoder.register_forward_hook(lambda *_: ran.append(True))
        model.training_loss(noise_batch(24000))
        assert ran

    def test_quantizer(self):
        model = small_model()
        with_given_mask(model, 0, 80)
        model.quantizer.forward = lambda input_signal: (
            None,
            torch.full((1, input_signal.shape[2] // 8, 1), 3),
        )
        _, _, stats = model.training_loss(noise_batch(24000))
        assert stats["target_counts"][0].nonzero().tolist() == [[3]]

    def test_preprocessor(self):
        model, seen = small_model(), []
        built = model.preprocessor.forward

        def forward(input_signal, length):
            seen.append(input_signal.shape)
            return built(input_signal=input_signal, length=length)

        model.preprocessor.forward = forward
        model.training_loss(noise_batch(24000))
        assert len(seen) == 2

    def test_forward_of_a_subclass(self):
        class Model(EncDecDenoiseMaskedTokenPredModel):
            def forward(self, **inputs):
                log_probs, encoded_len, masks, tokens = super().forward(**inputs)
                return log_probs, encoded_len, masks, torch.full_like(tokens, 5)

        model = Model(small_config())
        with_given_mask(model, 0, 80)
        _, _, stats = model.training_loss(noise_batch(24000))
        assert stats["target_counts"][0].nonzero().tolist() == [[5]]


@pytest.mark.parametrize("replaced_loss", [False, True])
def test_no_masked_frame_gives_a_zero_loss_with_gradients(replaced_loss):
    model = small_model()
    with_given_mask(model, 0, 0)
    if replaced_loss:
        model.loss = nn.Sequential(model.loss)  # another class: the way through forward()
    loss_sum, weight, stats = model.training_loss(noise_batch(24000))
    loss_sum.backward()
    assert loss_sum == 0
    assert weight == 0
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
    figures = model.metrics(loss_sum, weight, stats)
    assert figures["mask_share"] == 0.0
    assert figures["masked_acc"] != figures["masked_acc"]  # NaN


def test_validation_loss_has_no_graph():
    assert not small_model().eval().validation_loss(noise_batch(24000))[0].requires_grad


@pytest.mark.parametrize("sdpa", ["true", "false"])
def test_bfloat16_autocast_is_finite_and_keeps_tokens(sdpa):
    model = small_model(*EXACT, f"+model.encoder.use_pytorch_sdpa={sdpa}")
    batch = noise_batch(24000, 18000)
    torch.manual_seed(2)
    plain_sum, _, plain = model.training_loss(batch)
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_sum, _, stats = model.training_loss(batch)
    loss_sum.backward()
    assert loss_sum.dtype == torch.float32
    assert torch.equal(stats["target_counts"], plain["target_counts"])
    torch.testing.assert_close(loss_sum, plain_sum, rtol=0.02, atol=0.0)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_bfloat16_forward_gives_float32_log_probabilities():
    model = small_model().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        log_probs, *_ = model(**signals_of(noise_batch(24000)), apply_mask=True)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(1, 20, 1))


def test_stats_are_counts_of_the_masked_frames():
    model, batch = small_model(*EXACT, "model.num_books=2").eval(), noise_batch(24000, 18000)
    with_given_mask(model, 16, 56)
    _, weight, stats = model.validation_loss(batch)
    with torch.no_grad():
        log_probs, encoded_len, _, tokens = model(**signals_of(batch), apply_mask=True)
    targets, predictions = tokens[:, 2:7], log_probs[:, 2:7].argmax(2)
    assert weight == 10
    assert stats["frames_total"] == encoded_len.sum()
    assert stats["correct"] == (targets == predictions).float().mean(2).sum()
    for book in range(2):
        counts = torch.bincount(targets[:, :, book].flatten(), minlength=32)
        assert torch.equal(stats["target_counts"][book], counts)
        counts = torch.bincount(predictions[:, :, book].flatten(), minlength=32)
        assert torch.equal(stats["prediction_counts"][book], counts)


def test_metrics_come_in_the_order_of_the_log():
    figures = small_model().metrics(
        torch.tensor(20.0),
        torch.tensor(10),
        {
            "correct": torch.tensor(3.0),
            "frames_total": torch.tensor(40),
            "target_counts": torch.tensor([[5, 5, 0, 0], [10, 0, 0, 0]]),
            "prediction_counts": torch.tensor([[10, 0, 0, 0], [10, 0, 0, 0]]),
        },
    )
    assert list(figures) == [
        "masked_acc",
        "mask_share",
        "target_ppl",
        "target_coverage",
        "pred_ppl",
        "pred_coverage",
        "gain_nats",
    ]
    assert figures["masked_acc"] == pytest.approx(0.3)
    assert figures["mask_share"] == pytest.approx(0.25)
    assert figures["target_ppl"] == pytest.approx(1.5)  # 2 equal codes of one book, 1 of the other
    assert figures["target_coverage"] == pytest.approx(0.375)
    assert figures["pred_ppl"] == pytest.approx(1.0)
    assert figures["pred_coverage"] == pytest.approx(0.25)
    assert figures["gain_nats"] == pytest.approx(torch.tensor(1.5).log().item() - 2.0)


def test_parameter_groups_hold_every_parameter_once():
    model = small_model()
    (group,) = model.parameter_groups(model.cfg.optim)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_parameter_groups_split_by_part():
    model = small_model("+model.optim_param_groups={encoder: {lr: 0.5}}")
    rest, encoder = model.parameter_groups(model.cfg.optim)
    assert encoder["lr"] == 0.5
    assert [id(p) for p in encoder["params"]] == [id(p) for p in model.encoder.parameters()]
    assert len(rest["params"]) + len(encoder["params"]) == len(list(model.parameters()))


def test_parameter_groups_refuse_an_unknown_part():
    model = small_model("+model.optim_param_groups={encodr: {lr: 0.5}}")
    with pytest.raises(ValueError, match=r"optim_param_groups\.encodr"):
        model.parameter_groups(model.cfg.optim)


def test_unfilled_manifests_do_not_hinder_construction():
    model = small_model()
    assert OmegaConf.is_missing(model.cfg.train_ds, "manifest_filepath")


def test_a_plain_mapping_is_taken_too():
    plain = OmegaConf.to_container(small_model().cfg)
    assert EncDecDenoiseMaskedTokenPredModel(cfg=plain, trainer=None).cfg == small_model().cfg


def test_construction_leaves_the_callers_configuration_alone():
    config = small_config()
    before = str(config)
    EncDecDenoiseMaskedTokenPredModel(config)
    assert str(config) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.mask_position=mid_conv", "model.mask_position: 'mid_conv' is not pre_conv or post_conv"),
        ("model.encoder.conv_kernel_size=8", "model.encoder.conv_kernel_size: 8 is even"),
        ("model.encoder.n_heads=7", "model.encoder.n_heads: 7 does not divide"),
        (
            "+model.encoder.n_layer=3",
            "model.encoder.n_layer: ConformerEncoder has no such option; did you mean n_layers?",
        ),
        ("model.preprocessor.pad_to=0", "model.preprocessor.pad_to: 0 must be a multiple"),
        ("model.preprocessor.pad_to=12", "model.preprocessor.pad_to: 12 must be a multiple"),
        ("model.preprocessor.features=64 model.encoder.feat_in=80", "model.encoder.feat_in: 80 must equal"),
        ("model.loss.combine_time_steps=4", "model.loss.combine_time_steps: 4 must equal"),
        ("model.decoder.num_classes=16", "model.decoder.num_classes: 16 must equal"),
        ("model.loss.num_decoders=2", "model.loss.num_decoders: 2 must equal"),
        ("model.quantizer.squeeze_single=true", "model.decoder.squeeze_single"),
        ("model.quantizer.dist_fn=l1", "model.quantizer.dist_fn: 'l1'"),
        ("model.masking.mask_prob=1.5", "model.masking.mask_prob: 1.5"),
        ("model.spec_augment.time_width=1.5", "model.spec_augment.time_width: 1.5"),
        ("+model.parity=nemo4", "model.parity: 'nemo4'"),
        ("+model.parity.dithr=copy", "model.parity.dithr is unknown; did you mean dither?"),
        ("+model.parity.masking=nemo4", "model.parity.masking: 'nemo4' is not nemo2 or nemo3"),
        ("model.preprocessor.window=gauss", "model.preprocessor.window: 'gauss'"),
        ("model.preprocessor.normalize=per_featur", "model.preprocessor.normalize: 'per_featur'"),
        (
            "model.preprocessor._target_=os.system",
            "model.preprocessor._target_: 'os.system' is not one of the known names",
        ),
        ("~model.quantizer", "model.quantizer is missing"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(override, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small_model(*override.split())
