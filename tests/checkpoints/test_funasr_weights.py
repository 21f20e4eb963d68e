"""FunASR's weight files: every form they come in, and what is wrong with one that is none."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nest_ssl.checkpoints.funasr_weights import check_finite, is_hub_name, read_weights


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {"llm.w": torch.arange(6.0).reshape(2, 3), "ctc.ctc_lo.bias": torch.ones(4, dtype=torch.bfloat16)}


def same(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in expected.items()
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s},
        lambda s: {"model_state_dict": s},
        lambda s: {"model": s},
        lambda s: {"state_dict": {"model": s}},
        lambda s: {"state_dict": {f"module.{key}": value for key, value in s.items()}},
        lambda s: {"epoch": 1, "state_dict": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        lambda s: {"state_dict": s, "scheduler": Namespace(lr=1.0), "saved_ckpts": {"model.pt.ep1": 0.5}},
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "model.pt.ep1.200", "model.pt.best", "model.pt.avg10"])
def test_every_wrapping_and_name_is_read(tmp_path, state, wrap, name):
    torch.save(wrap(state), tmp_path / name)
    assert same(read_weights(tmp_path / name), state)


def test_safetensors_and_folders_of_them_are_read(tmp_path, state):
    save_file(state, tmp_path / "model.safetensors")
    assert same(read_weights(tmp_path / "model.safetensors"), state)
    assert same(read_weights(tmp_path), state)


def deepspeed(folder: Path, content: dict, name: str = "mp_rank_00_model_states.pt") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / name)


def test_a_deepspeed_folder_is_read_with_what_python_would_have_to_run_left_alone(tmp_path, state):
    content = {"module": state, "ds_config": Namespace(zero=1), "optimizer": None, "dp_world_size": 2}
    deepspeed(tmp_path / "model.pt", content)
    assert same(read_weights(tmp_path / "model.pt"), state)
    (tmp_path / "latest").write_text("model.pt\n")
    assert same(read_weights(tmp_path), state)


def test_deepspeed_parts_are_refused_with_the_way_to_gather_them(tmp_path, state):
    deepspeed(tmp_path / "a", {"module": state})
    deepspeed(tmp_path / "a", {"module": state}, "mp_rank_01_model_states.pt")
    with pytest.raises(ValueError, match=r"2 model-parallel parts.*zero_to_fp32"):
        read_weights(tmp_path / "a")
    deepspeed(tmp_path / "b", {"module": state}, "zero_pp_rank_0_mp_rank_00_model_states.pt")
    with pytest.raises(ValueError, match="ZeRO-3"):
        read_weights(tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"\n<html><body>404", "web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
        (b"PK\x03\x04 cut off", "damaged, or not made by torch.save"),
    ],
)
def test_what_a_failed_download_leaves_is_told_apart(tmp_path, content, message):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.pt.*{message}"):
        read_weights(tmp_path / "model.pt")


def test_a_file_cut_short_is_damaged(tmp_path, state):
    torch.save(state, tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [{"epoch": 1, "optimizer": {}}, {}, {"state_dict": {"a": 1.0}}])
def test_a_file_without_weights_says_what_it_has(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds no weights"):
        read_weights(tmp_path / "model.pt")


def test_a_tensor_with_and_without_module_is_refused(tmp_path):
    torch.save({"x": torch.ones(1), "module.x": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds x twice"):
        read_weights(tmp_path / "model.pt")


def test_nothing_there_and_a_folder_of_other_things(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"a folder without weights .*notes\.txt"):
        read_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="looks like a name on a hub, and nothing is downloaded"):
        read_weights("FunAudioLLM/Fun-ASR-Nano-2512")
    for name, is_one in (("Qwen/Qwen3-0.6B", True), ("exp/model.pt.ep1", False), ("./stage1/model", False)):
        assert is_hub_name(name) is is_one
    (tmp_path / "exp").mkdir()
    assert not is_hub_name(tmp_path / "exp")


def test_weights_of_a_diverged_run_are_named(state):
    check_finite(state, "model.pt")
    state["llm.w"][0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"model\.pt: 1 tensors have NaN.*first llm\.w"):
        check_finite(state, "model.pt")
