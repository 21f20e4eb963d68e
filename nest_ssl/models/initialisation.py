"""Weights to start from: `init_from_nemo_model` and its like, at the top level of a YAML."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from nest_ssl.config import suggestion

if TYPE_CHECKING:  # a configuration is checked before torch is loaded
    from torch import nn

    from nest_ssl.checkpoints.state import LoadAccount

log = logging.getLogger(__name__)

INIT_KEYS = ("init_from_nemo_model", "init_from_ptl_ckpt", "init_from_pretrained_model")
ENTRY_KEYS = ("path", "include", "exclude", "strict")


def initialise(
    model: nn.Module,
    source: str | os.PathLike,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    strict: bool = True,
) -> LoadAccount:
    """Load weights from any checkpoint that `read_source` reads; gives, and logs, an account of the keys.

    `include` and `exclude` are parts of names, as for NeMo (see `load_state`).  With `strict`, every tensor
    of the model that they choose must be in the file, and every such tensor of the file in the model;
    without it, as in NeMo, what one side lacks is left alone.  Shapes must agree, and something must be
    loaded, in both.  Raises ValueError naming file and keys before anything is copied.
    """
    from nest_ssl.checkpoints.source import read_source, unwrapped_encoder
    from nest_ssl.checkpoints.state import load_state

    found = read_source(source)
    wanted = model.state_dict()
    state, renamed = found.state, False
    if not any(key.startswith("encoder.pre_encode.pre_encode.") for key in wanted):
        state, renamed = unwrapped_encoder(state)
    include, exclude = _parts(include, "include"), _parts(exclude, "exclude")
    every = () if strict else ("",)
    try:
        account = load_state(model, state, str(source), every, every, include, exclude, told=False)
    except ValueError as error:
        way_out = (
            "choose with include and exclude, or set strict: false to leave alone what one side lacks"
            if strict
            else "tensors of another shape are never left out silently: name them in exclude"
        )
        raise ValueError(f"{error}; {way_out}") from error
    if not account.loaded:
        raise ValueError(
            f"{source}: nothing to load: no tensor of both model and file is chosen by include "
            f"{list(include)} and exclude {list(exclude)}; the file has {', '.join(list(state)[:3])}, ..."
        )
    log.info("initialised from %s: %s", source, account.told())
    if renamed:
        log.info("initialised from %s: sub-sampling taken out of its masking wrapper (post_conv)", source)
    return account


def initial_sections(source: str | os.PathLike) -> dict[str, Any]:
    """The sections `preprocessor` and `encoder` of a checkpoint; ValueError if it states none."""
    if not Path(source).exists():
        raise FileNotFoundError(f"{source} does not exist")

    from nest_ssl.checkpoints.source import read_source

    config = read_source(source).config
    if not config or not all(isinstance(config.get(key), dict) for key in ("preprocessor", "encoder")):
        raise ValueError(f"{source} states no sections preprocessor and encoder; take a .nemo of the model")
    return {key: config[key] for key in ("preprocessor", "encoder")}


def initialise_from_config(
    model: nn.Module, config: DictConfig | Mapping[str, Any], include: Iterable[str] = ()
) -> list[str]:
    """Do what the top-level `init_from_...` key of a configuration says; gives the account's lines.

    The value is a path, or {name: {path, include, exclude, strict}} for parts of several files, loaded in
    order.  `strict` is true unless said otherwise (NeMo: always false).  `include` stands for that of a file
    without one.  Without such a key nothing is done.
    """
    lines = []
    for key, path, own, exclude, strict in _entries(config):
        account = initialise(model, path, own or include, exclude, strict)
        lines.append(f"{key} {path}: {account.told()}")
    return lines


def initial_sources(config: DictConfig | Mapping[str, Any]) -> list[str]:
    """The files that the `init_from_...` key of a configuration names, in order; none without such a key."""
    return [path for _, path, *_ in _entries(config)]


def check_init_keys(config: DictConfig | Mapping[str, Any]) -> None:
    """Raise ValueError if the `init_from_...` keys cannot be followed; reads no file."""
    _entries(config)


def _entries(config: Any) -> list[tuple[str, str, list[str], list[str], bool]]:
    given = [key for key in INIT_KEYS if config.get(key) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: only one of them can be given")
    if not given:
        return []
    key = given[0]
    if key == "init_from_pretrained_model":
        raise ValueError(
            f"{key}: models are not fetched by name here; download the .nemo file of "
            f"{_first_name(config[key])} (nvidia's models are on huggingface.co and NGC) and give its path "
            "as init_from_nemo_model=FILE"
        )
    value = OmegaConf.to_container(config[key]) if OmegaConf.is_config(config[key]) else config[key]
    if isinstance(value, str | os.PathLike):
        return [(key, str(value), [], [], True)]
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{key}: a path or {{name: {{path: ..., include: [...]}}}} is needed, not {value!r}")
    entries = []
    for name, entry in value.items():
        name = str(name)
        where = f"{key}.{name}"
        if not isinstance(entry, dict) or not entry.get("path"):
            raise ValueError(f"{where}: needs a path; write {key}: {{{name}: {{path: FILE}}}}")
        for option in map(str, entry):
            if option not in ENTRY_KEYS:
                raise ValueError(f"{where}.{option}: no such option; {suggestion(option, ENTRY_KEYS)}")
        strict = entry.get("strict", True)
        if not isinstance(strict, bool):
            raise ValueError(f"{where}.strict: {strict!r} is neither true nor false")
        include, exclude = (
            _parts(entry.get(side) or (), f"{where}.{side}") for side in ("include", "exclude")
        )
        entries.append((where, str(entry["path"]), list(include), list(exclude), strict))
    return entries


def _parts(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(part, str) for part in value):
        raise ValueError(f"{where}: {value!r} is not a list of parts of names, such as [encoder]")
    return tuple(value)


def _first_name(value: Any) -> str:
    if isinstance(value, str):
        return value
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    entries = (
        [entry for entry in plain.values() if isinstance(entry, dict)] if isinstance(plain, dict) else []
    )
    return str(entries[0].get("name")) if entries else "the model"
