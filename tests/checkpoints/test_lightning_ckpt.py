"""Lightning checkpoints: NeMo's own one, our round trip, and files that must not be trusted."""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import zipfile

import pytest
import torch

from nest_ssl.checkpoints.lightning_ckpt import read_lightning, write_lightning

WEIGHT = torch.arange(6.0).reshape(2, 3)


@pytest.fixture
def nemos(goldens):
    return goldens / "nemo" / "tiny_lightning_last.ckpt"


def saved(path, content):
    torch.save(content, path)
    return path


def rewritten(path, change):
    """The zip file again, with (name, content) of each record as `change` gives them (None: left out)."""
    with zipfile.ZipFile(path) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            for changed in change(name, content):
                archive.writestr(*changed)
    return path


def test_nemos_checkpoint_is_read_in_full(nemos):
    checkpoint = read_lightning(nemos)
    trusted = torch.load(nemos, weights_only=False)  # our own fixture: what python's unpickler makes of it
    assert list(checkpoint.state) == list(trusted["state_dict"])
    for key, tensor in trusted["state_dict"].items():
        assert checkpoint.state[key].dtype == tensor.dtype
        assert torch.equal(checkpoint.state[key], tensor), key
    assert checkpoint.config == trusted["hyper_parameters"]["cfg"]
    assert (checkpoint.global_step, checkpoint.epoch, checkpoint.lightning_version) == (8, 2, "2.4.0")


def test_the_optimizers_state_is_told(nemos):
    (optimizer,) = read_lightning(nemos).optimizers
    assert optimizer["parameters_with_state"] == 51  # of 54: three are frozen
    assert optimizer["state"] == {"step": 51, "exp_avg": 51, "exp_avg_sq": 51}
    (group,) = optimizer["groups"]
    assert (group["parameters"], group["betas"], group["weight_decay"]) == (54, [0.9, 0.98], 0.001)


def test_what_is_written_is_read_by_torch_without_code(tmp_path):
    path = tmp_path / "a.ckpt"
    state = {"w": WEIGHT, "codebooks": WEIGHT.double()}
    write_lightning(path, {"encoder": {"d_model": 3}, "list": [1, None]}, state, global_step=7, epoch=1)
    assert torch.load(path, weights_only=True)["state_dict"].keys() == state.keys()
    checkpoint = read_lightning(path)
    assert checkpoint.config == {"encoder": {"d_model": 3}, "list": [1, None]}
    assert (checkpoint.global_step, checkpoint.epoch) == (7, 1)
    assert all(torch.equal(checkpoint.state[key], value) for key, value in state.items())
    assert checkpoint.state["codebooks"].dtype == torch.float64


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
)
def test_every_dtype_and_layout_comes_back(tmp_path, dtype):
    base = torch.arange(24).reshape(4, 6).to(dtype)
    state = {
        "plain": base,
        "transposed": base.T,
        "part": base[1:3, ::2],
        "scalar": base[2, 2],
        "none": base[:0],
    }
    read = read_lightning(saved(tmp_path / "a.ckpt", {"state_dict": state})).state
    for key, tensor in state.items():
        assert read[key].dtype == dtype
        assert torch.equal(read[key], tensor), key


def test_a_bare_state_dict_is_taken(tmp_path):
    checkpoint = read_lightning(saved(tmp_path / "a.pt", {"w": torch.nn.Parameter(WEIGHT)}))
    assert torch.equal(checkpoint.state["w"], WEIGHT)
    assert checkpoint.config is None


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (tempfile.mkdtemp, ("ran", None, self.path))


