"""What changes an utterance of fine-tuning from epoch to epoch, drawn from (seed, epoch, utterance id)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nest_ssl.config import suggestion
from nest_ssl.data.streams import utterance_random
from nest_ssl.files.audio import resample

MASKS = {"freq_masks": 0, "freq_width": 27, "time_masks": 0, "time_width": 0.05}


class SpecAugment:
    """Replaces bands and spans of log-mel energies by their mean over the utterance.

    freq_masks bands of 0 to freq_width bins, time_masks spans of 0 to time_width frames; a time_width below
    1 is a share of the utterance's frames.  Source: Park et al., 2019, arXiv 1904.08779, without warping;
    a share in time as in Park et al., 2020, arXiv 1912.05533.
    """

    def __init__(self, freq_masks: int, freq_width: int, time_masks: int, time_width: float) -> None:
        self.freq_masks, self.freq_width = freq_masks, freq_width
        self.time_masks, self.time_width = time_masks, time_width

    def __call__(self, energies: Tensor, draws: np.random.RandomState) -> Tensor:
        """energies (F, M) float32 -> a masked copy of them."""
        frames, bins = energies.shape
        masked = torch.zeros(frames, bins, dtype=torch.bool)
        for _ in range(self.freq_masks):
            start, stop = _span(bins, self.freq_width, draws)
            masked[:, start:stop] = True
        width = self.time_width if self.time_width >= 1 else self.time_width * frames
        for _ in range(self.time_masks):
            start, stop = _span(frames, int(width), draws)
            masked[start:stop] = True
        return torch.where(masked, energies.mean(), energies)


class Speed:
    """Plays an utterance faster (above 1) or slower (below 1) by a factor drawn from a list."""

    def __init__(self, factors: Sequence[float]) -> None:
        self.factors = [float(factor) for factor in factors]

    def draw(self, draws: np.random.RandomState) -> float:
        """Give one of the factors."""
        return self.factors[draws.randint(len(self.factors))]


def played(samples: np.ndarray, sample_rate: int, factor: float) -> np.ndarray:
    """Give (T,) float32 samples played at `factor`: ceil(T / factor) of them or one more."""
    return samples if factor == 1.0 else resample(samples, round(sample_rate * factor), sample_rate)


def utterance_stream(seed: int, epoch: int, utterance_id: str, purpose: str) -> np.random.RandomState:
    """Give the stream of one use of an utterance in an epoch; other uses do not move it."""
    return utterance_random(seed, epoch, f"{utterance_id}\x1f{purpose}")


def seeds(draws: np.random.RandomState) -> tuple[random.Random, torch.Generator]:
    """Give Python's and torch's generators, started from a stream."""
    first, second = (int(n) for n in draws.randint(0, 2**62, size=2, dtype=np.int64))
    return random.Random(first), torch.Generator().manual_seed(second)


def spec_augment_from_config(section: Any, name: str) -> SpecAugment | None:
    """Build from {freq_masks, freq_width, time_masks, time_width}; None for none; ValueError names it."""
    if not section:
        return None
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} must be a section with {', '.join(MASKS)}, not {section!r}")
    for key, value in section.items():
        if key not in MASKS:
            raise ValueError(f"{name}.{key} is no option; {suggestion(str(key), MASKS)}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = number and (isinstance(value, int) or key == "time_width")
        if not whole or value < 0:
            kind = (
                "a number of frames, or below 1 a share of them" if key == "time_width" else "a whole number"
            )
            raise ValueError(f"{name}.{key} must be {kind} from 0 on, not {value!r}")
    return SpecAugment(**(MASKS | dict(section)))


def speed_from_config(factors: Any, name: str) -> Speed | None:
    """Build from a list of factors such as [0.9, 1.0, 1.1]; None for none; ValueError names the key."""
    if not factors:
        return None
    if not isinstance(factors, Sequence) or isinstance(factors, str):
        raise ValueError(f"{name} must be a list of factors such as [0.9, 1.0, 1.1], not {factors!r}")
    for factor in factors:
        number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not number or not 0.5 <= factor <= 2:
            raise ValueError(f"{name}: the factor {factor!r} is no number from 0.5 to 2")
    return Speed(factors)


def _span(size: int, width: int, draws: np.random.RandomState) -> tuple[int, int]:
    length = draws.randint(0, min(width, size) + 1)
    start = draws.randint(0, size - length + 1)
    return start, start + length
