"""Model directories that are written: complete, movable, readable without us, never over something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from nest_ssl.checkpoints.funasr_dir import read_model_dir, read_weights
from nest_ssl.checkpoints.funasr_writer import write_model_dir
from tests.fun_asr_tiny import make_model_dir


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_model_dir(tmp_path / "base")


def written(base: Path, out: Path, dtype: str = "kept", **changed) -> Path:
    found = read_model_dir(base)
    state = {**read_weights(found.weights_path), **changed}
    return write_model_dir(out, found.config, state, found.files, dtype)


def test_a_written_directory_is_whole_and_can_be_moved(base, tmp_path):
    out = written(base, tmp_path / "exp" / "model")
    moved = shutil.move(out, tmp_path / "elsewhere")
    shutil.rmtree(base)
    found = read_model_dir(moved)
    assert found.weights_path == Path(moved) / "model.pt"
    assert {path.parent for path in found.files.values()} == {Path(moved)}
    assert sorted(path.name for path in Path(moved).iterdir()) == [
        *("Qwen3-0.6B", "config.yaml", "configuration.json", "model.pt", "multilingual.tiktoken")
    ]
    assert str(tmp_path) not in (Path(moved) / "config.yaml").read_text()


def test_weights_and_configuration_survive(base, tmp_path):
    first, second = read_model_dir(base), read_model_dir(written(base, tmp_path / "out"))
    before, after = read_weights(first.weights_path), read_weights(second.weights_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    changed = {"init_param", "llm_conf", "tokenizer_conf", "dataset_conf", "train_conf", "output_dir"}
    changed |= {"config", "train_data_set_list", "valid_data_set_list"}
    assert {k: v for k, v in first.config.items() if k not in changed} == {
        k: v for k, v in second.config.items() if k not in changed
    }
    assert second.config["llm_conf"]["lora_conf"] == first.config["llm_conf"]["lora_conf"]


def test_it_is_read_without_configuration_json_too(base, tmp_path):
    out = written(base, tmp_path / "out")
    (out / "configuration.json").unlink()
    assert read_model_dir(out).weights_path == out / "model.pt"


def test_the_next_training_keeps_the_language_model(base, tmp_path):
    assert read_model_dir(base).config["train_conf"]["effective_save_name_excludes"] == ["llm."]
    config = yaml.safe_load((written(base, tmp_path / "out") / "config.yaml").read_text())
    assert config["train_conf"]["effective_save_name_excludes"] == "None"  # FunASR's word for none
    assert "init_param" not in config


def test_a_cmvn_file_comes_along(base, tmp_path):
    (tmp_path / "stats.mvn").write_text("<Nnet>")
    found = read_model_dir(base, {"frontend_conf.cmvn_file": str(tmp_path / "stats.mvn")})
    out = write_model_dir(tmp_path / "out", found.config, read_weights(found.weights_path), found.files)
    assert read_model_dir(out).config["frontend_conf"]["cmvn_file"] == str(out / "am.mvn")
    metas = json.loads((out / "configuration.json").read_text())["file_path_metas"]
    assert metas["frontend_conf"] == {"cmvn_file": "am.mvn"}


def test_weights_of_a_language_model_folder_stay_behind(base, tmp_path):
    (base / "Qwen3-0.6B" / "model.safetensors").write_bytes(b"large")
    out = written(base, tmp_path / "out")
    assert not (out / "Qwen3-0.6B" / "model.safetensors").exists()
    assert (out / "Qwen3-0.6B" / "tokenizer.json").is_file()


def test_upstream_dtypes_are_bf16_with_ctc_statistics_and_adapters_in_fp32(tmp_path):
    base = make_model_dir(tmp_path / "base", encoder="conformer")
    lora = {"llm.model.layers.0.self_attn.q_proj.lora_A": torch.ones(4, 32)}
    out = written(base, tmp_path / "out", "upstream", **lora)
    state = read_weights(out / "model.pt")
    fine = ("ctc.", "ctc_decoder.")
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            assert value.dtype == torch.int64
        elif key.startswith(fine) or "running_" in key or key.endswith("lora_A"):
            assert value.dtype == torch.float32, key
        else:
            assert value.dtype == torch.bfloat16, key
    back = read_weights(written(out, tmp_path / "again", "fp32") / "model.pt")
    assert {v.dtype for k, v in back.items() if "num_batches" not in k} == {torch.float32}


def test_a_state_without_the_language_model_is_refused(base, tmp_path):
    found = read_model_dir(base)
    state = {k: v for k, v in read_weights(found.weights_path).items() if not k.startswith("llm.")}
    with pytest.raises(ValueError, match="random language model"):
        write_model_dir(tmp_path / "out", found.config, state, found.files)
    assert not (tmp_path / "out").exists()


def test_the_tied_head_is_always_stored(base, tmp_path):
    found = read_model_dir(base)
    state = read_weights(found.weights_path)
    head = state.pop("llm.lm_head.weight")
    out = write_model_dir(tmp_path / "out", found.config, state, found.files)
    assert torch.equal(read_weights(out / "model.pt")["llm.lm_head.weight"], head)


def test_only_a_model_directory_is_replaced(base, tmp_path):
    out = written(base, tmp_path / "out")
    (out / "model.pt.ep1").write_bytes(b"old")
    written(base, out)
    assert not (out / "model.pt.ep1").exists()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.wav").write_bytes(b"x")
    with pytest.raises(ValueError, match="is no model directory, so it is not replaced"):
        written(base, tmp_path / "data")
    with pytest.raises(ValueError, match="the model directory that is being read"):
        written(base, base)
    with pytest.raises(ValueError, match="is a file"):
        written(base, tmp_path / "data" / "precious.wav")
    with pytest.raises(ValueError, match="dtype 'fp8' is not one of kept, fp32, upstream"):
        written(base, tmp_path / "new", "fp8")


@pytest.mark.parametrize("kind", [OSError, RuntimeError])  # torch raises either, by where the disk is full
def test_a_write_that_fails_leaves_nothing(base, tmp_path, monkeypatch, kind):
    def full(*_):
        raise kind("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        written(base, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]
