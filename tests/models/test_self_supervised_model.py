"""The contrastive model: which losses are active, what they are given, and what is refused."""

import copy
import random
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.models.registry import model_class_of
from nest_ssl.models.ssl_models import SpeechEncDecSelfSupervisedModel

NEMO = "nemo.collections.asr"
CONFIG = OmegaConf.create(
    {
        "preprocessor": {
            "_target_": f"{NEMO}.modules.AudioToMelSpectrogramPreprocessor",
            **{"features": 20, "n_fft": 512, "dither": 0.0, "pad_to": 8, "window_size": 0.025},
        },
        "spec_augment": {
            "_target_": f"{NEMO}.modules.MaskedPatchAugmentation",
            **{"patch_size": 16, "mask_patches": 0.5},
        },
        "encoder": {
            "_target_": f"{NEMO}.modules.ConformerEncoder",
            **{"feat_in": 20, "n_layers": 2, "d_model": 16, "n_heads": 2, "subsampling": "dw_striding"},
            **{
                "subsampling_factor": 4,
                "subsampling_conv_channels": 4,
                "conv_kernel_size": 5,
                "dropout": 0.0,
            },
            **{"dropout_pre_encoder": 0.0, "dropout_emb": 0.0},
        },
        "loss_list": {
            "contrastive": {
                "decoder": {
                    "_target_": f"{NEMO}.modules.ConvASRDecoderReconstruction",
                    **{"feat_in": 16, "feat_hidden": 12, "feat_out": 8},
                },
                "loss": {
                    "_target_": f"{NEMO}.losses.ContrastiveLoss",
                    **{"in_dim": 20, "proj_dim": 8, "combine_time_steps": 4, "num_negatives": 3},
                    **{"quantized_targets": True, "codebook_size": 4},
                },
            },
            "mlm": {
                "decoder": {"_target_": f"{NEMO}.modules.ConvASRDecoder", "feat_in": 16, "num_classes": 16},
                "loss": {"_target_": f"{NEMO}.losses.MLMLoss", "combine_time_steps": 4},
                **{"targets_from_loss": "contrastive", "loss_alpha": 2.0},
            },
        },
    }
)


