"""Masking behind the sub-sampling: shared tensors, configurations as given, archives that NeMo edited."""

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.checkpoints.nemo_archive import read_nemo, write_nemo
from nest_ssl.checkpoints.state import portable_state
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel, EncDecMaskedTokenPredModel
from tests.models.small import noise_batch, signals_of, small_config

POST_CONV = ("model.mask_position=post_conv", "model.masking.mask_prob=0.1")
CLASSES = (EncDecMaskedTokenPredModel, EncDecDenoiseMaskedTokenPredModel)


def post_conv_model(cls=EncDecDenoiseMaskedTokenPredModel, *overrides, seed=0):
    torch.manual_seed(seed)
    return cls(small_config(*POST_CONV, *overrides))


def forward_of(model, batch):
    signals = signals_of(batch)
    if type(model) is EncDecMaskedTokenPredModel:
        signals = {key: value for key, value in signals.items() if "noisy" not in key}
    return model(**signals, apply_mask=True)


def edited_by_nemo(config):
    """What NeMo's constructor makes of a section, and saves."""
    config = dict(config)
    config["masking"] = {
        **config["masking"],
        "feat_in": 24,
        "block_size": config["masking"]["block_size"] // 8,
    }
    config["quantizer"] = {**config["quantizer"], "feat_in": 24}
    config["loss"] = {**config["loss"], "combine_time_steps": 1}
    return config


@pytest.mark.parametrize("cls", CLASSES)
def test_blocks_are_counted_in_encoder_frames_and_the_section_stays_as_given(cls):
    model = post_conv_model(cls)
    assert model.mask_processor.block_size == 24 // 8
    assert model.mask_processor.mask_embedding.shape == (24,)
    assert model.quantizer.proj.weight.shape == (8, 24)
    assert model.cfg == small_config(*POST_CONV)


@pytest.mark.parametrize("cls", CLASSES)
def test_training_loss_is_the_loss_of_forward(cls):
    model, batch = post_conv_model(cls, "model.preprocessor.dither=0").eval(), noise_batch(24000, 18000)
    torch.manual_seed(3)
    loss_sum, weight, _ = model.training_loss(batch)
    torch.manual_seed(3)
    log_probs, encoded_len, masks, tokens = forward_of(model, batch)
    assert masks.shape == (2, 24, 20)
    loss = model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)
    torch.testing.assert_close(loss_sum / weight, loss, rtol=1e-6, atol=0.0)


def test_tokens_are_those_of_the_clean_signal_not_masked():
    model, batch = post_conv_model().eval(), noise_batch(24000, 18000)
    features, frames = model.preprocessor(input_signal=batch.audio, length=batch.audio_len)
    sub_sampled, _ = model.pre_encoder.pre_encode(features.transpose(1, 2), frames)
    expected = model.quantizer(input_signal=sub_sampled.transpose(1, 2))[1]
    assert torch.equal(forward_of(model, batch)[3], expected)


def test_sub_sampling_gets_no_gradient():
    model = post_conv_model()
    loss_sum, _, _ = model.training_loss(noise_batch(24000))
    loss_sum.backward()
    for name, parameter in model.named_parameters():
        in_front = name.startswith("encoder.pre_encode.")
        assert (parameter.grad is None) == (in_front or not parameter.requires_grad), name


def test_shared_tensors_have_all_of_nemos_names_and_count_once():
    model = post_conv_model()
    state = model.state_dict()
    names = ("mask_processor", "encoder.pre_encode.masking", "pre_encoder.masking")
    assert len({state[f"{name}.mask_embedding"].data_ptr() for name in names}) == 1
    names = ("encoder.pre_encode.pre_encode", "pre_encoder.pre_encode")
    assert len({state[f"{name}.out.weight"].data_ptr() for name in names}) == 1
    plain = EncDecDenoiseMaskedTokenPredModel(small_config())
    changed = (24 - 80) * 1 + (24 - 80 * 8) * 8  # the mask embedding; the quantiser's projection
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, plain)]
    assert counts[0] == counts[1] + changed


@pytest.mark.parametrize("times", [1, 3])
def test_saving_and_restoring_changes_nothing(times, tmp_path):
    model = post_conv_model().eval()
    restored = model
    for _ in range(times):
        restored.save_to(tmp_path / "model.nemo")
        restored = EncDecDenoiseMaskedTokenPredModel.restore_from(tmp_path / "model.nemo").eval()
    assert read_nemo(tmp_path / "model.nemo")[0]["masking"]["block_size"] == 24
    assert restored.mask_processor.block_size == 3
    batch = noise_batch(24000, 18000)
    results = []
    for each in (model, restored):
        torch.manual_seed(5)
        results.append(forward_of(each, batch)[0])
    assert torch.equal(*results)


def test_an_archive_with_the_section_that_nemo_edited_is_restored_right(tmp_path):
    model = post_conv_model()
    config = edited_by_nemo(OmegaConf.to_container(model.cfg))
    write_nemo(
        tmp_path / "nemo.nemo",
        config,
        portable_state(model),
        "nemo.collections.asr.models.ssl_models.EncDecDenoiseMaskedTokenPredModel",
    )
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(tmp_path / "nemo.nemo")
    assert restored.mask_processor.block_size == 3
    assert restored.cfg.masking.block_size == 24
    assert restored.cfg.masking.feat_in == restored.cfg.quantizer.feat_in == 80
    assert restored.cfg.loss.combine_time_steps == 8


def test_a_section_given_as_nemo_edits_it_is_not_taken_for_an_edited_one(tmp_path):
    given = ("model.masking.feat_in=24", "model.quantizer.feat_in=24", "model.loss.combine_time_steps=1")
    model = post_conv_model(EncDecDenoiseMaskedTokenPredModel, *given)
    assert model.mask_processor.block_size == 3
    model.save_to(tmp_path / "model.nemo")
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(tmp_path / "model.nemo")
    assert restored.mask_processor.block_size == 3
    assert restored.cfg.masking.block_size == 24
    # NeMo restores it and saves it again, edited; the mark goes along.
    config, state = read_nemo(tmp_path / "model.nemo")
    write_nemo(tmp_path / "again.nemo", edited_by_nemo(config), state, config["target"])
    assert (
        EncDecDenoiseMaskedTokenPredModel.restore_from(tmp_path / "again.nemo").mask_processor.block_size == 3
    )


def test_an_archive_of_nemo_is_restored_right(goldens):
    model = EncDecMaskedTokenPredModel.restore_from(goldens / "nemo" / "tiny_post_conv.nemo")
    assert model.mask_processor.block_size == 3
    assert model.cfg.masking.block_size == 24


def test_a_block_of_less_than_an_encoder_frame_is_refused():
    with pytest.raises(ValueError, match=r"model\.masking\.block_size: 7 frames are less than one"):
        post_conv_model(EncDecDenoiseMaskedTokenPredModel, "model.masking.block_size=7")


def test_quantizer_stacking_is_left_out():
    model = post_conv_model()
    assert model.cfg.quantizer.combine_time_steps == 8
    assert model.quantizer.combine_time_steps == 1
