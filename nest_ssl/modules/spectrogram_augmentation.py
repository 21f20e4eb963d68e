"""Cuts in spectrograms: SpecAugment, rectangles, and patches of time that a model has to guess."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn


class SpectrogramAugmentation(nn.Module):
    """Blank random stripes of time and frequency, and rectangles, with NeMo's keys and random draws.

    `freq_masks` stripes of up to `freq_width` bands and `time_masks` of up to `time_width` frames (an int)
    or of that share of the item (a float), set to `mask_value`; drawn from torch's generator of the device.
    `rect_masks` rectangles of up to `rect_freq` by `rect_time`, set to 0; drawn from `rng`, None being
    Python's global generator.  Applied wherever the module is called, training mode or not, as in NeMo.

    `use_vectorized_spec_augment` false (an older way of drawing) is refused if there is something to draw;
    `use_numba_spec_augment` changes nothing.
    Source: SpecAugment (arXiv 1904.08779); Cutout (arXiv 1708.04552).
    """

    def __init__(
        self,
        freq_masks: int = 0,
        time_masks: int = 0,
        freq_width: int = 10,
        time_width: float = 10,
        rect_masks: int = 0,
        rect_time: int = 5,
        rect_freq: int = 20,
        rng: Any = None,
        mask_value: float = 0.0,
        use_vectorized_spec_augment: bool = True,
        use_numba_spec_augment: bool = False,
    ) -> None:
        super().__init__()
        if not use_vectorized_spec_augment and freq_masks + time_masks > 0:
            raise ValueError(
                "use_vectorized_spec_augment: false is not supported; true cuts stripes of the same sizes"
            )
        if isinstance(time_width, float) and not 0.0 <= time_width <= 1.0:
            raise ValueError(f"time_width: {time_width} is not a share from 0 to 1; frames are given as int")
        self.freq_masks, self.freq_width = freq_masks, freq_width
        self.time_masks, self.time_width = time_masks, time_width
        self.rect_masks, self.rect_time, self.rect_freq = rect_masks, rect_time, rect_freq
        self.rng = random if rng is None else rng
        self.mask_value = mask_value

    @property
    def cuts_anything(self) -> bool:
        return self.freq_masks + self.time_masks + self.rect_masks > 0

    @torch.no_grad()
    def forward(self, input_spec: Tensor, length: Tensor) -> Tensor:
        """input_spec (B, D, T), length (B,) frames -> (B, D, T) with the cuts; the input is left alone."""
        if self.rect_masks:
            input_spec = self._without_rectangles(input_spec)
        if self.freq_masks + self.time_masks == 0:
            return input_spec
        batch, bands, frames = input_spec.shape
        if isinstance(self.time_width, float):
            widths = (self.time_width * length).clamp(max=frames)[:, None]
        else:
            widths = self.time_width
        times = stripes(self.time_masks, widths, length[:, None], frames)
        bands_cut = stripes(self.freq_masks, self.freq_width, length.new_full((batch, 1), bands), bands)
        return input_spec.masked_fill(times[:, None, :] | bands_cut[:, :, None], self.mask_value)

    def _without_rectangles(self, spec: Tensor) -> Tensor:
        spec = spec.clone()
        _, bands, frames = spec.shape
        for item in spec:
            for _ in range(self.rect_masks):
                band = self.rng.randint(0, bands - self.rect_freq)
                frame = self.rng.randint(0, frames - self.rect_time)
                height = self.rng.randint(0, self.rect_freq)
                width = self.rng.randint(0, self.rect_time)
                item[band : band + height, frame : frame + width] = 0.0
        return spec


class MaskedPatchAugmentation(nn.Module):
    """Set whole patches of `patch_size` frames to 0, equally many in every item of a batch; NeMo's draws.

    `mask_patches` at least 1 is their number, less than 1 the share of the shortest item to mask, rounded
    up to whole patches; never more than the shortest item has.  Then `freq_masks` stripes of up to
    `freq_width` bands, as `SpectrogramAugmentation`.  Patches are drawn from Python's global generator.
    """

    def __init__(
        self, patch_size: int = 48, mask_patches: float = 10.0, freq_masks: int = 0, freq_width: int = 0
    ) -> None:
        super().__init__()
        if patch_size < 1:
            raise ValueError(f"patch_size: {patch_size} frames; at least 1 is needed")
        if mask_patches < 0:
            raise ValueError(f"mask_patches: {mask_patches} is negative")
        self.patch_size = patch_size
        self.mask_patches = mask_patches
        self.spec_augment = SpectrogramAugmentation(freq_masks=freq_masks, freq_width=freq_width)

    def forward(self, input_spec: Tensor, length: Tensor) -> Tensor:
        """input_spec (B, D, T), length (B,) frames -> (B, D, T), masked; the input is left alone."""
        lengths = length.tolist()
        count = self._num_patches(min(lengths))
        keep = torch.ones(len(lengths), 1, input_spec.shape[2], dtype=torch.bool)
        for item, frames in enumerate(lengths):
            for patch in random.sample(range(frames // self.patch_size), count):
                keep[item, :, patch * self.patch_size : (patch + 1) * self.patch_size] = False
        masked = input_spec.masked_fill(~keep.to(input_spec.device, non_blocking=True), 0.0)
        return self.spec_augment(input_spec=masked, length=length)

    def _num_patches(self, shortest: int) -> int:
        """Patches per item, from the frames of the shortest."""
        if self.mask_patches >= 1:
            count = int(self.mask_patches)
        else:
            frames = int(torch.tensor(shortest) * self.mask_patches)  # float32, whose rounding is NeMo's
            count = -(-frames // self.patch_size)
        return min(count, shortest // self.patch_size)


def stripes(count: int, max_width: Tensor | int, room: Tensor, size: int) -> Tensor:
    """`count` stripes per item, of less than `max_width` within `room` (B, 1): (B, size) bool, True inside.

    `max_width` is a number or (B, 1).  Widths are drawn first, then starts, on the device of `room`.
    """
    batch = len(room)
    widths = (torch.rand(batch, count, device=room.device) * max_width).long()
    starts = (torch.rand(batch, count, device=room.device) * (room - widths)).long()
    positions = torch.arange(size, device=room.device)
    inside = (positions >= starts[:, :, None]) & (positions < (starts + widths)[:, :, None])
    return inside.any(dim=1)
