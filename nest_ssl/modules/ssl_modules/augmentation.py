"""Noise and second speakers, mixed into the batch that the encoder hears."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

SKIPPED_NOISE = ("added", "dropped")
NOISY_LENGTH = ("audio", "noise")


class SpeakerNoiseAugmentation:
    """Mix noise, or the speech of another item of the batch, into one piece of each item at a random level.

    An item is augmented with probability `prob`: by its own noise with probability `noise_ratio`, at
    `min_r_noise` to `max_r_noise` dB, else by another item's speech at `min_r_speech` to `max_r_speech` dB.
    The piece is a share `min_mix_rate` ... `max_mix_rate` of the item.  The decibels compare the whole item
    with the whole recording that the piece is cut from, so the level of the piece itself differs.

    `skipped_noise` "added": an item that is not augmented keeps the noise it came with, as it is, as in NeMo;
    "dropped": it stays clean.  `noisy_length` is what noisy_audio_len follows: "audio", or "noise" as in
    NeMo, where the noise of an item that is not augmented cuts or overruns it.

    The random draws are NeMo's, one by one: seeded alike, both mix alike.
    Source: WavLM (arXiv 2110.13900), section III-B.
    """

    def __init__(
        self,
        prob: float = 0.0,
        noise_ratio: float = 0.0,
        min_r_speech: float = -5.0,
        max_r_speech: float = 5.0,
        min_r_noise: float = -5.0,
        max_r_noise: float = 20.0,
        min_mix_rate: float = 0.0,
        max_mix_rate: float = 1.0,
        skipped_noise: str = "added",
        noisy_length: str = "audio",
    ) -> None:
        for key, value in (("prob", prob), ("noise_ratio", noise_ratio)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"batch_augmentor.{key}: {value} is not a probability")
        if not 0.0 <= min_mix_rate <= max_mix_rate <= 1.0:
            raise ValueError(
                f"batch_augmentor.min_mix_rate {min_mix_rate}, max_mix_rate {max_mix_rate}: "
                "need 0 <= min <= max <= 1"
            )
        for key, low, high in (
            ("r_speech", min_r_speech, max_r_speech),
            ("r_noise", min_r_noise, max_r_noise),
        ):
            if low > high:
                raise ValueError(f"batch_augmentor.min_{key} {low} is above max_{key} {high}")
        if skipped_noise not in SKIPPED_NOISE:
            raise ValueError(f"skipped_noise: {skipped_noise!r} is not {' or '.join(SKIPPED_NOISE)}")
        if noisy_length not in NOISY_LENGTH:
            raise ValueError(f"noisy_length: {noisy_length!r} is not {' or '.join(NOISY_LENGTH)}")
        self.prob, self.noise_ratio = prob, noise_ratio
        self.speech_db = (min_r_speech, max_r_speech)
        self.noise_db = (min_r_noise, max_r_noise)
        self.mix_rate = (min_mix_rate, max_mix_rate)
        self.skipped_noise = skipped_noise
        self.noisy_length = noisy_length

    def __call__(self, batch: Any, rng: Any = None) -> Any:
        """Give `batch` with its noise replaced where augmented, and `noisy_audio` = audio + noise.

        `batch` has audio, noise (B, T) float32 and audio_len, noise_len (B,) int64; they may be changed in
        place.  `rng` is a random.Random; None is Python's global generator.
        """
        rng = random if rng is None else rng
        clean_lengths, noise_lengths = batch.audio_len.tolist(), batch.noise_len.tolist()
        noise = batch.noise.clone()
        for item, length in enumerate(clean_lengths):
            if rng.random() > self.prob:
                if self.skipped_noise == "dropped":
                    noise[item] = 0.0
                    noise_lengths[item] = length
                continue
            added = self._mixture(batch.audio, batch.noise, clean_lengths, noise_lengths, item, rng)
            noise[item] = 0.0
            noise[item, :length] = added
            noise_lengths[item] = length
        batch.noise = noise
        batch.noise_len = torch.tensor(
            noise_lengths, dtype=batch.noise_len.dtype, device=batch.noise_len.device
        )
        batch.noisy_audio = batch.audio + noise
        batch.noisy_audio_len = (batch.audio_len if self.noisy_length == "audio" else batch.noise_len).clone()
        return batch

    def _mixture(
        self,
        audio: Tensor,
        noise: Tensor,
        audio_lengths: list[int],
        noise_lengths: list[int],
        item: int,
        rng: Any,
    ) -> Tensor:
        """What is added to `item`: (length,) float32, scaled to a level that is drawn here."""
        length = audio_lengths[item]
        low, high = self.mix_rate
        if low < high:
            longest = share_of(length, high) - 1
            mix_length = rng.randint(min(share_of(length, low), longest), longest) if longest > 0 else 0
        else:
            mix_length = max(1, share_of(length, low))
        start = rng.randint(0, length - mix_length - 1) if mix_length < length else 0
        if rng.random() < self.noise_ratio or len(audio_lengths) == 1:
            level_db = rng.uniform(*self.noise_db)
            source = noise[item, : noise_lengths[item]]
        else:
            level_db = rng.uniform(*self.speech_db)
            other = rng.choice([i for i in range(len(audio_lengths)) if i != item])
            source = audio[other, : audio_lengths[other]]
        if len(source) <= mix_length:
            source, source_start = repeated(source, mix_length), 0
        else:
            source_start = rng.randint(0, len(source) - mix_length - 1)
        placed = source.new_zeros(length)
        placed[start : start + mix_length] = source[source_start : source_start + mix_length]
        return placed * _gain(audio[item, :length], source, level_db)


class MultiSpeakerNoiseAugmentation(SpeakerNoiseAugmentation):
    """As `SpeakerNoiseAugmentation`, with several pieces, from several speakers, and exact levels.

    Speech comes from up to `max_num_speakers` other items.  The mixture covers a share `min_mix_rate` ...
    `max_mix_rate` of the item, in `min_num_segments` ... `max_num_segments` pieces.  The decibels are those
    of the whole item over the whole of what is added, its silence included.
    Source: WavLM (arXiv 2110.13900), section III-B; NEST (arXiv 2408.13106), section 2.3.
    """

    def __init__(
        self,
        prob: float = 0.0,
        noise_ratio: float = 0.0,
        min_r_speech: float = -5.0,
        max_r_speech: float = 5.0,
        min_r_noise: float = -5.0,
        max_r_noise: float = 20.0,
        min_mix_rate: float = 0.0,
        max_mix_rate: float = 1.0,
        min_num_segments: int = 1,
        max_num_segments: int = 5,
        min_num_speakers: int = 1,
        max_num_speakers: int = 4,
        skipped_noise: str = "added",
        noisy_length: str = "audio",
    ) -> None:
        super().__init__(
            *(prob, noise_ratio, min_r_speech, max_r_speech, min_r_noise, max_r_noise),
            *(min_mix_rate, max_mix_rate, skipped_noise, noisy_length),
        )
        for key, low, high in (
            ("num_segments", min_num_segments, max_num_segments),
            ("num_speakers", min_num_speakers, max_num_speakers),
        ):
            if not 1 <= low <= high:
                raise ValueError(f"batch_augmentor.min_{key} {low}, max_{key} {high}: need 1 <= min <= max")
        self.num_segments = (min_num_segments, max_num_segments)
        self.num_speakers = (min_num_speakers, max_num_speakers)

    def _mixture(
        self,
        audio: Tensor,
        noise: Tensor,
        audio_lengths: list[int],
        noise_lengths: list[int],
        item: int,
        rng: Any,
    ) -> Tensor:
        length = audio_lengths[item]
        low, high = self.mix_rate
        rate = rng.uniform(low, high) if low < high else low
        mix_length = max(1, share_of(length, rate))
        num_segments = rng.randint(*self.num_segments)
        num_speakers = min(rng.randint(*self.num_speakers), len(audio_lengths))
        segment_lengths = random_partition(mix_length, num_segments, rng)
        if rng.random() < self.noise_ratio or len(audio_lengths) == 1:
            level_db = rng.uniform(*self.noise_db)
            source = repeated(noise[item, : noise_lengths[item]], mix_length)
            segments = list(source.split(segment_lengths))
        else:
            level_db = rng.uniform(*self.speech_db)
            others = [i for i in range(len(audio_lengths)) if i != item]
            speakers = [
                audio[i, : audio_lengths[i]] for i in rng.sample(others, min(num_speakers, len(others)))
            ]
            segments = _speech_segments(speakers, segment_lengths, rng)
        placed = _placed(segments, length, mix_length, rng)
        return placed * _gain(audio[item, :length], placed, level_db)


def share_of(length: int, rate: float) -> int:
    """Whole samples in a share of `length`, by a product in float32: NeMo's lengths are tensors."""
    return int(torch.tensor(length) * rate)


