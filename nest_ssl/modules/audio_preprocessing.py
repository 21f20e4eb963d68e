"""Waveform to normalised log-mel features, with NeMo's options and numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nest_ssl.modules.mel_filterbank import slaney_mel_filterbank

WINDOWS = {
    "hann": torch.hann_window,
    "hamming": torch.hamming_window,
    "blackman": torch.blackman_window,
    "bartlett": torch.bartlett_window,
}
STD_FLOOR = 1e-5  # added to the deviation, so that a constant band does not divide by zero
NO_NORMALIZATION = (None, False, "", "none", "NA")


class AudioToMelSpectrogramPreprocessor(nn.Module):
    """Turn a batch of waveforms into normalised log-mel features, always in float32 and without gradient.

    The keys and defaults are NeMo's.  `window_size` and `window_stride` are seconds; `n_window_size` and
    `n_window_stride` say the same in samples: one form only, false or 0 for the other.  `n_fft` None is the
    next power of two.
    `log_zero_guard_value` may be a number, "tiny" or "eps" (of float32).  `normalize` is "per_feature",
    "all_features", a mapping with `fixed_mean` and `fixed_std`, or null.  `dither` is the deviation of
    white noise added in training mode.  `pad_to` pads the time axis to a multiple (0: no padding).

    `nb_augmentation_prob`: in training mode an item loses all from `nb_max_freq` Hz on with that
    probability, as telephone speech does; no effect where half the sample rate is not above it.  `rng`, a
    random.Random, draws it; None is Python's global generator, which the trainer seeds.
    `dither_in_place` false leaves the caller's waveform as it is, true is NeMo's way.

    Options that NeMo accepts without effect (`use_torchaudio`, `stft_exact_pad`, `stft_conv`) are accepted;
    the torchaudio front end of NeMo before 2.0 had the same features but for rounding.
    Raises ValueError for values that are not supported, naming the key.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        window_size: float | None = 0.02,
        window_stride: float | None = 0.01,
        n_window_size: int | None = None,
        n_window_stride: int | None = None,
        window: str = "hann",
        normalize: str | Mapping[str, Sequence[float]] | None = "per_feature",
        n_fft: int | None = None,
        preemph: float | None = 0.97,
        features: int = 64,
        lowfreq: float = 0,
        highfreq: float | None = None,
        log: bool = True,
        log_zero_guard_type: str = "add",
        log_zero_guard_value: float | str = 2**-24,
        dither: float = 1e-5,
        pad_to: int = 16,
        frame_splicing: int = 1,
        exact_pad: bool = False,
        pad_value: float = 0.0,
        mag_power: float = 2.0,
        rng: Any = None,
        nb_augmentation_prob: float = 0.0,
        nb_max_freq: int = 4000,
        mel_norm: str | None = "slaney",
        use_torchaudio: bool = False,
        stft_exact_pad: bool = False,
        stft_conv: bool = False,
        dither_in_place: bool = True,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.featurizer = FilterbankFeatures(
            sample_rate=sample_rate,
            window_length=_samples("window_size", window_size, n_window_size, sample_rate),
            hop_length=_samples("window_stride", window_stride, n_window_stride, sample_rate),
            window=window,
            normalize=normalize,
            n_fft=n_fft,
            preemphasis=preemph,
            num_mels=features,
            low_hz=lowfreq,
            high_hz=highfreq,
            log=log,
            log_zero_guard_type=log_zero_guard_type,
            log_zero_guard_value=log_zero_guard_value,
            dither=dither,
            pad_to=pad_to,
            frame_splicing=frame_splicing,
            exact_pad=exact_pad,
            pad_value=pad_value,
            magnitude_power=mag_power,
            mel_norm=mel_norm,
            dither_in_place=dither_in_place,
            narrow_band_prob=nb_augmentation_prob,
            narrow_band_hz=nb_max_freq,
            rng=rng,
        )
        # Follows the model's dtype, so that model.half() gets half-precision features from a float32
        # computation.
        self.register_buffer("dtype_sentinel_tensor", torch.tensor(0.0), persistent=False)

    @torch.no_grad()
    def forward(self, input_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """input_signal (B, N), length (B,) int64 in samples -> features (B, D, T), frames (B,) int64.

        In training mode the dither noise is added to `input_signal` in place when that is float32, as in
        NeMo (unless `dither_in_place` is false, or `exact_pad` pads it first).
        """
        signal = self.featurizer.padded_and_dithered(input_signal.to(torch.float32))
        features, frames = self.featurizer(signal, length)
        return features.to(self.dtype_sentinel_tensor.dtype), frames

    @torch.no_grad()
    def forward_pair(
        self, first: Tensor, first_length: Tensor, second: Tensor, second_length: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The features and frames of two batches of one shape (B, N), computed as one batch of 2 B.

        Equal to two calls, dither included: its noise is drawn for `first`, then for `second`.
        """
        signals = [
            self.featurizer.padded_and_dithered(signal.to(torch.float32)) for signal in (first, second)
        ]
        features, frames = self.featurizer(torch.cat(signals), torch.cat([first_length, second_length]))
        first_features, second_features = features.to(self.dtype_sentinel_tensor.dtype).chunk(2)
        first_frames, second_frames = frames.chunk(2)
        return first_features, first_frames, second_features, second_frames


class FilterbankFeatures(nn.Module):
    """The computation behind `AudioToMelSpectrogramPreprocessor`, with lengths in samples.

    Buffers `window` (window_length,) and `fb` (1, num_mels, n_fft // 2 + 1) are part of the state dict.
    """

    window: Tensor | None
    fb: Tensor

    def __init__(
        self,
        sample_rate: int,
        window_length: int,
        hop_length: int,
        window: str,
        normalize: str | Mapping[str, Sequence[float]] | None,
        n_fft: int | None,
        preemphasis: float | None,
        num_mels: int,
        low_hz: float,
        high_hz: float | None,
        log: bool,
        log_zero_guard_type: str,
        log_zero_guard_value: float | str,
        dither: float,
        pad_to: int,
        frame_splicing: int,
        exact_pad: bool,
        pad_value: float,
        magnitude_power: float,
        mel_norm: str | None,
        dither_in_place: bool,
        narrow_band_prob: float,
        narrow_band_hz: float,
        rng: Any,
    ) -> None:
        super().__init__()
        self.window_length, self.hop_length = window_length, hop_length
        self.n_fft = n_fft or 2 ** math.ceil(math.log2(window_length))
        if self.n_fft < window_length:
            raise ValueError(f"n_fft: {n_fft} is shorter than the window of {window_length} samples")
        if window not in (*WINDOWS, "none", None):
            raise ValueError(f"window: {window!r} is not one of {', '.join(WINDOWS)}, none")
        if log_zero_guard_type not in ("add", "clamp"):
            raise ValueError(f"log_zero_guard_type: {log_zero_guard_type!r} is not add or clamp")
        if isinstance(pad_to, bool) or not isinstance(pad_to, int) or pad_to < 0:
            raise ValueError(f"pad_to: {pad_to!r} is not supported; use a number of frames, 0 for no padding")
        self.normalize = _checked_normalization(normalize)
        self.preemphasis = preemphasis
        self.log, self.log_zero_guard_type = log, log_zero_guard_type
        self.log_zero_guard_value = _guard_value(log_zero_guard_value)
        self.dither, self.dither_in_place = dither, dither_in_place
        if not 0.0 <= narrow_band_prob <= 1.0:
            raise ValueError(f"nb_augmentation_prob: {narrow_band_prob} is not a probability")
        self.narrow_band_prob = narrow_band_prob if narrow_band_hz < sample_rate / 2 else 0.0
        self.narrow_band_bin = int((narrow_band_hz / sample_rate) * self.n_fft)
        self.rng = random if rng is None else rng
        self.pad_to, self.pad_value = pad_to, pad_value
        self.frame_splicing = frame_splicing
        # Samples of zeros on either side; exact_pad makes N samples give exactly N // hop columns.
        self.exact_pad = exact_pad
        self.stft_padding = (self.n_fft - hop_length) // 2 if exact_pad else self.n_fft // 2
        self.magnitude_power = magnitude_power
        make_window = WINDOWS.get(window)
        self.register_buffer("window", make_window(window_length, periodic=False) if make_window else None)
        filters = slaney_mel_filterbank(sample_rate, self.n_fft, num_mels, low_hz, high_hz, mel_norm)
        self.register_buffer("fb", filters[None])

    def get_seq_len(self, num_samples: Tensor) -> Tensor:
        """Valid frames (int64) in signals of `num_samples`: N // hop without `exact_pad`, 0 for 0."""
        frames = (num_samples + 2 * self.stft_padding - self.n_fft) // self.hop_length
        return torch.where(num_samples == 0, 0, frames).to(torch.int64)

    def padded_and_dithered(self, signal: Tensor) -> Tensor:
        """signal (B, N) float32 as `forward` takes it: padded for `exact_pad`, with dither in training mode.

        The noise comes from the device's global generator; unless padded, `signal` itself gets it.
        """
        if self.exact_pad:
            signal = F.pad(signal, (self.stft_padding, self.stft_padding))
        if self.training and self.dither > 0:
            noise = self.dither * torch.randn_like(signal)
            signal = signal.add_(noise) if self.dither_in_place else signal + noise
        return signal

    def forward(self, signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """signal (B, N) of `padded_and_dithered`, length (B,) -> features (B, D, T) float32, frames (B,).

        Frames from the item's own length on hold `pad_value`.
        """
        frames = self.get_seq_len(length)
        # With `exact_pad` samples from `length` on are zeroed after the padding, as in NeMo: the last
        # `stft_padding` of the item go too.
        if self.preemphasis is not None:
            signal = torch.cat((signal[:, :1], signal[:, 1:] - self.preemphasis * signal[:, :-1]), dim=1)
            signal = signal.masked_fill(_beyond(length, signal.shape[1]), 0.0)
        with torch.autocast(signal.device.type, enabled=False):
            features = self._mel(signal)
        if self.log and self.log_zero_guard_type == "add":
            features = torch.log(features + self.log_zero_guard_value)
        elif self.log:
            features = torch.log(features.clamp(min=self.log_zero_guard_value))
        if self.frame_splicing > 1:
            features = features.repeat(1, self.frame_splicing, 1)
        padding = _beyond(frames, features.shape[-1])[:, None, :]
        features = self._normalized(features, padding)
        features = features.masked_fill(padding, self.pad_value)
        if self.pad_to and features.shape[-1] % self.pad_to:
            missing = self.pad_to - features.shape[-1] % self.pad_to
            features = F.pad(features, (0, missing), value=self.pad_value)
        return features, frames

    def _mel(self, signal: Tensor) -> Tensor:
        spectrum = torch.stft(
            signal,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.window_length,
            window=None if self.window is None else self.window.float(),
            center=not self.exact_pad,
            pad_mode="constant",
            return_complex=True,
        )
        # The root and the power that undoes it look idle, but keep the last bit equal to NeMo's.
        squares = torch.view_as_real(spectrum).square()
        magnitude = (squares[..., 0] + squares[..., 1]).sqrt()  # several times as fast as a sum over two
        if self.training and self.narrow_band_prob > 0:
            for item in magnitude:
                if self.rng.random() < self.narrow_band_prob:
                    item[self.narrow_band_bin :] = 0.0
        if self.magnitude_power != 1.0:
            magnitude = magnitude.pow(self.magnitude_power)
        return torch.matmul(self.fb.to(magnitude.dtype), magnitude)

    def _normalized(self, features: Tensor, padding: Tensor) -> Tensor:
        if self.normalize is None:
            return features
        if isinstance(self.normalize, Mapping):
            mean, std = (
                torch.tensor(self.normalize[key], device=features.device, dtype=features.dtype).view(1, -1, 1)
                for key in ("fixed_mean", "fixed_std")
            )
            return (features - mean) / std
        axes = (2,) if self.normalize == "per_feature" else (1, 2)
        count = (~padding).sum(dim=2, keepdim=True)
        if self.normalize == "all_features":
            count = count * features.shape[1]
        mean = features.masked_fill(padding, 0.0).sum(dim=axes, keepdim=True) / count
        centred = features - mean
        variance = centred.masked_fill(padding, 0.0).square().sum(dim=axes, keepdim=True) / (count - 1.0)
        std = variance.sqrt()
        std = std.masked_fill(std.isnan(), 0.0) + STD_FLOOR  # a single frame has no deviation: 0 / 0
        return centred / std


def _beyond(length: Tensor, size: int) -> Tensor:
    """(B, size) bool, True from each item's `length` on."""
    return torch.arange(size, device=length.device)[None, :] >= length[:, None]


def _samples(key: str, seconds: float | None, samples: int | None, sample_rate: int) -> int:
    default = {"window_size": 0.02, "window_stride": 0.01}[key]
    samples = samples or None
    if samples is not None and not seconds:
        seconds = None  # NeMo's YAMLs write false where the other form is given
    if samples is not None and seconds not in (None, default):
        raise ValueError(
            f"{key}: {seconds} s and n_{key}: {samples} samples were both given; give one of them"
        )
    count = (
        samples
        if samples is not None
        else int(default * sample_rate if seconds is None else seconds * sample_rate)
    )
    if count <= 0:
        raise ValueError(f"{key}: {seconds} gives {count} samples; a positive number is needed")
    return count


def _checked_normalization(normalize: Any) -> str | Mapping[str, Sequence[float]] | None:
    if isinstance(normalize, Mapping):
        if not {"fixed_mean", "fixed_std"} <= set(normalize):
            raise ValueError("normalize: a mapping needs the keys fixed_mean and fixed_std")
        return normalize
    if normalize in ("per_feature", "all_features"):
        return normalize
    if normalize in NO_NORMALIZATION:
        return None
    raise ValueError(f"normalize: {normalize!r} is not per_feature, all_features, a mapping or null")


def _guard_value(value: float | str) -> float:
    if isinstance(value, str):
        if value not in ("tiny", "eps"):
            raise ValueError(f"log_zero_guard_value: {value!r} is not a number, tiny or eps")
        return getattr(torch.finfo(torch.float32), value)
    return float(value)
