"""FunASRNano from a model directory: configuration, parts, weights, and what became of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from nest_ssl.checkpoints.funasr_dir import read_model_dir
from nest_ssl.checkpoints.funasr_load import load_weights
from nest_ssl.models.fun_asr_parts import DTYPES

if TYPE_CHECKING:
    from nest_ssl.models.fun_asr_nano import FunASRNano

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound="FunASRNano")


def load_directory(
    cls: type[Model],
    directory: str | os.PathLike,
    init_param: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    dtype: str | torch.dtype | None = None,
    llm_from: str | os.PathLike | None = None,
) -> Model:
    """Build the model of a directory and fill it, for FunASRNano.from_pretrained; on the CPU, in evaluation.

    A file without any weight of the CTC branch gives a model without it.  With llm_conf.use_lora the model
    has adapters, fresh ones where the file has none.
    """
    found = read_model_dir(directory, overrides, init_param)
    for note in found.notes:
        log.warning("%s: %s", found.path, note)
    config = found.config
    section = config.get("llm_conf") or {}
    with _no_initial_weights():
        model = cls(config, found.path)
    model.llm.tie_weights()  # which is a part of the initialisation left out
    if dtype is not None:
        # Built in llm_conf.llm_dtype before, as in FunASR: the angles of the rotary positions keep the
        # precision of that dtype, with which the weights were trained.
        model.llm_dtype = dtype_name(dtype)
        model.llm.to(DTYPES[model.llm_dtype])
    if section.get("use_lora", False):
        from nest_ssl.models.lora import add_lora

        add_lora(model.llm, section.get("lora_conf"))
    account = load_weights(
        model,
        found.weights_path,
        llm_from=None if llm_from is None else str(llm_from),
        tied=bool(getattr(model.llm.config, "tie_word_embeddings", False)),
    )
    if "ctc" in account.absent:
        log.warning("%s: no CTC weights, so no CTC text and no timestamps", found.weights_path)
        model.drop_ctc()
    model.load_account = account
    return model.eval()


@contextmanager
def _no_initial_weights() -> Iterator[None]:
    """Leave parameters as they come from memory: drawing those of the released model takes 20 s, for nothing.

    Nothing may be read before every key is loaded, which `load_weights` sees to.
    """
    try:
        from transformers.initialization import no_init_weights
    except ImportError:  # transformers before 5, or none, which the language model's own message tells
        yield
        return
    with no_init_weights():
        yield


def dtype_name(dtype: str | torch.dtype) -> str:
    """Give fp32, bf16 or fp16 for a name or a torch.dtype; ValueError for another."""
    for name, value in DTYPES.items():
        if dtype in (name, value, str(value), str(value).removeprefix("torch.")):
            return name
    raise ValueError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
