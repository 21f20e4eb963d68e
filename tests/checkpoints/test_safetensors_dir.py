"""Directories of safetensors: both ways, and training checkpoints."""

from __future__ import annotations

import json

import pytest
import torch

from nest_ssl.checkpoints.safetensors_dir import read_safetensors, read_safetensors_dir, write_safetensors_dir

CONFIG = {"sample_rate": 16000, "encoder": {"d_model": 24, "dropout": 1e-05}, "target": "a.b.C"}


def state():
    shared = torch.arange(12.0).reshape(3, 4)
    return {
        "pre_encoder.weight": shared,
        "encoder.weight": shared,
        "part": shared[:2],
        "transposed": shared.T,
        "quantizer.codebooks": torch.randn(2, 3, 4, dtype=torch.float64),
        "count": torch.tensor(7),
        "empty": torch.empty(0, 5),
    }


def test_what_is_written_is_read(tmp_path):
    folder = tmp_path / "export"
    write_safetensors_dir(folder, CONFIG, state(), {"README.md": b"text\n"})
    config, read, progress = read_safetensors_dir(folder)
    assert config == CONFIG
    assert progress == {}
    torch.manual_seed(0)
    for key, tensor in state().items():
        assert read[key].dtype == tensor.dtype
        assert read[key].shape == tensor.shape
    assert torch.equal(read["encoder.weight"], state()["encoder.weight"])
    assert torch.equal(read["pre_encoder.weight"], state()["encoder.weight"])
    assert torch.equal(read["transposed"], state()["transposed"])
    assert (folder / "README.md").read_text() == "text\n"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]


def test_a_training_checkpoint_gives_its_model_section_and_where_it_stands(tmp_path):
    write_safetensors_dir(tmp_path / "step-3", CONFIG, state())
    text = "name: x\nmodel:\n  sample_rate: 8000\n  encoder:\n    rate: ${model.sample_rate}\n    data: ???\n"
    (tmp_path / "step-3" / "config.yaml").write_text(text)
    facts = {"progress": {"step": 3, "metrics": {"val_loss": 4.5}}}
    (tmp_path / "step-3" / "state.json").write_text(json.dumps(facts))
    config, _, progress = read_safetensors_dir(tmp_path / "step-3")
    assert config == {"sample_rate": 8000, "encoder": {"rate": 8000, "data": "???"}}
    assert progress == {"step": 3, "metrics": {"val_loss": 4.5}}


def test_weights_alone_are_taken(tmp_path):
    write_safetensors_dir(tmp_path / "a", CONFIG, state())
    (tmp_path / "a" / "config.yaml").unlink()
    assert read_safetensors_dir(tmp_path / "a")[0] is None


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone has no model\.safetensors \(it has: nothing\)"):
        read_safetensors_dir(tmp_path / "gone")
    write_safetensors_dir(tmp_path / "a", CONFIG, state())
    (tmp_path / "a" / "state.json").write_text("[]")
    with pytest.raises(ValueError, match=r"state\.json is not readable"):
        read_safetensors_dir(tmp_path / "a")
    (tmp_path / "a" / "config.yaml").write_text("a: !!python/object/apply:os.getcwd []")
    with pytest.raises(ValueError, match=r"config\.yaml is not readable as YAML"):
        read_safetensors_dir(tmp_path / "a")
    content = (tmp_path / "a" / "model.safetensors").read_bytes()
    (tmp_path / "a" / "model.safetensors").write_bytes(content[:200])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_safetensors(tmp_path / "a" / "model.safetensors")


def test_an_interpolation_that_leads_nowhere_is_named(tmp_path):
    write_safetensors_dir(tmp_path / "a", CONFIG, state())
    (tmp_path / "a" / "config.yaml").write_text("encoder: {rate: '${sample_rat}'}")
    with pytest.raises(ValueError, match=r"config\.yaml: .*sample_rat"):
        read_safetensors_dir(tmp_path / "a")
