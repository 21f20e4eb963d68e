"""Weights as FunASR keeps them: model.pt and its relatives, DeepSpeed folders, safetensors.

Nothing pickled is run, and of a trainer's checkpoint only the weights are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # paths are checked before torch is loaded
    from torch import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # the last is DeepSpeed's
DEEPSPEED = "mp_rank_00_model_states.pt"
SAFETENSORS = "model.safetensors"
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name, as of ModelScope and Hugging Face
POINTER = b"version https://git-lfs"


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The weights in a file or folder by name, on the CPU, in the dtypes that are stored.

    Takes model.pt, model.pt.ep1, model.pt.best, model.pt.avgN (flat, or under FunASR's wrapping keys),
    .safetensors, a folder with model.safetensors, and DeepSpeed's folder of one model-parallel rank (or of
    several tags, `latest` naming one).  `module.` is taken off the names, once.  Raises FileNotFoundError, or
    ValueError naming the file and the cause.
    """
    from nest_ssl.checkpoints.safetensors_dir import read_safetensors
    from nest_ssl.checkpoints.torch_zip import StoredTensor, open_torch_zip

    path = weights_file(path)
    if path.suffix == ".safetensors":
        return _plain_names(read_safetensors(path), path)
    check_fetched(path)
    with open_torch_zip(path) as file:
        found = _unwrapped(file.content)
        wrong = next((k for k, v in found.items() if not isinstance(v, StoredTensor)), None)
        if wrong is not None or not found:
            there = ", ".join(str(key) for key in list(found)[:6])
            raise ValueError(
                f"{path} holds no weights ({there or 'it is empty'}); weights lie in model.pt, in FunASR's "
                f"model.pt.ep*, .best and .avg*, flat or under {', '.join(WRAPPERS[:3])}"
            )
        return _plain_names({str(key): file.tensor(value) for key, value in found.items()}, path)


def weights_file(path: str | os.PathLike) -> Path:
    """The file in which the weights at `path` lie: itself, or the one inside a folder of weights.

    Raises FileNotFoundError or ValueError for what is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(missing_weights(path))
    if (path / "latest").is_file() and not (path / DEEPSPEED).is_file():
        tag = (path / "latest").read_text(encoding="utf-8").strip()
        if tag and (path / tag / DEEPSPEED).is_file():
            path = path / tag
    if (path / DEEPSPEED).is_file():
        others = sorted(
            file.name for file in path.glob("mp_rank_*_model_states.pt") if file.name != DEEPSPEED
        )
        if others:
            raise ValueError(
                f"{path} is a DeepSpeed checkpoint in {len(others) + 1} model-parallel parts "
                f"({others[0]}, ...); gather it with DeepSpeed's zero_to_fp32.py and give the file it writes"
            )
        return path / DEEPSPEED
    if (path / SAFETENSORS).is_file():
        return path / SAFETENSORS
    if next(path.glob("zero_pp_rank_*_model_states.pt"), None):
        raise ValueError(
            f"{path} is a DeepSpeed ZeRO-3 checkpoint, whose weights are cut into slices; gather them with "
            "DeepSpeed's zero_to_fp32.py and give the file that it writes"
        )
    inside = ", ".join(sorted(file.name for file in path.iterdir())[:8]) or "nothing"
    raise FileNotFoundError(
        f"{path} is a folder without weights ({DEEPSPEED}, {SAFETENSORS}); it has {inside}"
    )


def is_hub_name(path: str | os.PathLike) -> bool:
    """True for what does not exist here and looks like the name of a model on a hub, as no file's does."""
    text = os.fspath(path)
    is_file_name = any(ending in text for ending in (".pt", ".safetensors", ".bin"))
    return HUB.fullmatch(text) is not None and not is_file_name and not Path(path).exists()


def missing_weights(path: Path) -> str:
    """The message about weights that are not at `path`; a name that looks like a hub's is told apart."""
    if is_hub_name(path):
        return (
            f"{path} does not exist here; it looks like a name on a hub, and nothing is downloaded: download "
            "the model yourself and give the path of its folder (or of its model.pt)"
        )
    near = sorted(file.name for file in path.parent.glob("model.pt*"))[:6] if path.parent.is_dir() else []
    there = f"; {path.parent} has {', '.join(near)}" if near else ""
    return f"the weights {path} do not exist{there}"


def check_fetched(path: Path) -> None:
    """Raise ValueError if the file is what a failed or half download leaves in its place."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(POINTER):
        raise ValueError(f"{path} is a git-lfs pointer, not the file itself; fetch it with `git lfs pull`")
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        raise ValueError(f"{path} is a web page, not the file itself; download it again")
    if not head:
        raise ValueError(f"{path} is empty; download or write it again")


def _unwrapped(content: Any) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        return {}
    for key in WRAPPERS:  # one after the other, as FunASR does
        inner = content.get(key)
        if isinstance(inner, Mapping):
            content = inner
    return content


def _plain_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("module.")
        if name in plain:
            raise ValueError(f"{path} holds {name} twice, with and without `module.` before it")
        plain[name] = value
    return plain


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError naming the first tensors with NaN or infinity: the run that wrote them diverged."""
    import torch

    bad = [k for k, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if bad:
        raise ValueError(
            f"{source}: {len(bad)} tensors have NaN or infinite values, first {bad[0]}; the run that wrote "
            "it diverged: take an earlier checkpoint"
        )
