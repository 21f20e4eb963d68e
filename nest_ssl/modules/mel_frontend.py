"""NeMo's mel front end behind the interface of FunASR's: one utterance in, its frames out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.padded_features import padded_features


class MelFrontend:
    """AudioToMelSpectrogramPreprocessor with its keys, for a NEST encoder inside Fun-ASR; can be pickled.

    Features are those of the preprocessor in evaluation, without frames of padding.  Dither, of deviation
    `dither` on samples in [-1, 1], is added only where a generator is given.
    """

    lfr_m = lfr_n = 1
    cmvn_file = None

    def __init__(self, **options: Any):
        self.options = dict(options)
        self.preprocessor = AudioToMelSpectrogramPreprocessor(**{**options, "pad_to": 0}).eval()
        self.featurizer = self.preprocessor.featurizer
        self.fs: int = self.preprocessor.sample_rate
        self.dither: float = self.featurizer.dither
        self.frame_shift = 1000 * self.featurizer.hop_length / self.fs

    def __getstate__(self) -> dict[str, Any]:
        return self.options  # the preprocessor holds Python's generator, a module

    def __setstate__(self, options: dict[str, Any]) -> None:
        type(self).__init__(self, **options)

    def output_size(self) -> int:
        """Give the width of a feature frame."""
        return int(self.featurizer.fb.shape[1]) * self.featurizer.frame_splicing

    @property
    def frame_s(self) -> float:
        """Seconds from one feature frame to the next."""
        return self.featurizer.hop_length / self.fs

    def frames_of(self, num_samples: int) -> int:
        """Give the feature frames of `num_samples`."""
        return int(self.featurizer.get_seq_len(torch.tensor([num_samples]))[0])

    @torch.no_grad()
    def features(
        self,
        samples: Tensor,
        generator: torch.Generator | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """samples (N,) float in [-1, 1] at `fs` -> (T, width) float32, T of `frames_of`.

        `augment` gets the normalised features (T, width), and gives frames back.  Raises ValueError for
        audio without a whole frame.
        """
        if samples.dim() != 1 or not self.frames_of(len(samples)):
            raise ValueError(
                f"samples have the shape {tuple(samples.shape)}; a signal (N,) with a frame of "
                f"{self.frame_shift:g} ms or more is needed"
            )
        signal = samples.to(torch.float32)
        if self.dither and generator is not None:
            noise = torch.randn(signal.shape, generator=generator, device=generator.device)
            signal = signal + self.dither * noise.to(signal.device)
        found, frames = self.preprocessor(signal[None], torch.tensor([len(signal)], device=signal.device))
        features = found[0, :, : int(frames[0])].T
        return features.contiguous() if augment is None else augment(features.contiguous())

    def forward(
        self, input: Tensor, input_lengths: Sequence[int] | Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """input (B, N), lengths (B,) in samples -> (B, T, width) float32 padded with 0, frames (B,) int32."""
        return padded_features(self.features, input, input_lengths, generator)

    __call__ = forward