def random_partition(total: int, num_parts: int, rng: Any) -> list[int]:
    """Lengths of up to `num_parts` parts of `total`: how often each part comes up in `total` fair draws.

    Takes the random numbers that random.choices(range(num_parts), k=total) takes, and gives its counts in
    order of first appearance; a part that is never drawn is left out.
    """
    draws = _uniforms(total, rng)
    if draws is None:
        return list(Counter(rng.choices(range(num_parts), k=total)).values())
    if num_parts == 1:
        return [total]
    parts = (draws * num_parts).astype(np.int64)
    counts = np.bincount(parts, minlength=num_parts)
    first = [int(np.argmax(parts == part)) if counts[part] else total for part in range(num_parts)]
    return [int(counts[part]) for part in np.argsort(first) if counts[part]]


def _uniforms(count: int, rng: Any) -> np.ndarray | None:
    """`count` numbers as rng.random() gives them; None if `rng` is not Python's Mersenne Twister.

    An utterance of 30 s needs 240 000 of them.  numpy runs the same generator with the same 53 bits per
    number, so its state is taken over and handed back.
    """
    getstate = getattr(rng, "getstate", None)
    genuine = rng is random or type(rng) is random.Random
    if getstate is None or not genuine:
        return None
    version, words, gauss = getstate()
    twister = np.random.MT19937()
    twister.state = {
        "bit_generator": "MT19937",
        "state": {"key": np.array(words[:-1], dtype=np.uint32), "pos": words[-1]},
    }
    draws = np.random.Generator(twister).random(count)
    after = twister.state["state"]
    rng.setstate((version, (*after["key"].tolist(), int(after["pos"])), gauss))
    return draws


