"""`model.parity`: each key's effect, and that the default has none."""

import dataclasses
import random

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.bin.pretrain_run import batch_augmentor, data
from nest_ssl.models.parity import PRESETS, VALUES, Parity
from nest_ssl.modules.masked_batch_norm import ValidFramesBatchNorm1d
from nest_ssl.training.distributed import Ranks
from tests.models.small import noise_batch, small_model

AUGMENTOR = {
    "_target_": "nemo.collections.asr.modules.ssl_modules.MultiSpeakerNoiseAugmentation",
    "prob": 0.0,
}


def loss_of(model, batch):
    torch.manual_seed(3)
    loss_sum, weight, _ = model.training_loss(batch)
    return loss_sum / weight


def test_defaults_are_written_out_in_the_class():
    assert Parity.from_config(None) == Parity.from_config({}) == Parity()
    assert [field.name for field in dataclasses.fields(Parity)] == list(VALUES)


def test_presets():
    assert Parity.from_config("nemo") == Parity(
        "added", "noise", "in_place", "padded", True, "nemo2", "zeros"
    )
    assert Parity.from_config("nemo3") == Parity(
        "added", "noise", "in_place", "padded", True, "nemo3", "zeros"
    )
    assert Parity.from_config("fixed") == Parity("dropped", "audio", "copy", "valid", False, "nemo2", "error")
    assert Parity.from_config({"dither": "copy"}) == dataclasses.replace(Parity(), dither="copy")


@pytest.mark.parametrize("value", ["nemo1", 3, {"quantizer_autocast": "yes"}, {"quantizer_autocast": 1}])
def test_unknown_values_are_refused(value):
    with pytest.raises(ValueError, match=r"model\.parity"):
        Parity.from_config(value)


@pytest.mark.parametrize("preset", [None, "nemo"])
def test_float32_training_without_augmentor_is_nemos_by_default(preset):
    model = small_model() if preset is None else small_model(f"+model.parity={preset}")
    expected = loss_of(small_model("model.preprocessor.dither=1e-5"), noise_batch(24000, 18000))
    assert torch.equal(loss_of(model, noise_batch(24000, 18000)), expected)


def test_dither_on_a_copy_leaves_the_waveforms_alone():
    batch = noise_batch(24000, 18000)
    before = batch.audio.clone()
    in_place, copied = small_model(), small_model("+model.parity.dither=copy")
    loss = loss_of(copied, batch)
    assert torch.equal(batch.audio, before)
    assert torch.equal(loss_of(in_place, batch), loss)
    assert not torch.equal(batch.audio, before)


def test_batch_norm_over_valid_frames_does_not_see_padding():
    means = []
    for kind in ("valid", "padded"):
        for padding in (0, 16000):
            model = small_model(f"+model.parity.batch_norm={kind}", "model.preprocessor.dither=0").train()
            features = torch.randn(2, 80, 64, generator=torch.Generator().manual_seed(0))
            padded = torch.nn.functional.pad(features, (0, padding // 250))
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            encoded, _ = model.encoder(audio_signal=padded, length=torch.tensor([64, 64]))
            norm = model.encoder.layers[0].conv.batch_norm
            assert isinstance(norm, ValidFramesBatchNorm1d) == (kind == "valid")
            means.append((norm.running_mean.clone(), encoded[..., :8]))
    for same, other in zip(means[0], means[1], strict=True):
        torch.testing.assert_close(same, other, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(means[2][0], means[3][0], rtol=1e-4, atol=1e-5)


def test_state_dict_does_not_depend_on_parity():
    models = [small_model(), small_model("+model.parity=fixed"), small_model("+model.parity=nemo3")]
    states = [model.state_dict() for model in models]
    assert all(list(state) == list(states[0]) for state in states)
    assert all(torch.equal(state[key], states[0][key]) for state in states for key in state)


def test_quantizer_follows_autocast_if_asked():
    features = torch.randn(2, 80, 800)
    tokens = {}
    for value in ("true", "false"):
        model = small_model(f"+model.parity.quantizer_autocast={value}", "model.num_classes=512")
        expected = model.quantizer.tokens(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tokens[value] = model.quantizer.tokens(features)
        assert torch.equal(model.quantizer.tokens(features), expected)
    assert torch.equal(tokens["false"], expected)
    share = (tokens["true"] != expected).float().mean()
    assert 0 < share < 0.1


def test_masking_is_that_of_nemo_3_if_asked():
    short = torch.tensor([30])  # less than a block of 40: masked at its start by NeMo 2 only
    for name, masked in (("nemo2", 8), ("nemo3", 0)):
        model = small_model(f"+model.parity.masking={name}", "model.masking.block_size=40")
        _, mask = model.mask_processor(input_feats=torch.zeros(1, 80, 32), input_lengths=short)
        assert mask[0, 0].sum() == masked


@pytest.mark.parametrize(("preset", "length", "kept"), [("nemo", 1000, True), ("fixed", 4000, False)])
def test_augmentor_is_told(preset, length, kept):
    parity = Parity.from_config(preset)
    augmentor = batch_augmentor(AUGMENTOR, parity, "model.train_ds.batch_augmentor")
    batch = noise_batch(4000)
    batch.noise_len = torch.tensor([1000])
    augmentor(batch, random.Random(0))
    assert batch.noisy_audio_len.tolist() == [length]
    assert bool(batch.noise.any()) == kept


@pytest.mark.parametrize(
    ("parity", "own", "zeros"), [(None, None, False), ("nemo", None, True), ("nemo", "error", False)]
)
def test_noise_that_cannot_be_read_is_zeros_for_nemos_numbers(tmp_path, parity, own, zeros):
    manifest = tmp_path / "train.jsonl"
    manifest.write_text('{"audio_filepath": "a.wav", "duration": 2.0}\n')
    section = {"manifest_filepath": str(manifest), "noise_manifest": str(manifest), "batch_size": 1}
    section |= {"sample_rate": 16000} | ({"noise_failure": own} if own else {})
    ranks = Ranks(0, 0, 1, torch.device("cpu"))
    loader = data(OmegaConf.create({"train_ds": section, "parity": parity}), "train_ds", 0, ranks)
    assert loader.dataset.noise.zeros_at_last == zeros


def test_the_section_is_saved_with_the_model(tmp_path):
    model = small_model("+model.parity.masking=nemo3")
    model.save_to(tmp_path / "model.nemo")
    restored = type(model).restore_from(tmp_path / "model.nemo")
    assert restored.parity == model.parity
    assert OmegaConf.to_container(restored.cfg.parity) == {"masking": "nemo3"}


def test_every_key_is_in_a_preset():
    assert set(PRESETS["nemo"]) == set(VALUES)
    assert set(PRESETS["fixed"]) == set(VALUES) - {"masking"}


@pytest.mark.parametrize("key", ["masking.sampler", "quantizer.autocast", "preprocessor.dither_in_place"])
def test_a_section_may_not_decide_what_parity_decides(key):
    with pytest.raises(ValueError, match=rf"model\.{key} .* model\.parity decides"):
        small_model(f"+model.{key}=nemo3")
