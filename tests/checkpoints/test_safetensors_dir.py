"""A model as a directory of YAML and safetensors."""

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.checkpoints.safetensors_dir import read_model_directory, write_model_directory
from nest_ssl.checkpoints.state import load_state, portable_state
from tests.models.small import small_model


@pytest.fixture
def folder(tmp_path):
    model = small_model()
    write_model_directory(tmp_path / "model", model.cfg, portable_state(model))
    return tmp_path / "model"


def test_round_trip(folder):
    config, state = read_model_directory(folder)
    saved, restored = small_model(), small_model(seed=1)
    assert config == saved.cfg
    load_state(restored, state, str(folder))
    for key, tensor in saved.state_dict().items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(restored.state_dict()[key], tensor)


def test_directory_is_replaced_whole(folder):
    (folder / "stale").write_text("")
    write_model_directory(folder, {"a": 1}, {"w": torch.ones(1)})
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_shared_tensors_are_written_under_each_name(tmp_path):
    shared = torch.arange(3.0)
    write_model_directory(tmp_path / "m", {}, {"a": shared, "b": shared})
    _, state = read_model_directory(tmp_path / "m")
    assert torch.equal(state["a"], state["b"])


def test_damaged_weights_are_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_model_directory(folder)


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no model\.safetensors"):
        read_model_directory(folder)


def test_bad_configuration_is_named(folder):
    (folder / "config.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"config\.yaml is not readable"):
        read_model_directory(folder)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml([1]))
    with pytest.raises(ValueError, match="no mapping"):
        read_model_directory(folder)