def repeated(signal: Tensor, length: int) -> Tensor:
    """(length,) samples: `signal` again and again; zeros if it is empty."""
    if not len(signal):
        return signal.new_zeros(length)
    return signal.repeat(math.ceil(length / len(signal)))[:length]


def _speech_segments(speakers: list[Tensor], segment_lengths: list[int], rng: Any) -> list[Tensor]:
    """A piece of speech per segment: the speakers in turn, at random once all had theirs."""
    segments = []
    speaker = 0
    for length in segment_lengths:
        speech = speakers[speaker]
        if len(speech) > length:
            start = rng.randint(0, len(speech) - length - 1)
            segments.append(speech[start : start + length])
        else:
            segments.append(repeated(speech, length))
        speaker += 1
        if speaker >= len(speakers):
            speaker = rng.randint(0, len(speakers) - 1)
    return segments


def _placed(segments: list[Tensor], length: int, mix_length: int, rng: Any) -> Tensor:
    """(length,) zeros with the segments, `mix_length` samples in all, at random places in their order."""
    placed = segments[0].new_zeros(length)
    min_start, max_start = 0, length - mix_length
    for segment in segments:
        start = rng.randint(min_start, max_start - 1) if min_start < max_start else min_start
        placed[start : start + len(segment)] = segment
        min_start = start + len(segment)
        max_start += len(segment)
    return placed


def _gain(audio: Tensor, added: Tensor, level_db: float) -> float:
    """Factor that puts `added` `level_db` below `audio`, each averaged over its samples; 0 for silence."""
    if not len(added):
        return 0.0
    audio_energy, added_energy = (float(signal.double().square().mean()) for signal in (audio, added))
    if added_energy == 0.0:
        return 0.0
    return math.sqrt(audio_energy / (10 ** (level_db / 10) * added_energy))
