"""What is to be transcribed: rows of a manifest or audio files, in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nest_ssl.data.corpus import Corpus
from nest_ssl.files.audio import audio_info, read_audio

if TYPE_CHECKING:  # recordings are listed before torch is loaded
    from torch import Tensor


@dataclass(frozen=True)
class Recording:
    """One stretch of audio: `place` names it in messages, `reference` is what is said, None if not known."""

    utterance_id: str
    audio_path: Path
    offset_s: float
    duration_s: float | None
    place: str
    length_s: float
    reference: str | None = None

    def read(self, sample_rate: int, channel_selector: Any = None) -> np.ndarray:
        """Give (T,) float32; raises ValueError or FileNotFoundError with the place."""
        try:
            audio, _ = read_audio(
                self.audio_path, sample_rate, self.offset_s, self.duration_s, channel_selector
            )
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.place}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error
        return audio


def recordings_of_manifests(manifests: Sequence[Path]) -> list[Recording]:
    """The rows of manifests in their order."""
    corpus = Corpus([str(path) for path in manifests], name="--manifest")
    lengths = corpus.lengths()
    found = []
    for i in range(len(corpus)):
        row = corpus[i]
        if row.text is not None and not isinstance(row.text, str):
            raise ValueError(f"{row.place}: text must be a text, not {row.text!r}")
        found.append(
            Recording(
                row.utterance_id,
                Path(row.audio_path),
                row.offset_s or 0.0,
                row.duration_s,
                row.place,
                float(lengths[i]),
                row.text,
            )
        )
    return found


def recordings_of_files(files: Sequence[Path]) -> list[Recording]:
    """Whole audio files."""
    return [
        Recording(str(path), path, 0.0, None, str(path), float(audio_info(path).duration_s)) for path in files
    ]


def padded_batches(
    recordings: Sequence[Recording], batch_duration: float, sample_rate: int, channel_selector: Any = None
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Give (numbers of recordings, audio (B, T) float32, lengths (B,) int64), longest recordings first.

    A batch holds `batch_duration` seconds, padding included, or one recording that is longer.
    """
    import torch

    order = sorted(range(len(recordings)), key=lambda i: (-recordings[i].length_s, i))
    start = 0
    while start < len(order):
        longest = max(recordings[order[start]].length_s, 1e-3)
        count = max(1, int(batch_duration / longest))
        numbers = order[start : start + count]
        start += len(numbers)
        audio = [recordings[i].read(sample_rate, channel_selector) for i in numbers]
        lengths = torch.tensor([len(samples) for samples in audio])
        padded = torch.zeros(len(audio), max(1, int(lengths.max())))
        for row, samples in enumerate(audio):
            padded[row, : len(samples)] = torch.from_numpy(np.ascontiguousarray(samples))
        yield numbers, padded, lengths
