"""Fun-ASR-Nano models on disk: a complete directory of a model in memory, and the mean of several."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nest_ssl.checkpoints.funasr_dir import model_files, read_weights
from nest_ssl.checkpoints.funasr_lora import lora_keys, merged
from nest_ssl.checkpoints.funasr_writer import write_model_dir

SECTION = "nest_ssl"  # of config.yaml; FunASR does not read it


def save_pretrained(
    model: nn.Module,
    directory: str | os.PathLike,
    stage: str | None = None,
    base: str | os.PathLike | None = None,
    step: int | None = None,
    *,
    state: Mapping[str, Tensor] | None = None,
    dtype: str = "kept",
    merge_lora: bool = False,
) -> Path:
    """Write `model` (a FunASRNano) as a directory that FunASR's AutoModel and `from_pretrained` load.

    All weights are written, the language model's too; `state` gives others, such as an average, under the
    names of `model.state_dict()`.  `dtype` as in `write_model_dir`.  With adapters the configuration says
    use_lora true, or they are folded in (`merge_lora`).  `stage`, `base` and `step` go into the section
    nest_ssl of config.yaml, and to the end of its `history`.
    """
    config: dict[str, Any] = copy.deepcopy(dict(model.config))  # type: ignore[arg-type]
    weights = dict(model.state_dict() if state is None else state)
    files = model_files(config, _home(model))
    config, weights = with_lora(config, weights, merge_lora)
    return write_model_dir(directory, with_provenance(config, stage, base, step), weights, files, dtype)


def with_lora(
    config: Mapping[str, Any], state: Mapping[str, Tensor], merge: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights that agree about LoRA, with the adapters folded in if `merge`."""
    llm = dict(config.get("llm_conf") or {})
    has = bool(lora_keys(state))
    if has and merge:
        state = merged(state, llm.get("lora_conf"))
    return {**config, "llm_conf": {**llm, "use_lora": has and not merge}}, dict(state)


def with_provenance(
    config: Mapping[str, Any], stage: str | None, base: str | os.PathLike | None, step: int | None
) -> dict[str, Any]:
    """The configuration with the record of what made these weights; earlier records stay in `history`."""
    record: dict[str, Any] = {"stage": stage, "base": None if base is None else str(base), "step": step}
    record = {key: value for key, value in record.items() if value is not None}
    section = dict(config.get(SECTION) or {})
    if record:
        history = [*(section.get("history") or []), record]
        for key in ("stage", "base", "step"):
            section.pop(key, None)
        section = {**section, **record, "history": history}
    return {**config, **({SECTION: section} if section else {})}


def average(states: Sequence[Mapping[str, Tensor] | str | os.PathLike]) -> dict[str, Tensor]:
    """The mean of several states, given themselves or as paths that `read_weights` takes, read one by one.

    The sum is taken in fp64 and rounded once, to the dtype of the first.  Whole numbers, such as a batch
    norm's count of batches, are the last state's: a sum, as FunASR takes, is no state that training was in.
    Raises ValueError for states that differ in keys or shapes, or none.
    """
    if not states:
        raise ValueError("there is nothing to average: no checkpoint is given")
    first, name = _state(states[0]), _name(states[0], 0)
    total = {key: value.double() for key, value in first.items() if value.is_floating_point()}
    last = first
    for number, source in enumerate(states[1:], start=1):
        last = _state(source)
        _check_alike(first, last, name, _name(source, number))
        for key, value in total.items():
            value += last[key].double()
    return {
        key: (total[key] / len(states)).to(value.dtype) if key in total else last[key].clone()
        for key, value in first.items()
    }


def _state(source: Mapping[str, Tensor] | str | os.PathLike) -> Mapping[str, Tensor]:
    return source if isinstance(source, Mapping) else read_weights(source)


def _name(source: Mapping[str, Tensor] | str | os.PathLike, number: int) -> str:
    return f"state {number + 1}" if isinstance(source, Mapping) else str(source)


def _check_alike(
    first: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str, other_name: str
) -> None:
    odd: Iterable[str] = sorted(first.keys() ^ other.keys())
    odd = list(odd) or [key for key in first if first[key].shape != other[key].shape]
    if odd:
        raise ValueError(
            f"{other_name} and {name} cannot be averaged: {len(odd)} tensors differ in name or shape, first "
            f"{odd[0]}; average checkpoints of one run"
        )


def _home(model: nn.Module) -> Path:
    """The directory from which relative paths in the model's configuration are taken."""
    home = getattr(model, "directory", None)
    return Path.cwd() if home is None else Path(home)
