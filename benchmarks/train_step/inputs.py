"""The batch of a benchmark: the same on both sides, made from numbers alone."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

RATE = 16000


def speech_like(batch: int, seconds: float, seed: int) -> dict[str, torch.Tensor]:
    """audio, noise (B, T) float32 and their lengths (B,) int64, all alike as in a batch of like items.

    The speech is coloured noise of changing loudness, the noise is white.
    """
    draw = np.random.default_rng(seed)
    length = round(seconds * RATE)
    audio = np.zeros((batch, length), np.float32)
    for row in audio:
        loudness = np.interp(np.arange(length), np.linspace(0, length, 12), draw.uniform(0, 0.3, 12))
        row[:] = np.convolve(draw.normal(size=length), draw.normal(size=9) / 3, "same") * loudness
    lengths = torch.full((batch,), length)
    noise = torch.from_numpy(draw.normal(0, 0.03, (batch, length)).astype(np.float32))
    clean = torch.from_numpy(audio)
    return {"audio": clean, "audio_len": lengths, "noise": noise, "noise_len": lengths.clone()}


def fresh(tensors: dict[str, torch.Tensor], make: Any = SimpleNamespace) -> Any:
    """A batch of its own: augmentation and dither write into it."""
    copies = {name: value.clone() for name, value in tensors.items()}
    noisy = {"noisy_audio": copies["audio"] + copies["noise"], "noisy_audio_len": copies["audio_len"].clone()}
    return make(sample_id=[str(n) for n in range(len(copies["audio"]))], **copies, **noisy)


def seed_all(number: int) -> None:
    """Both sides draw masks, dither and augmentation of step `number` from here."""
    torch.manual_seed(number)
    random.seed(number)
