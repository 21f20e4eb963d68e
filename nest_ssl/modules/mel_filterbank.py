"""The triangular mel filters of the log-mel front end, as librosa (and so NeMo) computes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Slaney's mel scale: linear below 1 kHz (200/3 Hz per mel), logarithmic above (27 mels per factor of 6.4).
LINEAR_HZ_PER_MEL = 200.0 / 3.0
BREAK_HZ = 1000.0
BREAK_MEL = BREAK_HZ / LINEAR_HZ_PER_MEL
LOG_STEP = math.log(6.4) / 27.0


def slaney_mel_filterbank(
    sample_rate: int,
    n_fft: int,
    num_mels: int,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    norm: str | None = "slaney",
) -> Tensor:
    """Give the (num_mels, n_fft // 2 + 1) float32 weights that turn a spectrum into mel bands.

    `norm` "slaney" scales every triangle to unit area (in Hz); None leaves its peak at 1.  `high_hz` None
    is half the sample rate.  Raises ValueError for an empty band or an unknown norm.
    """
    high_hz = sample_rate / 2 if high_hz is None else high_hz
    if not 0 <= low_hz < high_hz <= sample_rate / 2:
        raise ValueError(
            f"lowfreq {low_hz} and highfreq {high_hz}: need 0 <= lowfreq < highfreq <= {sample_rate / 2}"
        )
    if norm not in ("slaney", None):
        raise ValueError(f"mel_norm: {norm!r} is not supported; use slaney or null")
    bins_hz = torch.linspace(0.0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    mels = torch.linspace(_hz_to_mel(low_hz), _hz_to_mel(high_hz), num_mels + 2, dtype=torch.float64)
    edges_hz = torch.where(
        mels >= BREAK_MEL,
        BREAK_HZ * torch.exp(LOG_STEP * (mels - BREAK_MEL)),
        LINEAR_HZ_PER_MEL * mels,
    )
    widths = edges_hz.diff()
    distance = edges_hz[:, None] - bins_hz[None, :]
    rising = -distance[:-2] / widths[:-1, None]
    falling = distance[2:] / widths[1:, None]
    # The triangles are rounded to float32 before they are scaled, as in librosa: the last bit of a weight
    # is NeMo's.
    weights = torch.minimum(rising, falling).clamp(min=0.0).float()
    if norm == "slaney":
        area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
        weights = (weights.double() * area[:, None]).float()
    return weights


def _hz_to_mel(frequency: float) -> float:
    if frequency >= BREAK_HZ:
        return BREAK_MEL + math.log(frequency / BREAK_HZ) / LOG_STEP
    return frequency / LINEAR_HZ_PER_MEL
