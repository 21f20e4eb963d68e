"""The work of the verb preflight: as much of the run as can be read and built."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nest_ssl.bin import finetune_config
from nest_ssl.bin.arguments import chosen_device
from nest_ssl.checkpoints.funasr_dir import read_model_dir
from nest_ssl.checkpoints.funasr_load import load_weights
from nest_ssl.config import apply_overrides, load_config, resolved
from nest_ssl.data.fun_asr_data import DataFacts, fun_asr_data
from nest_ssl.files.atomic import replaced
from nest_ssl.models.fun_asr_training import FunASRNanoForTraining
from nest_ssl.models.lora import add_lora
from nest_ssl.preflight.limits import suggested_limits
from nest_ssl.preflight.probe import probe_of
from nest_ssl.preflight.run import Context, Options
from nest_ssl.text.ctc_tokenizer import SenseVoiceTokenizer
from nest_ssl.text.llm_tokenizer import LlmTokenizer

# weights above it are checked without being copied into a model, unless one is needed
REAL_BYTES = 300_000_000
EXPECTED = (ValueError, OSError, ModuleNotFoundError)


def context_of(arguments: argparse.Namespace) -> Context:
    """Read as much as can be read; what fails is a finding, not the end."""
    where = chosen_device(arguments.device)
    error: Exception | None = None
    model = None
    try:
        config: Mapping[str, Any] = finetune_config.configuration(arguments)
    except EXPECTED as raised:
        error, config = raised, _as_far_as_known(arguments)
    if error is None:
        try:
            model = build(arguments.model, config, where, arguments.probe)
        except EXPECTED as raised:
            error = raised
    overrides = finetune_config.given_keys(arguments.overrides)
    if arguments.init_param:
        overrides["init_param"] = arguments.init_param
    context = Context(
        config,
        model_dir=Path(arguments.model),
        model=model,
        train=[Path(path) for path in arguments.train or ()],
        valid=[Path(path) for path in arguments.valid or ()],
        part=arguments.part,
        out=Path(arguments.out) if arguments.out else None,
        device=where,
        world_size=arguments.world_size,
        options=Options(arguments.files, arguments.probe, arguments.suggest_limits),
        overrides=overrides,
        error=error,
    )
    if model is None:
        _tokenizers(context)
    elif arguments.train and not _is_meta(model):
        _probe(context)
    return context


def build(directory: str, config: Mapping[str, Any], where: torch.device, probe: bool | None) -> Any:
    """Build the model with its weights and trainable set; a large one without memory, unless it is to run."""
    weights = Path(config["init_param"])
    large = weights.is_file() and weights.stat().st_size > REAL_BYTES
    real = not large or probe is True or (probe is None and where.type == "cuda")
    with torch.device("cpu" if real else "meta"):
        model = FunASRNanoForTraining(config, Path(directory))
        section = config.get("llm_conf") or {}
        if section.get("use_lora", False):
            add_lora(model.llm, section.get("lora_conf"))
    tied = bool(getattr(model.llm.config, "tie_word_embeddings", False))
    account = load_weights(model, weights, tied=tied)
    if "ctc" in account.absent:
        model.drop_ctc()
    model.prepare(
        ctc_weight=float(config.get("ctc_weight") or 0.0),
        ctc_detach_encoder=bool(config.get("ctc_detach_encoder", False)),
    )
    return model.to(where) if real else model


def write_limits(path: Path, context: Context, percentile: float) -> None:
    """Write the suggested limits as a YAML that finetune takes over its settings."""
    _, dataset_conf = suggested_limits(context, percentile)
    with replaced(path) as temporary:
        temporary.write_text(
            yaml.safe_dump({"dataset_conf": dataset_conf}, sort_keys=False), encoding="utf-8"
        )


def _probe(context: Context) -> None:
    model = context.model
    facts = DataFacts(
        model.tokenizer, model.ctc_tokenizer, model.frontend, model.frames_of, model.llm_tokens_of
    )
    try:
        data = fun_asr_data({**context.config, "train_data_set_list": list(map(str, context.train))}, facts)
    except EXPECTED as raised:
        context.error = context.error or raised
        return
    context.probe = probe_of(model, data.dataset, context.device)


def _is_meta(model: Any) -> bool:
    return next(model.parameters()).device.type == "meta"


def _as_far_as_known(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give the directory's configuration with the words over it, where the whole could not be made."""
    path = Path(arguments.model) / "config.yaml"
    try:
        config = load_config(path)
        OmegaConf.set_struct(config, False)
        apply_overrides(config, ["++" + word.lstrip("+") for word in arguments.overrides if word[:1] != "~"])
        return resolved(config)
    except (*EXPECTED, OmegaConfBaseException):
        return {}


def _tokenizers(context: Context) -> None:
    """Read the tokenizers without the model, so that texts and limits can be checked all the same."""
    try:
        files = read_model_dir(context.model_dir or "").files
    except EXPECTED:
        files = {
            "tokenizer": Path(context.model_dir or "") / "Qwen3-0.6B",
            "ctc_vocab": Path(context.model_dir or "") / "multilingual.tiktoken",
        }
    try:
        context.tokenizer = LlmTokenizer(files["tokenizer"])
        ctc_tokenizer = SenseVoiceTokenizer(files["ctc_vocab"])
        ctc_tokenizer.encode("a")  # reads the file
        context.ctc_tokenizer = ctc_tokenizer
    except (*EXPECTED, KeyError):
        return  # context.error says what is wrong with the directory
