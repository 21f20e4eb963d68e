"""A NEST model small enough for a test, and batches for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import DictConfig

from nest_ssl.config import load_config
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel

CONFIG = Path(__file__).resolve().parents[2] / "conf" / "nest_fast-conformer.yaml"
SMALL = (
    "model.num_classes=32",
    "model.code_dim=8",
    "model.encoder.n_layers=2",
    "model.encoder.d_model=24",
    "model.encoder.n_heads=2",
    "model.encoder.subsampling_conv_channels=8",
    "model.masking.mask_prob=0.02",
    "model.masking.block_size=24",
)


def small_config(*overrides: str) -> DictConfig:
    """The `model:` section of the committed YAML, made small, with further overrides."""
    return load_config(CONFIG, [*SMALL, *overrides]).model


def small_model(*overrides: str, seed: int = 0) -> EncDecDenoiseMaskedTokenPredModel:
    """A small model with weights drawn from `seed`."""
    torch.manual_seed(seed)
    return EncDecDenoiseMaskedTokenPredModel(small_config(*overrides))


def noise_batch(*samples: int, seed: int = 1) -> SimpleNamespace:
    """White noise of the given lengths as a batch."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(samples)
    valid = torch.arange(max(samples)) < lengths[:, None]
    audio, noise = (
        torch.randn(len(samples), max(samples), generator=generator) * valid * 0.1 for _ in range(2)
    )
    return SimpleNamespace(
        audio=audio,
        audio_len=lengths,
        noise=noise,
        noise_len=lengths,
        noisy_audio=audio + noise,
        noisy_audio_len=lengths.clone(),
    )


def signals_of(batch: SimpleNamespace) -> dict[str, torch.Tensor]:
    """A batch as keyword arguments of `forward`."""
    return {
        "input_signal": batch.audio,
        "input_signal_length": batch.audio_len,
        "noisy_input_signal": batch.noisy_audio,
        "noisy_input_signal_length": batch.noisy_audio_len,
    }
