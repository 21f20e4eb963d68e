"""init_model: a new model directory from a YAML, with a NEST encoder in it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.bin import init_model, init_model_run
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.recipes.asterisk_archives import ROOT

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytest.importorskip("tiktoken")

YAML = ROOT / "egs" / "asterisk" / "conf" / "model.yaml"
SMALL = [
    *("init.llm.hidden_size=16", "init.llm.num_hidden_layers=1", "init.llm.intermediate_size=16"),
    *("init.llm.head_dim=8", "audio_adaptor_conf.ffn_dim=16", "ctc_decoder_conf.ffn_dim=16"),
]
TINY = [
    *SMALL,
    *("audio_encoder_conf.d_model=16", "audio_encoder_conf.n_layers=1", "audio_encoder_conf.n_heads=2"),
    "audio_encoder_conf.subsampling_conv_channels=4",
]


def make(out: Path, *words: str, config: Path = YAML) -> None:
    assert init_model.main(["--config", str(config), "--out", str(out), *words]) == 0


def load(folder: Path):
    from nest_ssl.models.fun_asr_nano import FunASRNano

    return FunASRNano.from_pretrained(folder)


@pytest.fixture(scope="module")
def nest(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A NEST model file with random weights, and its state."""
    settings = OmegaConf.load(ROOT / "conf" / "nest_fast-conformer.yaml").model
    settings.encoder.update(
        d_model=16, n_layers=1, n_heads=2, subsampling_factor=4, subsampling_conv_channels=4
    )
    settings.num_classes = 16
    torch.manual_seed(5)
    model = EncDecDenoiseMaskedTokenPredModel(cfg=copy.deepcopy(settings))
    path = tmp_path_factory.mktemp("nest") / "model.nemo"
    model.save_to(path)
    return path, model.state_dict()


def test_the_directory_is_complete_and_loads(tmp_path):
    make(tmp_path / "m", *TINY)
    for name in ("config.yaml", "configuration.json", "model.pt", "multilingual.tiktoken"):
        assert (tmp_path / "m" / name).is_file()
    assert {p.name for p in (tmp_path / "m" / "Qwen3-0.6B").iterdir()} >= {"config.json", "tokenizer.json"}
    model = load(tmp_path / "m")
    assert model.frame_s == pytest.approx(0.04)
    assert model.blank_id == 256 + 1679
    assert model.llm.config.vocab_size == model.tokenizer.vocab_size
    assert model.llm.config.eos_token_id == model.tokenizer.encode("<|im_end|>")[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert "init" not in model.config


def test_the_seed_decides_the_weights(tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        make(tmp_path / name, "--seed", seed, *TINY)
    a, b, c = (load(tmp_path / name).state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_a_nest_encoder_comes_with_its_weights_and_settings(tmp_path, nest):
    path, state = nest
    make(tmp_path / "m", "--encoder-from", str(path), *SMALL)
    model = load(tmp_path / "m")
    assert model.config["audio_encoder_conf"]["d_model"] == 16
    loaded = model.audio_encoder.state_dict()
    assert len(loaded) == sum(key.startswith("encoder.") for key in state)
    assert all(torch.equal(value, state["encoder." + key]) for key, value in loaded.items())
    assert str(path) in model.config["nest_ssl"]["base"]


def test_the_ctc_head_expects_the_units_of_the_texts(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "Ab, ba!"}\n{"text": null}\n', encoding="utf-8")
    make(tmp_path / "m", "--texts", str(tmp_path / "texts.jsonl"), *TINY)
    model = load(tmp_path / "m")
    bias = model.ctc.ctc_lo.bias
    assert [i for i, value in enumerate(bias.tolist()) if value == 0.0] == sorted([*b" ab", model.blank_id])
    assert bias.min() == bias[ord("A")] == init_model_run.UNHEARD


def test_sanm_has_frames_of_40_ms_too(tmp_path):
    make(tmp_path / "m", "--encoder", "sanm", *SMALL)
    model = load(tmp_path / "m")
    assert type(model.audio_encoder).__name__ == "SenseVoiceEncoderSmall"
    assert model.frame_s == pytest.approx(0.04)


def test_a_nest_encoder_is_refused_for_sanm(tmp_path, nest):
    with pytest.raises(ValueError, match="ConformerEncoder"):
        make(tmp_path / "m", "--encoder", "sanm", "--encoder-from", str(nest[0]))
    assert not (tmp_path / "m").exists()


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="conformer, sanm"):
        make(tmp_path / "m", "--encoder", "whisper")
    with pytest.raises(ValueError, match=r"init\.llms.*llm"):
        make(tmp_path / "m", "+init.llms=1")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        make(tmp_path / "m", config=tmp_path / "none.yaml")
    (tmp_path / "m").mkdir()
    with pytest.raises(ValueError, match="exists"):
        make(tmp_path / "m")
