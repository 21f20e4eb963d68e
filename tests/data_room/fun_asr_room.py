"""A tiny model's tokenizers and front end, and data made of given rows, for the tests of fine-tuning data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nest_ssl.data.fun_asr_data import DataFacts, FunASRData, fun_asr_data
from nest_ssl.modules.wav_frontend import WavFrontend
from nest_ssl.text.ctc_tokenizer import SenseVoiceTokenizer
from nest_ssl.text.llm_tokenizer import LlmTokenizer
from tests.fun_asr_tiny import make_model_dir

CONF = {"batch_size": 400, "cache_mb": 0, "prompt": {"language": "en"}}


def same_length(lengths: Tensor) -> Tensor:
    """Encoder frames of feature frames."""
    return lengths


def eighth(lengths: Tensor) -> Tensor:
    """LLM tokens of feature frames: FunASR's low frame rate."""
    return -(-lengths // 8)


def tiny_facts(folder: Path, **frontend: Any) -> DataFacts:
    """What the data need of a tiny model, written to `folder` once."""
    model = folder / "model"
    if not model.exists():
        make_model_dir(model)
    options = {"lfr_m": 7, "lfr_n": 6, "dither": 0.0} | frontend
    return DataFacts(
        LlmTokenizer(model / "Qwen3-0.6B"),
        SenseVoiceTokenizer(model / "multilingual.tiktoken"),
        WavFrontend(**options),
        same_length,
        eighth,
    )


def make_data(
    folder: Path, files: Any, conf: dict[str, Any] | None = None, split: str = "train", **options: Any
) -> FunASRData:
    """The data of jsonl files, under changed CONF; other options are the factory's or the front end's."""
    frontend = {key: options.pop(key) for key in ("dither", "cmvn_file") if key in options}
    named = [str(file) for file in files] if isinstance(files, list | tuple) else str(files)
    config = {f"{split}_data_set_list": named, "dataset_conf": CONF | (conf or {})}
    return fun_asr_data(config, tiny_facts(folder, **frontend), split, **options)


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Write rows as JSON lines; texts as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read them back."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def same(one: Any, other: Any) -> bool:
    """True for two batches of the same utterances with the same numbers in them."""
    tensors = one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )
    return tensors and one.utterance_ids == other.utterance_ids and np.isclose(one.seconds, other.seconds)