def test_code_beside_the_weights_is_not_run(tmp_path):
    content = {
        "state_dict": {"w": WEIGHT},
        "callbacks": {"x": Code(str(tmp_path))},
        "hyper_parameters": {"cfg": {"a": Code(str(tmp_path)), "b": argparse.Namespace(c=1)}},
    }
    checkpoint = read_lightning(saved(tmp_path / "a.ckpt", content))
    assert torch.equal(checkpoint.state["w"], WEIGHT)
    assert checkpoint.config == {"a": "<tempfile.mkdtemp>", "b": "<argparse.Namespace>"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_code_among_the_weights_is_refused(tmp_path):
    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": WEIGHT, "x": Code(str(tmp_path))}})
    with pytest.raises(ValueError, match=r"a\.ckpt: state_dict\['x'\] is .*mkdtemp, not a tensor"):
        read_lightning(path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_file_made_to_harm_is_refused_wherever_its_code_lies(tmp_path):
    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": WEIGHT}, "callbacks": {"x": Harm()}})
    with pytest.raises(ValueError, match=r"a\.ckpt.* it would have \S+mkdir called"):
        read_lightning(path)
    assert not (tmp_path / "ran").exists()


def test_lists_that_hold_one_another_do_not_fill_the_memory(tmp_path):
    node = ["x"] * 10
    for _ in range(40):
        node = [node] * 10
    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": WEIGHT}, "hyper_parameters": {"cfg": {"a": node}}})
    with pytest.raises(ValueError, match=r"a\.ckpt: hyper_parameters: nested more than"):
        read_lightning(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named(tmp_path, share):
    path = saved(tmp_path / "cut.ckpt", {"state_dict": {"w": WEIGHT}})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"cut\.ckpt is damaged"):
        read_lightning(path)


def test_changed_weights_are_noticed(tmp_path):
    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": torch.ones(1000)}})
    content = path.read_bytes()
    number = torch.ones(20).numpy().tobytes()
    assert number in content
    path.write_bytes(content.replace(number, bytes(80), 1))
    with pytest.raises(ValueError, match=r"a\.ckpt is damaged.*CRC"):
        read_lightning(path)


def test_duplicate_and_packed_records_are_refused(tmp_path):
    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": WEIGHT}})
    original = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"N.")
    with pytest.raises(ValueError, match=r"data\.pkl is there twice"):
        read_lightning(path)
    path.write_bytes(original)
    rewritten(path, lambda name, content: [(name, content, zipfile.ZIP_DEFLATED)])
    with pytest.raises(ValueError, match=r"packed, which torch\.save never does"):
        read_lightning(path)


def test_a_storage_that_is_shorter_than_it_says_is_refused(tmp_path):
    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": WEIGHT}})
    rewritten(path, lambda name, content: [(name, content[:-4] if "/data/" in name else content)])
    with pytest.raises(ValueError, match="has 20 bytes, not 6 elements"):
        read_lightning(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (2, 4), (4, 1)), "beyond its storage"),
        ((-1, (2,), (1,)), "beyond its storage"),
        ((0, (2,), (-1,)), "strides"),
        ((0, (2, 2), (1,)), "argument"),
        ((0, ("x",), (1,)), "without storage, shape and strides"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, arguments, message):
    class Forged:
        def __reduce__(self):
            return (torch._utils._rebuild_tensor_v2, (STORAGE, *arguments, False, {}))

    storage = WEIGHT.flatten().untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    STORAGE = typed
    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": Forged()}})
    with pytest.raises(ValueError, match=rf"a\.ckpt.*{message}"):
        read_lightning(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds no dict"), ({"state_dict": 3}, "state_dict is no dict"), ({}, "state_dict is no dict")],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_lightning(saved(tmp_path / "a.ckpt", content))


def test_another_format_is_refused(tmp_path):
    (tmp_path / "old.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(ValueError, match=r"old\.ckpt is damaged, or not made by torch\.save"):
        read_lightning(tmp_path / "old.ckpt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a/b.txt", "text")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        read_lightning(tmp_path / "other.zip")
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        read_lightning(tmp_path / "none.ckpt")


def test_numbers_stored_the_other_way_round_are_refused(tmp_path):
    path = saved(tmp_path / "a.ckpt", {"state_dict": {"w": WEIGHT}})
    rewritten(path, lambda name, content: [(name, b"big" if name.endswith("byteorder") else content)])
    with pytest.raises(ValueError, match="big-endian"):
        read_lightning(path)
