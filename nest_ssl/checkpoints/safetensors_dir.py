"""A model as a directory: `config.yaml` and `model.safetensors`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nest_ssl.files.atomic import replaced_directory

CONFIG = "config.yaml"
WEIGHTS = "model.safetensors"


def read_model_directory(
    path: str | os.PathLike, device: str = "cpu"
) -> tuple[DictConfig, dict[str, Tensor]]:
    """Give the configuration and the state dict of a directory that `write_model_directory` wrote.

    Raises FileNotFoundError for a missing file, ValueError naming the file for a damaged one.
    """
    path = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} is not a model directory: it has no {name}")
    try:
        config = OmegaConf.load(path / CONFIG)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path / CONFIG} is not readable as YAML: {error}") from error
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path / CONFIG} holds no mapping of keys")
    return config, read_weights(path / WEIGHTS, device)


def read_weights(path: str | os.PathLike, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of one safetensors file; ValueError naming it if it is damaged."""
    try:
        return load_file(path, device=device)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def write_model_directory(
    path: str | os.PathLike, config: Mapping[str, Any] | DictConfig, state: Mapping[str, Tensor]
) -> None:
    """Write `config` and `state` (of `portable_state`) to the directory `path`, complete or not at all."""
    with replaced_directory(path) as temporary:
        text = OmegaConf.to_yaml(config if isinstance(config, DictConfig) else OmegaConf.create(dict(config)))
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        write_weights(temporary / WEIGHTS, state)


def write_weights(path: str | os.PathLike, state: Mapping[str, Tensor]) -> None:
    """Write tensors to one safetensors file; names that share storage each get a copy of it."""
    seen: set[int] = set()
    separate = {}
    for key, tensor in state.items():
        pointer = tensor.untyped_storage().data_ptr()
        separate[key] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    save_file(separate, path, metadata={"format": "pt"})
