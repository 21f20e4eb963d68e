"""Checkpoints told apart by content: what is none says so."""

import pytest
import torch

from nest_ssl.checkpoints.source import read_source


@pytest.mark.parametrize("content", [b"", b"hello", bytes(2000)], ids=["empty", "text", "zeros"])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "model.nemo"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.nemo \({len(content)} bytes\) is no checkpoint"):
        read_source(path)


def test_the_old_format_of_torch_save_gets_its_way_out(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"old\.ckpt .* must be loaded and saved again"):
        read_source(tmp_path / "old.ckpt")
