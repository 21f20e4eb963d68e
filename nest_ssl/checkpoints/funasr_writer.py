"""Write a model directory in FunASR's published layout, which its AutoModel and ours load."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from nest_ssl.checkpoints.funasr_layout import (
    CMVN,
    CMVN_FILE,
    CONFIG,
    CONFIGURATION,
    CTC_VOCAB,
    DTYPES,
    LLM,
    MODEL,
    RANKS,
    WEIGHTS,
)
from nest_ssl.checkpoints.funasr_load import CTC_PREFIXES, EMBEDDING, HEAD, LLM_PREFIX
from nest_ssl.checkpoints.funasr_lora import A, B
from nest_ssl.files.atomic import replaced_directory
from nest_ssl.files.tensors import separate

# Of the language model's folder: configuration and tokenizer, never weights.
LLM_FILES = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"),
    *("merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "LICENSE"),
)
# The published configuration.json, as far as FunASR reads it.
HEADER = {
    "framework": "pytorch",
    "task": "auto-speech-recognition",
    "model": {"type": "funasr"},
    "pipeline": {"type": "funasr-pipeline"},
}


def write_model_dir(
    directory: str | os.PathLike,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    files: Mapping[str, Path],
    dtype: str = "kept",
) -> Path:
    """Write config.yaml, configuration.json, model.pt, the CTC units and the language model's folder.

    `config` is a resolved configuration, `files` as in ModelDir: paths into the directory that it came from;
    what it names is copied, so the result can be moved.  `dtype`: "kept", "fp32", or "upstream" (bf16, CTC
    fp32, as the released model; batch-norm statistics and LoRA stay fp32).  The directory is complete or
    absent; an existing one is replaced only if it is a model directory.  Raises ValueError for a state
    without the language model or an unknown dtype, FileNotFoundError for a file of `files` that is gone.
    """
    directory = Path(directory).absolute()
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    _check_target(directory, files)
    whole = dict(state)
    if EMBEDDING in whole:
        whole.setdefault(HEAD, whole[EMBEDDING])
    if HEAD not in whole:
        raise ValueError(
            f"{directory}: the state has no {LLM_PREFIX}* tensors; a directory without them decodes with a "
            "random language model"
        )
    llm = files[LLM]
    metas: dict[str, Any] = {"init_param": WEIGHTS, "config": CONFIG}
    metas["llm_conf"] = {"init_param_path": llm.name}
    metas["tokenizer_conf"] = {"init_param_path": llm.name}
    with replaced_directory(directory) as temporary:
        (temporary / llm.name).mkdir()
        for name in LLM_FILES:
            if (llm / name).is_file():
                shutil.copyfile(llm / name, temporary / llm.name / name)
        if CTC_VOCAB in files:
            shutil.copyfile(files[CTC_VOCAB], temporary / RANKS)
            metas["dataset_conf"] = {"ctc_tokenizer_conf": {"vocab_path": RANKS}}
        if CMVN_FILE in files:
            shutil.copyfile(files[CMVN_FILE], temporary / CMVN)
            metas["frontend_conf"] = {"cmvn_file": CMVN}
        content = {**HEADER, "model_name_in_hub": {"ms": "", "hf": ""}, "file_path_metas": metas}
        (temporary / CONFIGURATION).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        text = OmegaConf.to_yaml(OmegaConf.create(portable_config(config, llm.name)))
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        try:
            torch.save({"state_dict": separate(as_stored(whole, dtype))}, temporary / WEIGHTS)
        except RuntimeError as error:  # torch's word for a file that cannot be written to its end
            free_gb = shutil.disk_usage(temporary).free / 1e9
            raise OSError(
                f"{directory / WEIGHTS} could not be written, with {free_gb:.1f} GB free: make room "
                f"({str(error).splitlines()[0]:.100})"
            ) from error
    return directory


def portable_config(config: Mapping[str, Any], llm_folder: str) -> dict[str, Any]:
    """The configuration without paths of this machine: configuration.json finds the files.

    `init_param` is left away: FunASR then takes model.pt also where configuration.json is missing.
    """
    plain = copy.deepcopy(dict(config))
    for key in (
        "init_param",
        "output_dir",
        "config",
        "model_path",
        "train_data_set_list",
        "valid_data_set_list",
    ):
        plain.pop(key, None)
    _section(plain, "llm_conf")["init_param_path"] = llm_folder
    _section(plain, "tokenizer_conf")["init_param_path"] = "${llm_conf.init_param_path}"
    if "ctc_tokenizer_conf" in _section(plain, "dataset_conf"):
        plain["dataset_conf"]["ctc_tokenizer_conf"]["vocab_path"] = None
    if _section(plain, "frontend_conf").get("cmvn_file"):
        plain["frontend_conf"]["cmvn_file"] = None
    # Whoever trains on with FunASR from here must not lose the language model: see funasr_load.
    _section(plain, "train_conf")["effective_save_name_excludes"] = "None"
    return {"model": MODEL, **plain}


def as_stored(state: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """The state in the dtypes of a file: see `write_model_dir`.  Whole numbers stay as they are."""
    if dtype == "kept":
        return dict(state)

    def wanted(key: str, value: Tensor) -> torch.dtype:
        if not value.is_floating_point():
            return value.dtype
        fine = key.startswith(CTC_PREFIXES) or key.endswith((A, B, ".running_mean", ".running_var"))
        return torch.float32 if dtype == "fp32" or fine else torch.bfloat16

    return {key: value.to(wanted(key, value)) for key, value in state.items()}


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    if not isinstance(section, dict):
        section = config[name] = {}
    return section


def _check_target(directory: Path, files: Mapping[str, Path]) -> None:
    """Raise ValueError rather than replace a directory that is no model, or the one being read."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise ValueError(f"{directory} is a file; a model directory cannot take its place")
    if any(path.resolve().is_relative_to(directory.resolve()) for path in files.values()):
        raise ValueError(f"{directory} is the model directory that is being read; write to another one")
    if any(directory.iterdir()) and not ((directory / CONFIG).is_file() and (directory / WEIGHTS).exists()):
        raise ValueError(
            f"{directory} exists and is no model directory, so it is not replaced; give another name"
        )
