"""A CTC model small enough for a test, its tokenizer, and batches for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from nest_ssl.config import load_config
from nest_ssl.models.ctc_models import EncDecCTCModelBPE
from nest_ssl.text.normalization import TextNormalizer
from nest_ssl.text.tokenizer import SentencePieceTokenizer, train_tokenizer

CONFIG = Path(__file__).resolve().parents[2] / "conf" / "ctc_fast-conformer.yaml"
SMALL = (
    "model.encoder.n_layers=2",
    "model.encoder.d_model=24",
    "model.encoder.n_heads=2",
    "model.encoder.subsampling_conv_channels=8",
)
TEXTS = ["press one", "hello", "agent"]


def small_tokenizer() -> SentencePieceTokenizer:
    return SentencePieceTokenizer(train_tokenizer(TEXTS, "char", None), TextNormalizer())


def small_model(*overrides: str, seed: int = 0) -> EncDecCTCModelBPE:
    torch.manual_seed(seed)
    config = load_config(CONFIG, [*SMALL, *overrides])
    return EncDecCTCModelBPE(config.model, tokenizer=small_tokenizer())


def speech_batch(tokenizer: SentencePieceTokenizer, seconds: float = 1.0, seed: int = 1) -> Any:
    """Noise with TEXTS as its references; the last item is shorter."""
    generator = torch.Generator().manual_seed(seed)
    ids = [tokenizer.encode(text) for text in TEXTS]
    lengths = torch.tensor([int(seconds * 16000)] * 2 + [int(seconds * 12000)])
    audio = torch.randn(3, int(lengths.max()), generator=generator) * 0.1
    tokens = torch.zeros(3, max(map(len, ids)), dtype=torch.int64)
    for row, sequence in enumerate(ids):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
    return SimpleNamespace(
        audio=audio * (torch.arange(audio.shape[1]) < lengths[:, None]),
        audio_len=lengths,
        tokens=tokens,
        tokens_len=torch.tensor([len(sequence) for sequence in ids]),
        texts=TEXTS,
    )