def built(**changes):
    """The model with changed keys of loss_list.mlm (mlm_...) and of the section."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        if key.startswith("mlm_"):
            config.loss_list.mlm[key.removeprefix("mlm_")] = value
        else:
            config[key] = value
    torch.manual_seed(0)
    return SpeechEncDecSelfSupervisedModel(config)


def batch(*samples):
    generator = torch.Generator().manual_seed(1)
    return SimpleNamespace(
        audio=torch.randn(len(samples), max(samples), generator=generator) * 0.1,
        audio_len=torch.tensor(samples),
    )


def loss_of(model, of):
    torch.manual_seed(3)
    random.seed(3)
    loss_sum, weight, stats = model.training_loss(of)
    return loss_sum / weight, model.metrics(loss_sum.detach(), weight, stats)


def test_loss_is_the_weighted_sum_and_everything_is_trained():
    model = built()
    loss, figures = loss_of(model, batch(16000, 12000))
    assert figures["contrastive_loss"] + 2.0 * figures["mlm_loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert 0.2 < figures["mask_share"] < 0.8
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_a_loss_starts_at_its_step_and_the_temperature_falls():
    model = built(mlm_start_step=5)
    assert loss_of(model, batch(16000))[1]["mlm_loss"] > 0  # no step told: outside training all losses count
    quantizer = model.decoder_losses["contrastive"]["loss"].quantizer
    model.before_step(4)
    loss, figures = loss_of(model, batch(16000))
    assert figures["mlm_loss"] != figures["mlm_loss"]  # NaN
    assert loss.item() == pytest.approx(figures["contrastive_loss"])
    model.before_step(5)
    assert loss_of(model, batch(16000))[1]["mlm_loss"] > 0
    assert quantizer.curr_temp == pytest.approx(2.0 * 0.999995**5)
    model.before_step(10**7)
    assert quantizer.curr_temp == 0.5


def test_an_inactive_loss_is_not_built():
    model = built(mlm_is_active=False)
    assert list(model.decoder_losses) == ["contrastive"]
    assert not any("mlm" in key for key in model.state_dict())


def test_a_decoder_hears_the_layer_it_asks_for():
    model = built(mlm_output_from_layer="layers.0", mlm_transpose_encoded=True)
    heard = {}
    model.encoder.layers[0].register_forward_hook(lambda *args: heard.update(layer=args[2]))
    model.decoder_losses["mlm"]["decoder"].register_forward_pre_hook(
        lambda module, args, kwargs: heard.update(decoder=kwargs["encoder_output"]), with_kwargs=True
    )
    loss_of(model, batch(16000))
    assert torch.equal(heard["decoder"], heard["layer"].transpose(1, 2))


def test_one_decoder_and_loss_without_a_list():
    config = copy.deepcopy(CONFIG)
    entry = config.loss_list.contrastive
    config.decoder, config.loss = entry.decoder, entry.loss
    del config["loss_list"]
    model = SpeechEncDecSelfSupervisedModel(config)
    loss, figures = loss_of(model, batch(16000))
    loss.backward()
    assert list(figures) == ["mask_share"]
    assert [key for key in model.state_dict() if key.startswith("decoder_ssl.")]


def test_feature_penalty_is_the_mean_square_of_the_features():
    model, of = built(feature_penalty=0.5), batch(16000)
    features, _ = model.preprocessor(input_signal=of.audio, length=of.audio_len)
    difference = loss_of(model, of)[0] - loss_of(built(), of)[0]
    torch.testing.assert_close(difference, 0.5 * features.square().mean(), rtol=1e-3, atol=1e-4)


def test_targets_are_the_features_before_masking():
    model, of = built(dropout_features=0.3), batch(16000, 12000)
    features, _ = model.preprocessor(input_signal=of.audio, length=of.audio_len)
    spectrograms, masks, _, _ = model(input_signal=of.audio, input_signal_length=of.audio_len)
    assert torch.equal(spectrograms, features)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert not masks[1, :, 75:].any()


def test_an_item_too_short_for_a_patch_gives_a_loss_of_zero_with_gradients():
    model = built(mlm_is_active=False)
    loss, _ = loss_of(model, batch(2000))
    loss.backward()
    assert loss == 0


def test_the_class_is_told_by_its_parts():
    assert model_class_of(CONFIG) is SpeechEncDecSelfSupervisedModel


def test_saved_and_restored(tmp_path):
    model = built().eval()
    model.save_to(tmp_path / "model.nemo")
    restored = SpeechEncDecSelfSupervisedModel.restore_from(tmp_path / "model.nemo").eval()
    of = batch(16000, 12000)
    assert torch.equal(loss_of(model, of)[0], loss_of(restored, of)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlm_targets_from_loss": "ctc"}, "targets_from_loss: 'ctc' is not an active loss"),
        ({"mlm_targets_from_loss": None}, "loss_list.mlm needs labels"),
        ({"mlm_output_from_layer": "layers.7"}, "the encoder has no module 'layers.7'"),
        ({"mlm_start": 5}, "loss_list.mlm.start is unknown; did you mean start_step?"),
        ({"dropout_features": 1.5}, "model.dropout_features: 1.5"),
        ({"spec_augment": None}, "model.spec_augment is missing"),
        ({"loss_list": None}, "model.loss_list is missing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused_by_key(changes, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.").replace("?", r"\?")):
        loss_of(built(**changes), batch(16000))


@pytest.mark.parametrize(
    ("section", "target", "way_out"),
    [
        ("encoder", "ConvASREncoder", "ConformerEncoder"),
        ("preprocessor", "wav2vec_modules.ConvFeatureEncoder", "AudioToMelSpectrogramPreprocessor"),
        ("encoder", "wav2vec_modules.Wav2VecTransformerEncoder", "fast-conformer.yaml"),
        ("encoder", "ECAPAEncoder", "extract_features"),
        (
            "preprocessor",
            "ssl_modules.multi_layer_feat.ConformerMultiLayerFeaturePreprocessor",
            "extract_features",
        ),
    ],
)
def test_parts_of_nemos_other_examples_are_refused_with_a_way_out(section, target, way_out):
    name = f"{NEMO}.modules.{target}"
    with pytest.raises(
        ValueError, match=rf"model\.{section}\._target_: {name}: .* not implemented.*{way_out}"
    ):
        built(**{section: {"_target_": name}})
