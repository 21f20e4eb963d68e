"""Model directories in FunASR's published layout: what is in one, and where every file of it lies.

    config.yaml            the whole configuration
    configuration.json     which files belong to which key (`file_path_metas`); may be missing
    model.pt               weights, with CTC (ModelScope) or without (Hugging Face)
    multilingual.tiktoken  units of the CTC tokenizer
    Qwen3-0.6B/            configuration and tokenizer of the language model, no weights

FunASR goes on with random or other weights where a path is wrong.  Here every path is an existing file, or
an error says why not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nest_ssl.checkpoints.funasr_layout import (
    CMVN,
    CMVN_FILE,
    CONFIG,
    CONFIGURATION,
    CTC_VOCAB,
    KEYS,
    LLM,
    MODEL,
    RANKS,
    TOKENIZER,
    WEIGHTS,
    check_llm_folder,
    check_ranks,
    lost_file,
)
from nest_ssl.checkpoints.funasr_weights import missing_weights, read_weights, weights_file
from nest_ssl.checkpoints.plain_yaml import read_plain_yaml
from nest_ssl.config import apply_overrides, register_resolvers, resolved

__all__ = ["ModelDir", "file_path_metas", "is_model_dir", "model_files", "read_model_dir", "read_weights"]


@dataclass(frozen=True)
class ModelDir:
    """A model directory: its resolved configuration, its weights, and its other files, all absolute.

    `files` has llm and tokenizer (folders), ctc_vocab and cmvn where there are such; the same paths stand in
    `config`.  `notes` say what was decided where the directory allows more than one reading.
    """

    path: Path
    config: dict[str, Any]
    weights_path: Path
    files: dict[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_model_dir(path: str | os.PathLike) -> bool:
    """True for a directory whose config.yaml is that of Fun-ASR-Nano."""
    config = Path(path) / CONFIG
    if not config.is_file():
        return False
    try:
        return read_plain_yaml(config.read_bytes(), str(config)).get("model") == MODEL
    except ValueError:
        return False


def read_model_dir(
    directory: str | os.PathLike,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    init_param: str | os.PathLike | None = None,
) -> ModelDir:
    """Read a model directory; no weights are read.

    FunASR's order: config.yaml, over it what `file_path_metas` finds, over it `overrides` (a mapping, nested
    or dotted, or `++key=value` words).  `init_param`, here or among the overrides, names other weights: any
    file or folder that `read_weights` takes.  Relative paths are taken from the directory, that of
    `init_param` from the working directory first.  Raises FileNotFoundError or ValueError with cause and
    cure.
    """
    directory = Path(directory).absolute()
    config_path = _config_path(directory)
    stored = read_plain_yaml(config_path.read_bytes(), str(config_path))
    if stored.get("model") != MODEL:
        raise ValueError(
            f"{config_path}: model is {stored.get('model')!r}; this is the directory of another model, only "
            f"{MODEL} is read here"
        )
    metas, absent = file_path_metas(directory)
    merged = _merged(stored, metas, overrides, config_path)
    notes: list[str] = []
    asked = init_param if init_param is not None else _init_param_of(overrides)
    if asked is None:
        _check_no_run(directory, stored)
    weights = _weights(directory, asked, stored.get("init_param"), metas, absent, notes)
    files = _files(merged, directory, notes)
    for name, found in files.items():
        OmegaConf.update(merged, KEYS[name], str(found), force_add=True)
    merged["init_param"] = str(weights)
    config = resolved(merged, str(config_path))
    return ModelDir(directory, config, weights, files, tuple(notes))


def model_files(config: Mapping[str, Any], directory: str | os.PathLike) -> dict[str, Path]:
    """The files that a configuration names, as in ModelDir.files; relative paths are from `directory`."""
    return _files(OmegaConf.create(dict(config)), Path(directory).absolute(), [])


def _files(config: DictConfig, directory: Path, notes: list[str]) -> dict[str, Path]:
    found = {name: _file(name, key, config, directory, notes) for name, key in KEYS.items()}
    return {name: path for name, path in found.items() if path is not None}


def _config_path(directory: Path) -> Path:
    if not directory.is_dir():
        if directory.is_file():
            raise ValueError(
                f"{directory} is a file; a model is given by the directory with {CONFIG}, and other weights "
                f"for it by init_param={directory}"
            )
        raise FileNotFoundError(
            f"model directory {directory} does not exist; nothing is downloaded: download the released model "
            "yourself (ModelScope has it with CTC weights) and give its directory"
        )
    if not (directory / CONFIG).is_file():
        inside = ", ".join(sorted(file.name for file in directory.iterdir())[:8]) or "nothing"
        inner = [file.parent.name for file in sorted(directory.glob(f"*/{CONFIG}"))]
        way = f"; perhaps {directory / inner[0]} is meant" if inner else ""
        raise FileNotFoundError(f"{directory} has no {CONFIG}; it has {inside}{way}")
    return directory / CONFIG


def file_path_metas(directory: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration that configuration.json stands for, and {dotted key: name} of files it names that do
    not exist; ValueError for what is no JSON object."""
    path = directory / CONFIGURATION
    if not path.is_file():
        return {}, {}
    try:
        content = json.loads(path.read_bytes())
        metas = content.get("file_path_metas", {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(metas, dict):
        raise ValueError(f"{path}: file_path_metas is {type(metas).__name__}, not a mapping of keys to files")
    absent: dict[str, str] = {}
    return _existing(directory, metas, "", absent), absent


def _existing(
    directory: Path, metas: Mapping[str, Any], prefix: str, absent: dict[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in metas.items():
        if isinstance(value, str):
            if value and (directory / value).exists():
                found[key] = str(directory / value)
            else:
                absent[prefix + key] = value
        elif isinstance(value, dict):
            found[key] = _existing(directory, value, f"{prefix}{key}.", absent)
        elif isinstance(value, list) and all(isinstance(name, str) for name in value):
            found[key] = [str(directory / name) for name in value if (directory / name).exists()]
    return found


def _merged(
    stored: Mapping[str, Any],
    metas: Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str] | None,
    path: Path,
) -> DictConfig:
    register_resolvers()
    try:
        merged = OmegaConf.merge(OmegaConf.create(dict(stored)), OmegaConf.create(dict(metas)))
        assert isinstance(merged, DictConfig)
        if isinstance(overrides, Mapping):
            for key, value in overrides.items():
                OmegaConf.update(merged, str(key), value, merge=True, force_add=True)
        elif overrides is not None:
            apply_overrides(merged, overrides)
    except OmegaConfBaseException as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from error
    return merged


def _init_param_of(overrides: Mapping[str, Any] | Sequence[str] | None) -> str | None:
    if isinstance(overrides, Mapping):
        return overrides.get("init_param")
    given = [word.partition("=")[2] for word in overrides or () if word.lstrip("+").startswith("init_param=")]
    return given[-1] if given and given[-1] not in ("", "null") else None


def _check_no_run(directory: Path, stored: Mapping[str, Any]) -> None:
    """Refuse the folder of a run and its checkpoints: their init_param is what the training began with."""
    section = stored.get("nest_ssl")
    if (directory / WEIGHTS).exists() or not isinstance(section, dict):
        return
    if not isinstance(section.get("base"), dict):  # a model directory names its base, a run describes it
        return
    run = directory.parent.parent if directory.parent.name == "checkpoints" else directory
    trained = run / "model"
    way = (
        f"give {trained}"
        if (trained / CONFIG).is_file()
        else f"{trained} is written when the run is complete: start the same command again"
    )
    what = "the folder of a run" if run == directory else "a checkpoint of a run, the trained tensors alone"
    raise ValueError(f"{directory} is {what}, no model directory; {way}")


def _weights(
    directory: Path,
    asked: str | os.PathLike | None,
    stored: Any,
    metas: Mapping[str, Any],
    absent: Mapping[str, str],
    notes: list[str],
) -> Path:
    """The weights that the directory means, absolute; never others, never none."""
    own = directory / WEIGHTS
    if asked is not None:
        given = Path(asked)
        choices = [given] if given.is_absolute() else [Path.cwd() / given, directory / given]
        found = next((choice for choice in choices if choice.exists()), None)
        if found is None:
            raise FileNotFoundError(
                f"init_param: {missing_weights(given)}; FunASR would start from random weights"
            )
        weights_file(found)  # says what is wrong with a folder
        return Path(found).absolute()
    named = metas.get("init_param")
    if named is not None:
        return Path(named)
    if "init_param" in absent:
        raise FileNotFoundError(
            f"{directory / CONFIGURATION} names the weights {absent['init_param']!r}, but "
            f"{missing_weights(directory / absent['init_param'])}. FunASR would go on with random weights, "
            "without a word; copy the file into the directory, or name other weights by init_param"
        )
    other = _stored_path(directory, stored)
    if other is not None and own.exists() and not other.samefile(own):
        raise ValueError(
            f"{directory / CONFIG} says init_param: {stored}, which is not {own}. FunASR's training leaves "
            f"this where there is no {CONFIGURATION}, and decoding it gives the base model, not the trained "
            f"one; say which is meant: init_param={own} (trained here) or init_param={other}"
        )
    if own.exists():
        if stored and other is None:
            notes.append(f"config.yaml's init_param {stored} does not exist; the weights are {own}")
        return own
    trained = sorted(file.name for file in directory.glob(f"{WEIGHTS}.*"))
    if other is not None and trained:
        raise ValueError(
            f"{directory} has no {WEIGHTS} but {', '.join(trained[:6])}, and its {CONFIG} points at {other}, "
            "the weights that its training began with; say which are meant, such as "
            f"init_param={directory / trained[-1]}"
        )
    if other is not None:
        notes.append(f"{directory} has no {WEIGHTS}; the weights are {other}, as its {CONFIG} says")
        return other
    also = f" ({CONFIG} names {stored}, which does not exist either)" if stored else ""
    raise FileNotFoundError(
        f"{directory} has {CONFIG} but no weights: {missing_weights(own)}{also}. Copy {WEIGHTS} there, or "
        "name the weights by init_param"
    )


def _stored_path(directory: Path, stored: Any) -> Path | None:
    """The existing path that config.yaml's init_param means, from the directory, then from here."""
    if not stored:
        return None
    choices = [directory / str(stored), Path(str(stored)).absolute()]
    return next((choice for choice in choices if choice.exists()), None)


def _file(name: str, key: str, merged: DictConfig, directory: Path, notes: list[str]) -> Path | None:
    """Where the file or folder of a key lies; None where the model needs none."""
    try:
        value = OmegaConf.select(merged, key)
    except OmegaConfBaseException as error:
        raise ValueError(f"{directory / CONFIG}: {key}: {str(error).splitlines()[0]}") from error
    if value is None and name == TOKENIZER:
        value = OmegaConf.select(merged, KEYS[LLM])
    if value is None and name == CTC_VOCAB and (directory / RANKS).is_file():
        value = RANKS
        notes.append(f"{key} is not set; the CTC units are those of {directory / RANKS}")
    if value is None and name == CMVN_FILE and not (directory / CONFIGURATION).is_file():
        value = CMVN if (directory / CMVN).is_file() else None  # as FunASR does where there is no such file
    if value is None:
        if name in (LLM, TOKENIZER):
            raise ValueError(
                f"{directory / CONFIG}: {key} is not set; it names the folder of the language model"
            )
        return None
    given = Path(str(value))
    choices = [given] if given.is_absolute() else [directory / given, Path.cwd() / given]
    if given.is_absolute():  # written by a run elsewhere: the same name may lie here
        choices.append(directory / given.name)
    found = next((choice for choice in choices if choice.exists()), None)
    if found is None:
        raise FileNotFoundError(lost_file(name, key, given, directory))
    if given.is_absolute() and found is not choices[0]:
        notes.append(f"{key} {given} does not exist; {found} is taken")
    found = Path(found).absolute()
    if name in (LLM, TOKENIZER):
        check_llm_folder(found, key)
    elif name == CTC_VOCAB:
        check_ranks(found)
    return found
