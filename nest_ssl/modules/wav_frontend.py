"""FunASR's front end: Kaldi's log-mel energies, seven frames stacked to one of 60 ms, Kaldi's CMVN."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nest_ssl.modules.kaldi_fbank import WINDOWS, fbank, num_frames, window_samples
from nest_ssl.modules.padded_features import padded_features

SCALE = 1 << 15  # samples in [-1, 1] to the range of 16-bit integers, which Kaldi works in

Augment = Callable[[Tensor], Tensor]


class WavFrontend:
    """Samples to stacked features; keys and defaults are FunASR's, the object can be pickled.

    fs: sample rate in Hz that samples must have.  frame_length and frame_shift: ms.  lfr_m frames, lfr_n
    apart, become one; frame 0 is repeated before the first, the last one behind the end.
    dither: deviation of the noise on the scale of 16-bit samples; it is drawn only where a generator is
    given, so that features without one are exact (FunASR draws it always, from the global generator).
    cmvn_file: a text of Kaldi's nnet1 with <AddShift> and <Rescale>, applied behind the stacking.
    upsacle_samples (sic) false: samples have the scale of 16-bit integers already.
    filter_length_min and filter_length_max are FunASR's, which does not read them either.
    ValueError names the key that cannot be met; FileNotFoundError a missing cmvn_file.
    """

    def __init__(
        self,
        cmvn_file: str | os.PathLike | None = None,
        fs: int = 16000,
        window: str = "hamming",
        n_mels: int = 80,
        frame_length: float = 25,
        frame_shift: float = 10,
        filter_length_min: int = -1,
        filter_length_max: int = -1,
        lfr_m: int = 1,
        lfr_n: int = 1,
        dither: float = 1.0,
        snip_edges: bool = True,
        upsacle_samples: bool = True,
    ):
        for name, value in (("fs", fs), ("n_mels", n_mels), ("lfr_m", lfr_m), ("lfr_n", lfr_n)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: {value!r} is not a whole number from 1 on")
        if window not in WINDOWS:
            raise ValueError(f"window: {window!r} is not one of {', '.join(WINDOWS)}")
        if window_samples(fs, frame_shift) < 1 or window_samples(fs, frame_length) < 2:
            raise ValueError(
                f"frame_length: {frame_length} ms and frame_shift: {frame_shift} ms at {fs} Hz: too short"
            )
        self.fs, self.window, self.n_mels = fs, window, n_mels
        self.frame_length, self.frame_shift = frame_length, frame_shift
        self.lfr_m, self.lfr_n = lfr_m, lfr_n
        self.dither, self.snip_edges, self.upsacle_samples = dither, snip_edges, upsacle_samples
        self.cmvn_file = cmvn_file
        self.cmvn = None if cmvn_file is None else read_cmvn(cmvn_file, self.output_size())

    def output_size(self) -> int:
        """Give the width of a feature frame."""
        return self.n_mels * self.lfr_m

    @property
    def frame_s(self) -> float:
        """Seconds from one feature frame to the next: 0.06 for a shift of 10 ms and lfr_n 6."""
        return self.frame_shift * self.lfr_n / 1000

    def frames_of(self, num_samples: int) -> int:
        """Give the feature frames of `num_samples`; audio shorter than a window has one."""
        return -(-self._fbank_frames(num_samples) // self.lfr_n)

    @torch.no_grad()
    def features(
        self, samples: Tensor, generator: torch.Generator | None = None, augment: Augment | None = None
    ) -> Tensor:
        """samples (N,) float in [-1, 1] at `fs` -> (T, lfr_m * n_mels) float32, T of `frames_of`.

        `augment` gets the energies (F, n_mels) float32 before they are stacked, and gives as many frames
        back or others; `generator` is for dither.  Raises ValueError for less than two samples.
        """
        energies = self.energies(samples, generator)
        if augment is not None:
            energies = augment(energies)
        return self.stacked(energies)

    @torch.no_grad()
    def stacked(self, energies: Tensor) -> Tensor:
        """energies (F, n_mels) -> (ceil(F / lfr_n), lfr_m * n_mels): stacked, with CMVN if there is one."""
        features = stack(energies, self.lfr_m, self.lfr_n)
        if self.cmvn is not None:
            shift, scale = self.cmvn.to(features.device)
            features = (features + shift) * scale
        return features

    @torch.no_grad()
    def energies(self, samples: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """samples (N,) -> Kaldi's log-mel energies (F, n_mels) float32, one per frame_shift."""
        if samples.dim() != 1 or len(samples) < 2:
            raise ValueError(
                f"samples have the shape {tuple(samples.shape)}; a signal (N,) of two or more is needed"
            )
        samples = samples.to(torch.float32)
        return fbank(
            samples * SCALE if self.upsacle_samples else samples,
            self.fs,
            self.n_mels,
            self._frame_ms(len(samples)),
            self.frame_shift,
            self.window,
            self.dither,
            self.snip_edges,
            generator,
        )

    def forward(
        self, input: Tensor, input_lengths: Sequence[int] | Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """input (B, N), lengths (B,) in samples -> (B, T, width) float32 padded with 0, frames (B,) int32."""
        return padded_features(self.features, input, input_lengths, generator)

    __call__ = forward

    def _frame_ms(self, num_samples: int) -> float:
        return min(self.frame_length, num_samples / self.fs * 1000)

    def _fbank_frames(self, num_samples: int) -> int:
        width = window_samples(self.fs, self._frame_ms(num_samples))
        return num_frames(num_samples, width, window_samples(self.fs, self.frame_shift), self.snip_edges)


def stack(frames: Tensor, count: int, step: int) -> Tensor:
    """frames (F, D) -> (ceil(F / step), count * D): `count` neighbours around every `step`-th frame."""
    if count == 1 and step == 1:
        return frames
    first = torch.arange(-(-len(frames) // step), device=frames.device) * step - (count - 1) // 2
    index = first[:, None] + torch.arange(count, device=frames.device)
    return frames[index.clamp(0, len(frames) - 1)].flatten(1)


def read_cmvn(path: str | os.PathLike, width: int) -> Tensor:
    """Read (2, width) float32, shift and scale, from Kaldi's nnet1 text; ValueError names file and part."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"cmvn_file {path} does not exist")
    words = path.read_text(encoding="utf-8", errors="replace").split()
    return torch.stack([_component(words, name, path, width) for name in ("<AddShift>", "<Rescale>")])


def _component(words: list[str], name: str, path: Path, width: int) -> Tensor:
    """The numbers between the brackets that follow `<LearnRateCoef> 0 [` behind a component's name."""
    try:
        start = words.index("[", words.index(name)) + 1
        values = torch.tensor([float(word) for word in words[start : words.index("]", start)]])
    except ValueError as error:
        raise ValueError(f"{path}: no numbers in brackets behind {name}: {error}") from error
    if len(values) != width:
        raise ValueError(
            f"{path}: {name} has {len(values)} values, features have {width} (n_mels times lfr_m)"
        )
    return values
