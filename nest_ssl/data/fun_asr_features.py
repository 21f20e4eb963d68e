"""Features of an utterance's audio: read, resampled as FunASR does, augmented, kept in memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nest_ssl.data.fun_asr_augment import SpecAugment, Speed, played, seeds, utterance_stream
from nest_ssl.data.fun_asr_rows import AudioSpan, Conversation
from nest_ssl.data.telephone_channel import TelephoneChannel
from nest_ssl.files.audio import read_audio


class Heard(NamedTuple):
    """Features (T, D) float32 of an audio, its seconds as augmented, and those of the file."""

    features: Tensor
    seconds: float
    file_seconds: float


class AudioFeatures:
    """Gives the features of audio in an epoch.

    frontend: samples to features, as modules.wav_frontend.WavFrontend; its dither, speed, telephone and
    spec_augment are drawn from (seed, epoch, utterance id, turn) and used with `training` alone.
    cache_bytes: what may be kept in memory of the energies of audio that did not pass a telephone channel.
    channel: of files with several, where the row names none (see files.audio.read_audio).
    """

    def __init__(
        self,
        frontend: Any,
        *,
        speed: Speed | None = None,
        telephone: TelephoneChannel | None = None,
        spec_augment: SpecAugment | None = None,
        cache_bytes: int = 0,
        seed: int = 0,
        training: bool = True,
        channel: Any = None,
    ) -> None:
        self.frontend = frontend
        self.speed = speed if training else None
        self.telephone = telephone if training else None
        self.spec_augment = spec_augment if training else None
        self.dithered = training and bool(getattr(frontend, "dither", 0.0))
        self.cache_bytes = cache_bytes
        self.seed = seed
        self.training = training
        self.channel = channel
        self._kept: dict[tuple[int, int, float], tuple[Tensor, float, float]] = {}
        self._kept_bytes = 0
        self._stacks = hasattr(frontend, "stacked")  # else the features are energies, frame by frame

    def facts(self) -> dict[str, Any]:
        """What features depend on beside the files, for fingerprints."""
        simple = int | float | str | bool | dict | None
        frontend = {key: value for key, value in vars(self.frontend).items() if isinstance(value, simple)}
        return {
            "frontend": [type(self.frontend).__name__, frontend],
            "speed": self.speed.factors if self.speed else None,
            "telephone": self.telephone.facts if self.telephone else None,
            "spec_augment": vars(self.spec_augment) if self.spec_augment else None,
            "training": self.training,
        }

    def of(self, conversation: Conversation, item: int, turn: int, epoch: int) -> Heard:
        """Give the features of the audio of a turn; ValueError and FileNotFoundError name the row."""
        span = conversation.turns[turn].audio
        assert span is not None
        stream_of = f"{conversation.utterance_id}\x1f{turn}" if turn else conversation.utterance_id

        def stream(purpose: str) -> np.random.RandomState:
            return utterance_stream(self.seed, epoch, stream_of, purpose)

        factor = self.speed.draw(stream("speed")) if self.speed else 1.0
        channel = None
        if self.telephone is not None:
            channel = self.telephone.draw(stream_of, conversation.prompt_key, epoch)
        key = (item, turn, factor)
        kept = self._kept.get(key) if channel is None else None
        if kept is None:
            kept = self._energies(conversation, span, factor, channel, stream)
            if channel is None and not self.dithered:
                self._keep(key, kept)
        energies, seconds, file_seconds = kept
        if self.spec_augment is not None:
            energies = self.spec_augment(energies, stream("spec_augment"))
        return Heard(self.frontend.stacked(energies) if self._stacks else energies, seconds, file_seconds)

    def _energies(
        self, conversation: Conversation, span: AudioSpan, factor: float, channel: Any, stream: Any
    ) -> tuple[Tensor, float, float]:
        samples, seconds = self._read(conversation, span)
        rate = self.frontend.fs
        samples = played(samples, rate, factor)
        if channel is not None:
            assert self.telephone is not None
            samples = self.telephone.apply(samples, channel)
        generator = seeds(stream("dither"))[1] if self.dithered else None
        signal = torch.from_numpy(np.ascontiguousarray(samples))
        try:
            make = self.frontend.energies if self._stacks else self.frontend.features
            energies = make(signal, generator)
        except ValueError as error:
            raise ValueError(f"{conversation.place}: {span.path}: {error}") from error
        return energies, len(samples) / rate, seconds

    def _read(self, conversation: Conversation, span: AudioSpan) -> tuple[np.ndarray, float]:
        """Give samples at the front end's rate, and the seconds of what was read."""
        chosen = span.channel
        if self.channel is not None and chosen in (None, "average"):  # a channel that the row names stays
            chosen = self.channel
        try:
            samples, rate = read_audio(span.path, None, span.offset_s, span.duration_s, chosen)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{conversation.place}: {error}; relative paths are taken from the file's folder"
            ) from error
        except ValueError as error:
            raise ValueError(f"{conversation.place}: {error}") from error
        return resampled(samples, rate, self.frontend.fs), len(samples) / rate

    def _keep(self, key: tuple[int, int, float], found: tuple[Tensor, float, float]) -> None:
        """Keep it if there is room; nothing is thrown out, for every epoch asks for everything once."""
        size = found[0].numel() * found[0].element_size()
        if key not in self._kept and self._kept_bytes + size <= self.cache_bytes:
            self._kept[key] = found
            self._kept_bytes += size


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample (T,) float32 as FunASR does: torchaudio's Resample with its defaults."""
    if rate == new_rate:
        return samples
    return _resampler(rate, new_rate)(torch.from_numpy(np.ascontiguousarray(samples))).numpy()


@lru_cache(maxsize=16)
def _resampler(rate: int, new_rate: int) -> Any:
    try:
        from torchaudio.transforms import Resample
    except ImportError as error:
        raise ModuleNotFoundError(
            "audio at another rate than the front end's is resampled by torchaudio, which is not installed: "
            'pip install -e ".[llm]"'
        ) from error
    return Resample(rate, new_rate)
