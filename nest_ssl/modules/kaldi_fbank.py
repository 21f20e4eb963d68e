"""Kaldi's log-mel filter bank energies, with the numbers of torchaudio.compliance.kaldi.fbank."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

PREEMPHASIS = 0.97
LOW_HZ = 20.0  # the lowest filter begins here, the highest ends at half the sample rate
FLOOR = torch.finfo(torch.float32).eps  # below it energies count as this before the logarithm
WINDOWS = ("hamming", "hanning", "povey", "rectangular", "blackman")


def fbank(
    samples: Tensor,
    sample_rate: int,
    num_mels: int = 80,
    frame_ms: float = 25.0,
    shift_ms: float = 10.0,
    window: str = "hamming",
    dither: float = 0.0,
    snip_edges: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """samples (N,) float32 on the scale of 16-bit integers -> (F, num_mels) float32, F of `num_frames`.

    `dither` is the deviation of white noise that is added to every frame, drawn from `generator`; without
    a generator there is none, which torchaudio cannot offer.  Frames lose their mean, get a pre-emphasis
    of 0.97 (a frame's first sample stands before itself) and a symmetric window.
    Source: Kaldi's feature-fbank.cc and mel-computations.cc.
    """
    width, shift = window_samples(sample_rate, frame_ms), window_samples(sample_rate, shift_ms)
    frames = _framed(samples, width, shift, snip_edges)
    if dither and generator is not None:
        noise = torch.randn(frames.shape, generator=generator, device=generator.device)
        frames = frames + dither * noise.to(frames.device)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames - PREEMPHASIS * torch.cat((frames[:, :1], frames[:, :-1]), dim=1)
    size = 2 ** math.ceil(math.log2(width))
    frames = frames * _window(window, width).to(frames.device)
    spectrum = torch.fft.rfft(frames, n=size).abs().square()
    energies = spectrum @ _mel_filters(sample_rate, size, num_mels).to(frames.device)
    return energies.clamp(min=FLOOR).log()


def window_samples(sample_rate: int, milliseconds: float) -> int:
    """Give whole samples in so many ms; truncated in floating point as Kaldi does."""
    return int(sample_rate * milliseconds * 0.001)


def num_frames(num_samples: int, width: int, shift: int, snip_edges: bool = True) -> int:
    """Give the frames in `num_samples`: whole ones only, or with `snip_edges` false one per shift."""
    if snip_edges:
        return 0 if num_samples < width else 1 + (num_samples - width) // shift
    return (num_samples + shift // 2) // shift


def _framed(samples: Tensor, width: int, shift: int, snip_edges: bool) -> Tensor:
    """(F, width) view of the samples; without `snip_edges` they are mirrored at both ends."""
    if snip_edges:
        return samples.unfold(0, width, shift)
    before = width // 2 - shift // 2
    mirrored = samples.flip(0)
    start = torch.cat((mirrored[-before:], samples)) if before > 0 else samples[-before:]
    return torch.cat((start, mirrored)).unfold(0, width, shift)[
        : num_frames(len(samples), width, shift, False)
    ]


@lru_cache(maxsize=32)
def _window(name: str, width: int) -> Tensor:
    if name == "hamming":
        return torch.hamming_window(width, periodic=False, alpha=0.54, beta=0.46, dtype=torch.float32)
    if name == "hanning":
        return torch.hann_window(width, periodic=False, dtype=torch.float32)
    if name == "povey":  # a Hann window that does not reach zero as early
        return torch.hann_window(width, periodic=False, dtype=torch.float32).pow(0.85)
    if name == "rectangular":
        return torch.ones(width, dtype=torch.float32)
    if name == "blackman":
        angle = 2 * math.pi / (width - 1) * torch.arange(width, dtype=torch.float32)
        return 0.42 - 0.5 * angle.cos() + 0.08 * (2 * angle).cos()
    raise ValueError(f"window: {name!r} is not one of {', '.join(WINDOWS)}")


@lru_cache(maxsize=32)
def _mel_filters(sample_rate: int, size: int, num_mels: int) -> Tensor:
    """(size // 2 + 1, num_mels) float32: triangles that are even on the scale 1127 ln(1 + Hz / 700)."""
    low, high = _mel(LOW_HZ), _mel(sample_rate / 2)
    step = (high - low) / (num_mels + 1)
    number = torch.arange(num_mels)[:, None]
    left, centre, right = low + number * step, low + (number + 1.0) * step, low + (number + 2.0) * step
    frequencies = sample_rate / size * torch.arange(size // 2)
    mel = 1127.0 * (1.0 + frequencies / 700.0).log()
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    return F.pad(filters, (0, 1)).T.contiguous()  # half the sample rate itself belongs to no filter


def _mel(hz: float) -> float:
    return 1127.0 * math.log(1.0 + hz / 700.0)
