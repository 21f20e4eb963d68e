"""Audio with noise for self-supervised pre-training, as NeMo's AudioNoiseDataset, by item or by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from nest_ssl.data.corpus import Corpus, Utterance
from nest_ssl.data.joined import JoinedCorpus
from nest_ssl.data.noise import NoiseSource
from nest_ssl.data.noise_batch import (
    AudioNoiseBatch,
    AudioNoiseItem,
    BatchAugmentor,
    audio_noise_collate,
)
from nest_ssl.data.perturb import WaveformAugmentor
from nest_ssl.data.streams import batch_random, utterance_random
from nest_ssl.data.telephone_channel import TelephoneChannel
from nest_ssl.data.trim import trim_silence as trimmed
from nest_ssl.files.audio import audio_info, read_audio

__all__ = [
    "AudioNoiseBatch",
    "AudioNoiseDataset",
    "AudioNoiseItem",
    "BatchKey",
    "audio_noise_collate",
]


class BatchKey(NamedTuple):
    """What a worker needs to know to make one batch: items are the dataset's, (B,) int32."""

    epoch: int
    batch: int
    rank: int
    items: np.ndarray


class AudioNoiseDataset(torch.utils.data.Dataset):
    """Map-style dataset over JSON-lines manifests: dataset[i] is item(i, epoch=0).

    manifest_filepath, noise_manifest: path, comma-separated paths or a list; without noise, noise is zeros.
    corpus: the utterances, in place of manifest_filepath, min_duration and max_duration.
    min_duration, max_duration: seconds; rows outside are dropped (see `corpus.dropped`), rows without a
        duration never.
    min_audio_len_secs: shorter audio is repeated (pad_mode "repeat") or padded with zeros ("zero") to this
        length.
    trim_silence: cut quiet ends (60 dB under the loudest frame).
    channel_selector: channel of files with several: a number, a list of numbers or "average".
    augmentor: changes the waveform of each utterance after reading: called as augmentor(samples, rng).
    telephone: sends the noisy audio of a batch, or audio and noisy audio alike, through a drawn channel.
    truncate_duration: seconds, of which each utterance keeps as many, from truncate_offset_type: "start",
        "end" or "random".
    zeros_without_noise: zeros where 20 noise recordings in a row cannot be read (as NeMo does), not an error.
    max_corrupt: 0, an utterance that cannot be read raises; otherwise a batch becomes smaller and names the
        utterance in `skipped`, for the loader to count.
    seed: every draw for an utterance comes from the stream (seed, epoch, utterance id).
    name: key of the configuration section, for messages.
    """

    def __init__(
        self,
        manifest_filepath: str | Path | Sequence[str | Path] | None,
        sample_rate: int,
        noise_manifest: str | Path | Sequence[str | Path] | None = None,
        min_duration: float | None = None,
        max_duration: float | None = None,
        min_audio_len_secs: float = 1.0,
        pad_mode: str = "repeat",
        trim_silence: bool = False,
        channel_selector: int | list[int] | str | None = None,
        max_corrupt: int = 0,
        seed: int = 0,
        name: str = "train_ds",
        corpus: Corpus | JoinedCorpus | None = None,
        augmentor: WaveformAugmentor | None = None,
        telephone: TelephoneChannel | None = None,
        truncate_duration: float | None = None,
        truncate_offset_type: str = "random",
        zeros_without_noise: bool = False,
    ) -> None:
        if pad_mode not in ("repeat", "zero"):
            raise ValueError(f"{name}: pad_mode is 'repeat' or 'zero', not {pad_mode!r}")
        if corpus is None:
            assert manifest_filepath is not None
            corpus = Corpus(manifest_filepath, min_duration, max_duration, f"{name}.manifest_filepath")
        self.corpus = corpus
        self.noise: NoiseSource | None = None
        if noise_manifest is not None:
            noise_corpus = Corpus(noise_manifest, name=f"{name}.noise_manifest")
            self.noise = NoiseSource(noise_corpus, sample_rate, channel_selector, zeros_without_noise)
        self.sample_rate = sample_rate
        self.min_samples = int(min_audio_len_secs * sample_rate)
        self.pad_mode = pad_mode
        self.trim_silence = trim_silence
        self.channel_selector = channel_selector
        self.augmentor = augmentor
        self.telephone = telephone
        self.truncate_duration = truncate_duration
        self.truncate_offset_type = truncate_offset_type
        self.max_corrupt = max_corrupt
        self.seed = seed
        self.name = name

    def __len__(self) -> int:
        return len(self.corpus)

    def lengths(self) -> np.ndarray:
        """Give (N,) float32 seconds of each item with its minimum length, before trimming."""
        lengths = self.corpus.lengths()
        if self.truncate_duration is not None:
            lengths = np.minimum(lengths, np.float32(self.truncate_duration))
        shortest = np.float32(self.min_samples / self.sample_rate)
        return np.maximum(lengths, shortest) if lengths.min() < shortest else lengths

    def facts(self) -> dict[str, Any]:
        """What the audio of an item depends on, beside the files."""
        facts: dict[str, Any] = {
            "audio": [self.sample_rate, self.min_samples, self.pad_mode, self.trim_silence],
            "channel": self.channel_selector,
        }
        if self.augmentor is not None:
            facts["augmentor"] = self.augmentor.facts
        if self.telephone is not None:
            facts["telephone"] = self.telephone.facts
        if self.truncate_duration is not None:
            facts["truncate"] = [self.truncate_duration, self.truncate_offset_type]
        return facts

    def __getitem__(self, i: int) -> AudioNoiseItem:
        return self.item(i, epoch=0)

    def item(self, i: int, epoch: int, rng: np.random.RandomState | None = None) -> AudioNoiseItem:
        """Read item `i` as it is in `epoch`; `rng` replaces the stream of the utterance.

        Raises ValueError or FileNotFoundError naming manifest, line and file for audio that cannot be read.
        """
        utterance = self.corpus[i]
        if rng is None:
            rng = utterance_random(self.seed, epoch, utterance.utterance_id)
        audio = self._read(utterance, rng)
        notes: list[str] = []
        if self.noise is None:
            noise, noise_len = np.zeros_like(audio), len(audio)
        else:
            noise, noise_len, notes = self.noise.draw(len(audio), rng)
        samples, added = torch.from_numpy(audio), torch.from_numpy(noise)
        return AudioNoiseItem(
            sample_id=str(i),
            audio=samples,
            audio_len=torch.tensor(len(audio)),
            noise=added,
            noise_len=torch.tensor(noise_len),
            noisy_audio=samples + added[: len(samples)],
            noisy_audio_len=torch.tensor(len(audio)),
            utterance_id=utterance.utterance_id,
            notes=notes,
        )

    def batch(self, key: BatchKey, batch_augmentor: BatchAugmentor | None = None) -> AudioNoiseBatch:
        """Read, collate and augment one batch; the augmentor's stream is (seed, epoch, batch, rank)."""
        items, numbers, skipped = [], [], []
        for i in key.items.tolist():
            try:
                items.append(self.item(i, key.epoch))
                numbers.append(i)
            except (ValueError, OSError) as error:
                if self.max_corrupt == 0:
                    raise ValueError(f"{error}\n{self._way_out()}") from error
                skipped.append((self.corpus[i].utterance_id, str(error)))
        if not items:
            raise ValueError(f"no utterance of a whole batch can be read; the first: {skipped[0][1]}")
        rng = batch_random(self.seed, key.epoch, key.batch, key.rank)
        batch = audio_noise_collate(items, batch_augmentor, rng, self.sample_rate)
        batch.skipped = skipped
        if self.telephone is not None:
            self._send(batch, numbers, key.epoch)
        return batch

    def _send(self, batch: AudioNoiseBatch, items: Sequence[int], epoch: int) -> None:
        """Send the signals of a batch through the telephone; what lies behind an utterance stays as it is."""
        assert self.telephone is not None and batch.noisy_audio is not None
        signals = {
            "audio": (batch.audio, batch.audio_len),
            "noisy": (batch.noisy_audio, batch.noisy_audio_len),
        }
        for row, i in enumerate(items):
            utterance = self.corpus[i]
            drawn = self.telephone.draw(utterance.utterance_id, utterance.key, epoch)
            if drawn is None:
                continue
            for signal in self.telephone.apply_to:
                audio, lengths = signals[signal]
                sent = audio[row, : int(lengths[row])]
                sent.copy_(torch.from_numpy(self.telephone.apply(sent.numpy(), drawn)))

    def _read(self, utterance: Utterance, rng: np.random.RandomState | None = None) -> np.ndarray:
        rng = rng or utterance_random(self.seed, 0, utterance.utterance_id)
        channel = self.channel_selector if utterance.channel is None else utterance.channel
        begin_s, duration_s = self._span(utterance, rng)
        try:
            audio, _ = read_audio(utterance.audio(), self.sample_rate, begin_s, duration_s, channel)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{utterance.place}: {error}; relative paths are taken from the manifest's folder"
            ) from error
        except ValueError as error:
            raise ValueError(f"{utterance.place}: {error}") from error
        if self.trim_silence:
            audio = trimmed(audio)
        if self.augmentor is not None:
            audio = self.augmentor(audio, rng)
        if len(audio) < self.min_samples:
            if self.pad_mode == "zero":
                audio = np.pad(audio, (0, self.min_samples - len(audio)))
            else:
                audio = np.tile(audio, math.ceil(self.min_samples / len(audio)))[: self.min_samples]
        return np.ascontiguousarray(audio)

    def _span(self, utterance: Utterance, rng: np.random.RandomState) -> tuple[float, float | None]:
        """Give offset and duration, seconds, of what is read of an utterance."""
        begin_s, duration_s = utterance.offset_s or 0.0, utterance.duration_s
        if self.truncate_duration is None:
            return begin_s, duration_s
        if duration_s is None or duration_s <= 0:
            duration_s = audio_info(utterance.audio()).duration_s - begin_s
        surplus = duration_s - self.truncate_duration
        if surplus <= 0:
            return begin_s, duration_s
        if self.truncate_offset_type != "start":
            begin_s += surplus if self.truncate_offset_type == "end" else rng.uniform(0, surplus)
        return begin_s, self.truncate_duration

    def _way_out(self) -> str:
        manifest = self.corpus.manifests[0]
        return (
            f"python -m nest_ssl.bin.manifest --check {manifest} --decode lists every bad row; "
            f"repair or remove them, or set {self.name}.max_corrupt=N to go on without up to N of them"
        )
