"""The reference set made with FunASR, for the tests of the data; absent where it is not mounted."""

from __future__ import annotations

import json
import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor

from nest_ssl.data.fun_asr_data import DataFacts
from nest_ssl.modules.wav_frontend import WavFrontend
from nest_ssl.text.ctc_tokenizer import SenseVoiceTokenizer
from nest_ssl.text.llm_tokenizer import LlmTokenizer

GIVEN = os.environ.get("NEST_GOLDENS", str(Path(__file__).resolve().parents[3] / "shared" / "goldens"))
ROOT = Path(GIVEN) / "funasr"
needs_goldens = pytest.mark.skipif(not ROOT.is_dir(), reason=f"the FunASR reference set {ROOT} is not here")
FRONTEND = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "lfr_m": 7,
    "lfr_n": 6,
    "dither": 0.0,
}
# The dataset_conf of the set's model, as far as data depend on it.
CONF: dict[str, Any] = {
    "batch_type": "token",
    "batch_size": 6000,
    "max_token_length": 3500,
    "sort_size": 1024,
    "batch_size_sample_max": 10,
    "batch_size_token_max": 6000,
    "max_source_length": 12000,
    "max_target_length": 2048,
    "min_source_length": 10,
    "retry": 20,
    "nest_ssl_sampler": "funasr",
    "ctc_target_normalize": False,
    "check_lengths": "off",
}


def low_frame_rate(lengths: Tensor) -> Tensor:
    """Encoder frames to LLM tokens: three halvings, rounded up."""
    for _ in range(3):
        lengths = (lengths + 1) // 2
    return lengths


def identity(lengths: Tensor) -> Tensor:
    """SANM has a frame per feature frame."""
    return lengths


def facts(**frontend: Any) -> DataFacts:
    """What the data need of the set's model."""
    return DataFacts(
        LlmTokenizer(ROOT / "model" / "Qwen3-0.6B"),
        SenseVoiceTokenizer(ROOT / "model" / "multilingual.tiktoken"),
        WavFrontend(**(FRONTEND | frontend)),
        identity,
        low_frame_rate,
    )


def rows_file(name: str, folder: Path, keys: list[str] | None = None) -> Path:
    """Write a jsonl file of the set with its paths put in; `keys` chooses and orders the rows."""
    text = (ROOT / "data" / f"{name}.jsonl").read_text(encoding="utf-8").replace("@ROOT@", str(ROOT))
    lines = text.splitlines()
    if keys is not None:
        by_key = {json.loads(line)["key"]: line for line in lines if line.startswith('{"')}
        lines = [by_key[key] for key in keys]
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """Read a safetensors file of the set."""
    return load_file(ROOT / f"{name}.safetensors")


@cache
def results(name: str) -> Any:
    """Read a JSON file of the set."""
    return json.loads((ROOT / f"{name}.json").read_text(encoding="utf-8"))


def streams(seed: int) -> tuple[random.Random, np.random.RandomState]:
    """The states of `random` and numpy after their seed() was called."""
    return random.Random(seed), np.random.RandomState(seed)
