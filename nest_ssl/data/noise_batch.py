"""Items and batches of audio with noise: NeMo's fields, padded collation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

BatchAugmentor = Callable[["AudioNoiseBatch", random.Random], "AudioNoiseBatch"]


@dataclass
class AudioNoiseItem:
    """One utterance: audio (T,), noise (N,), noisy_audio (T,) float32; lengths are int64 scalars, samples."""

    sample_id: str
    audio: Tensor
    audio_len: Tensor
    noise: Tensor
    noise_len: Tensor
    noisy_audio: Tensor
    noisy_audio_len: Tensor
    utterance_id: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class AudioNoiseBatch:
    """A padded batch: audio, noise, noisy_audio (B, T) float32, zero behind each length; lengths (B,) int64.

    sample_id: NeMo's ids (number among kept rows); utterance_ids: the manifest's; seconds: unpadded audio;
    skipped: (utterance id, reason) of what should be in this batch and could not be read;
    notes: what was met while reading and got round, for the log.
    """

    sample_id: list[str]
    audio: Tensor
    audio_len: Tensor
    noise: Tensor
    noise_len: Tensor
    noisy_audio: Tensor | None
    noisy_audio_len: Tensor
    utterance_ids: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> AudioNoiseBatch:
        """Give the batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> AudioNoiseBatch:
        """Give the batch in page-locked memory, from which copies to a GPU run aside."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> AudioNoiseBatch:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: change(v) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)


def audio_noise_collate(
    items: Sequence[AudioNoiseItem],
    batch_augmentor: BatchAugmentor | None = None,
    rng: random.Random | None = None,
    sample_rate: int = 16000,
) -> AudioNoiseBatch:
    """Pad items with zeros to the longest audio; noise is cut there.

    Without an augmentor noisy_audio = audio + noise, the raw noise, and noisy_audio_len = audio_len; an
    augmentor decides both (model.parity). It is called as augmentor(batch, rng), with noisy_audio still None.
    """
    if not items:
        raise ValueError("there is no item to make a batch of")
    longest = max(len(item.audio) for item in items)
    audio = torch.zeros(len(items), longest)
    noise = torch.zeros(len(items), longest)
    for row, item in enumerate(items):
        audio[row, : len(item.audio)] = item.audio
        usable = min(len(item.noise), longest)
        noise[row, :usable] = item.noise[:usable]
    audio_len = torch.stack([item.audio_len for item in items])
    batch = AudioNoiseBatch(
        sample_id=[item.sample_id for item in items],
        audio=audio,
        audio_len=audio_len,
        noise=noise,
        noise_len=torch.stack([item.noise_len for item in items]).clamp(max=longest),
        noisy_audio=None,
        noisy_audio_len=audio_len.clone(),
        utterance_ids=[item.utterance_id for item in items],
        seconds=int(audio_len.sum()) / sample_rate,
        notes=[note for item in items for note in item.notes],
    )
    if batch_augmentor is not None:
        batch = batch_augmentor(batch, rng if rng is not None else random.Random(0))
    if batch.noisy_audio is None:
        batch.noisy_audio = batch.audio + batch.noise
    return batch
