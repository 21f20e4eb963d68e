"""A directory of model.safetensors and config.yaml: what the training writes, and others read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nest_ssl.checkpoints.plain_yaml import read_plain_yaml
from nest_ssl.config import register_resolvers
from nest_ssl.files.atomic import replaced_directory
from nest_ssl.files.tensors import separate

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
STATE = "state.json"


def read_safetensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a .safetensors file on the CPU; ValueError names one that is damaged."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file: {error}") from error


def read_safetensors_dir(
    folder: str | os.PathLike,
) -> tuple[dict[str, Any] | None, dict[str, Tensor], dict[str, Any]]:
    """Configuration (the model section), state dict, and where training stood, of a directory.

    Takes what `write_safetensors_dir` makes and a training checkpoint (`step-N`), whose config.yaml has the
    section under `model`.  The configuration is None where there is no config.yaml; `progress` is empty
    where there is no state.json.  Raises FileNotFoundError or ValueError naming the file.
    """
    folder = Path(folder)
    if not (folder / WEIGHTS).is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) if folder.is_dir() else ""
        raise FileNotFoundError(f"{folder} has no {WEIGHTS} (it has: {there or 'nothing'})")
    state = read_safetensors(folder / WEIGHTS)
    config = _read_config(folder / CONFIG) if (folder / CONFIG).is_file() else None
    progress: dict[str, Any] = {}
    if (folder / STATE).is_file():
        try:
            progress = dict(json.loads((folder / STATE).read_text(encoding="utf-8"))["progress"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / STATE} is not readable: {error}") from error
    return config, state, progress


def write_safetensors_dir(
    folder: str | os.PathLike,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a directory, complete or not at all, with further files by name in `files`.

    Tensors keep their dtype (codebooks are float64) and names; a tensor with two names is written twice.
    """
    with replaced_directory(folder) as temporary:
        write_safetensors(temporary / WEIGHTS, state)
        (temporary / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))), encoding="utf-8")
        for name, content in (files or {}).items():
            (temporary / name).write_bytes(content)


def write_safetensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write one file of tensors; OSError where it cannot be written."""
    try:
        save_file(separate(state), path, metadata={"format": "pt"})
    except SafetensorError as error:  # how safetensors speaks of a full disk
        raise OSError(f"{path} cannot be written: {error}") from error


def _read_config(path: Path) -> dict[str, Any]:
    """The model section with its interpolations resolved, as far as they can be."""
    config = OmegaConf.create(read_plain_yaml(path.read_bytes(), str(path)))
    assert isinstance(config, DictConfig)
    section = config.model if isinstance(config.get("model"), DictConfig) else config
    register_resolvers()
    try:
        plain = OmegaConf.to_container(section, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
