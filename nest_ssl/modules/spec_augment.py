"""SpecAugment: bands of frequencies and stretches of time, set to a constant (arXiv 1904.08779)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SpectrogramAugmentation(nn.Module):
    """Mask features in training; in evaluation they pass unchanged.

    freq_masks, time_masks: how many of each per utterance.  freq_width: a mask has 0 to freq_width - 1 bands.
    time_width: an int is frames likewise; a float in [0, 1] is a share of the utterance.  mask_value: what
    masked cells become.  Draws come from torch's generator of the features' device.  `rng`,
    `use_vectorized_code` and `use_numba_spec_augment` are NeMo's, without effect.
    """

    def __init__(
        self,
        freq_masks: int = 0,
        time_masks: int = 0,
        freq_width: int = 10,
        time_width: int | float = 10,
        rng: Any = None,
        mask_value: float = 0.0,
        use_vectorized_code: bool = True,
        use_numba_spec_augment: bool = False,
    ) -> None:
        super().__init__()
        for key, value in (
            ("freq_masks", freq_masks),
            ("time_masks", time_masks),
            ("freq_width", freq_width),
        ):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{key}: {value!r} must be a whole number of at least 0")
        if isinstance(time_width, float) and not 0.0 <= time_width <= 1.0:
            raise ValueError(f"time_width: {time_width} is a share of the utterance if a float: 0 to 1")
        self.freq_masks, self.time_masks = freq_masks, time_masks
        self.freq_width, self.time_width = freq_width, time_width
        self.mask_value = mask_value

    @torch.no_grad()
    def forward(self, input_spec: Tensor, length: Tensor) -> Tensor:
        """input_spec (B, D, T), length (B,) frames -> a masked copy; time masks lie within the length."""
        if not self.training or not (self.freq_masks or self.time_masks):
            return input_spec
        bands, frames = input_spec.shape[1:]
        length = length.float().unsqueeze(1)
        share = isinstance(self.time_width, float)
        time_width = (self.time_width * length) if share else torch.full_like(length, self.time_width)
        in_time = _masks(self.time_masks, time_width.clamp(max=frames), length, frames)
        freq_width = torch.full_like(length, min(self.freq_width, bands))
        in_frequency = _masks(self.freq_masks, freq_width, torch.full_like(length, bands), bands)
        masked = in_frequency[:, :, None] | in_time[:, None, :]
        return input_spec.masked_fill(masked, self.mask_value)


def _masks(count: int, width: Tensor, extent: Tensor, size: int) -> Tensor:
    """(B, size) bool, True under any of `count` masks narrower than `width` (B, 1) within `extent` (B, 1)."""
    drawn = torch.rand(2, len(width), count, device=width.device)
    widths = (drawn[0] * width).long()
    starts = (drawn[1] * (extent - widths).clamp(min=0)).long()
    places = torch.arange(size, device=width.device)
    inside = (places >= starts[:, :, None]) & (places < (starts + widths)[:, :, None])
    return inside.any(dim=1)
