"""The export verb: every form there and back, and what is said of bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.bin import export, export_run
from nest_ssl.checkpoints.encoder_only import encoder_only
from nest_ssl.checkpoints.nemo_archive import read_artifacts, read_nemo, write_nemo
from nest_ssl.checkpoints.source import Source, read_source
from nest_ssl.config import load_config
from nest_ssl.models.ctc_models import EncDecCTCModelBPE
from nest_ssl.models.registry import model_class
from nest_ssl.models.self_supervised_model import SpeechEncDecSelfSupervisedModel
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.models.ctc_small import small_model as small_ctc_model
from tests.models.small import CONFIG, SMALL, small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "final.nemo"
    small_model(seed=3).save_to(path)
    return path


def run(*words) -> None:
    assert export.main([str(word) for word in words]) == 0


def same(first: dict, second: dict) -> bool:
    """Equal keys, in whatever order, and tensors."""
    return set(first) == set(second) and all(
        torch.equal(value, second[key]) and value.dtype == second[key].dtype for key, value in first.items()
    )


@pytest.mark.parametrize(("kind", "name"), [("nemo", "a.nemo"), ("ckpt", "a.ckpt"), ("safetensors", "a")])
def test_the_whole_model_goes_there_and_back(model, tmp_path, kind, name):
    run("--to", kind, model, tmp_path / "there" / name)
    run("--to", "nemo", tmp_path / "there" / name, tmp_path / "back" / "b.nemo")
    config, state = read_nemo(model)
    config_again, state_again = read_nemo(tmp_path / "back" / "b.nemo")
    assert config_again == config
    assert same(state, state_again)
    assert isinstance(
        EncDecDenoiseMaskedTokenPredModel.restore_from(tmp_path / "back" / "b.nemo"),
        EncDecDenoiseMaskedTokenPredModel,
    )


@pytest.mark.parametrize("name", ["tiny_denoise.nemo", "tiny_post_conv.nemo", "tiny_lightning_last.ckpt"])
def test_nemos_own_files_are_converted(goldens, tmp_path, name):
    path = goldens / "nemo" / name
    run("--to", "safetensors", path, tmp_path / "a")
    before, after = read_source(path), read_source(tmp_path / "a")
    assert after.target == before.target
    assert same(before.state, after.state)
    run("--to", "nemo", tmp_path / "a", tmp_path / "b.nemo")
    assert model_class(before.target).restore_from(tmp_path / "b.nemo")


@pytest.mark.parametrize("name", ["encoder.nemo", "encoder.ckpt", "encoder"])
def test_the_encoder_alone_has_downstream_names(model, tmp_path, name):
    run("--to", "encoder", model, tmp_path / name)
    state = read_nemo(model)[1]
    kept = read_source(tmp_path / name).state
    assert {key.split(".")[0] for key in kept} == {"preprocessor", "encoder"}
    assert all(torch.equal(state[key], value) for key, value in kept.items())
    assert len(kept) == sum(key.startswith(("preprocessor.", "encoder.")) for key in state)


def test_the_encoder_archive_is_a_model_that_is_restored_whole(model, tmp_path):
    run("--to", "encoder", model, tmp_path / "encoder.nemo")
    restored = SpeechEncDecSelfSupervisedModel.restore_from(tmp_path / "encoder.nemo")
    assert set(restored.state_dict()) == set(read_nemo(tmp_path / "encoder.nemo")[1])


def test_the_encoder_of_a_post_conv_model_has_plain_names(goldens):
    source = read_source(goldens / "nemo" / "tiny_post_conv.nemo")
    _, kept = encoder_only(source.config, source.state)
    assert not [key for key in kept if "pre_encode.pre_encode" in key or "mask" in key]
    plain, wrapped = "encoder.pre_encode.out.bias", "encoder.pre_encode.pre_encode.out.bias"
    assert torch.equal(kept[plain], source.state[wrapped])


def test_a_tokenizer_stays_in_the_archive(model, tmp_path):
    config, state = read_nemo(model)
    write_nemo(tmp_path / "a.nemo", config, state, config["target"], {"0_tokenizer.model": b"pieces"})
    run("--to", "nemo", tmp_path / "a.nemo", tmp_path / "b.nemo")
    assert read_artifacts(tmp_path / "b.nemo") == {"0_tokenizer.model": b"pieces"}


def test_bare_weights_take_a_configuration(model, tmp_path):
    run("--to", "safetensors", model, tmp_path / "a")
    bare = tmp_path / "a" / "model.safetensors"
    with pytest.raises(ValueError, match=r"holds weights without a configuration; give --config"):
        export.main(["--to", "nemo", str(bare), str(tmp_path / "b.nemo")])
    run("--to", "nemo", bare, tmp_path / "b.nemo", "--config", tmp_path / "a" / "config.yaml")
    assert same(read_nemo(model)[1], read_nemo(tmp_path / "b.nemo")[1])


def test_a_card_lies_beside_every_export(model, tmp_path):
    run("--to", "safetensors", model, tmp_path / "a", "--license", "apache-2.0")
    run("--to", "nemo", model, tmp_path / "b.nemo")
    assert "| licence | apache-2.0 |" in (tmp_path / "a" / "README.md").read_text()
    text = (tmp_path / "README.md").read_text()
    assert "| file | `b.nemo` (nemo) |" in text
    assert "| training data | not recorded |" in text


def test_what_is_there_is_replaced_only_when_asked(model, tmp_path):
    run("--to", "nemo", model, tmp_path / "a.nemo")
    with pytest.raises(ValueError, match=r"a\.nemo exists; give --overwrite"):
        export.main(["--to", "nemo", str(model), str(tmp_path / "a.nemo")])
    run("--to", "nemo", model, tmp_path / "a.nemo", "--overwrite")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("onnx", "a.bin", r"ends in \.onnx"),
        ("encoder", "a.onnx", r"--to encoder writes \.nemo, \.ckpt or a directory, not \.onnx"),
        ("safetensors", "a.safetensors", "writes a directory"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(model, tmp_path, kind, name, message):
    with pytest.raises(ValueError, match=message):
        export.main(["--to", kind, str(model), str(tmp_path / name)])
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_their_configuration_are_refused(model, tmp_path):
    config, state = read_nemo(model)
    state.pop("decoder.decoder_layers.0.bias")
    write_nemo(tmp_path / "a.nemo", config, state, config["target"])
    with pytest.raises(ValueError, match=r"1 missing: decoder\.decoder_layers\.0\.bias"):
        export.main(["--to", "safetensors", str(tmp_path / "a.nemo"), str(tmp_path / "b")])
    assert not (tmp_path / "b").exists()


def test_a_yaml_of_training_serves_as_configuration(model, tmp_path):
    run("--to", "safetensors", model, tmp_path / "a")
    (tmp_path / "whole.yaml").write_text(OmegaConf.to_yaml(load_config(CONFIG, SMALL)))
    bare = tmp_path / "a" / "model.safetensors"
    run("--to", "nemo", bare, tmp_path / "b.nemo", "--config", tmp_path / "whole.yaml")
    assert EncDecDenoiseMaskedTokenPredModel.restore_from(tmp_path / "b.nemo").cfg.encoder.d_model == 24


def test_a_ctc_model_keeps_its_tokenizer(tmp_path):
    original = small_ctc_model()
    original.save_to(tmp_path / "ctc.nemo")
    run("--to", "safetensors", tmp_path / "ctc.nemo", tmp_path / "a")
    run("--to", "nemo", tmp_path / "a", tmp_path / "b.nemo")
    restored = EncDecCTCModelBPE.restore_from(tmp_path / "b.nemo")
    assert restored.tokenizer.encode("hello") == original.tokenizer.encode("hello")
    assert same(restored.state_dict(), original.state_dict())
    assert "automatic-speech-recognition, CTC" in (tmp_path / "README.md").read_text()
    for file in (tmp_path / "a").glob("*_tokenizer.model"):
        file.unlink()
    with pytest.raises(ValueError, match=r"a lacks the tokenizer's files \w+_tokenizer\.model"):
        export.main(["--to", "nemo", str(tmp_path / "a"), str(tmp_path / "c.nemo")])
    assert not (tmp_path / "c.nemo").exists()


def test_a_configuration_of_training_tells_its_class(tmp_path):
    section = dict(small_ctc_model().cfg)
    source = Source(tmp_path, "training checkpoint", {**section, "target": None}, {})
    assert export_run.with_target(source).target.endswith(".EncDecCTCModelBPE")
    with pytest.raises(ValueError, match=r"final\.nemo or best\.nemo"):
        export_run.complete_artifacts(source, {"tokenizer": {"dir": "exp/tokenizer"}})
    contrastive = Source(tmp_path, "training checkpoint", {"loss_list": {}, "encoder": {}}, {})
    assert export_run.with_target(contrastive).target.endswith(".SpeechEncDecSelfSupervisedModel")


@pytest.mark.slow
def test_onnx_of_a_model_is_compared_and_described(model, tmp_path, caplog):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    with caplog.at_level("INFO"):
        run("--to", "onnx", model, tmp_path / "encoder.onnx")
    assert "onnxruntime and torch differ by at most" in caplog.text
    facts = {prop.key for prop in onnx.load(tmp_path / "encoder.onnx").metadata_props}
    assert facts >= {"sample_rate", "preprocessor", "encoder"}
    assert (tmp_path / "README.md").is_file()
