"""Audio made from numbers: batches, and a small corpus of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from nest_ssl.files.audio import write_audio
from nest_ssl.files.manifest import write_rows

FIELDS = ("audio", "audio_len", "noise", "noise_len", "noisy_audio")


def noise_batch(lengths: Sequence[int], seed: int) -> SimpleNamespace:
    """Noise of changing loudness and colour as clean speech, with white noise as what is added."""
    draw = np.random.RandomState(seed)
    audio, noise = (np.zeros((len(lengths), max(lengths)), np.float32) for _ in range(2))
    for row, length in enumerate(lengths):
        envelope = np.interp(np.arange(length), np.linspace(0, length, 12), draw.uniform(0, 0.3, 12))
        audio[row, :length] = np.convolve(draw.randn(length), draw.randn(9) / 3, "same")[:length] * envelope
        noise[row, :length] = draw.randn(length) * 0.03
    length_of = torch.tensor(list(lengths))
    clean, added = torch.from_numpy(audio), torch.from_numpy(noise)
    return SimpleNamespace(
        **{"audio": clean, "audio_len": length_of, "noise": added, "noise_len": length_of.clone()},
        **{"noisy_audio": clean + added, "noisy_audio_len": length_of.clone()},
    )


def make_corpus(folder: Path) -> tuple[Path, Path]:
    """Manifests of speech-like and noise recordings of several rates, lengths and offsets."""
    draw = np.random.RandomState(1)

    def rows(prefix: str, recordings: list[tuple[int, float, dict[str, float]]]) -> Path:
        written: list[dict[str, Any]] = []
        for number, (rate, seconds, stated) in enumerate(recordings):
            path = folder / f"{prefix}{number}.wav"
            length = round(rate * seconds)
            quiet_end = np.interp(np.arange(length), [0, length // 2, length * 3 // 4], [0.3, 0.3, 1e-5])
            write_audio(path, (draw.randn(length) * quiet_end).clip(-1, 0.99), rate)
            written.append({"audio_filepath": path.name, "duration": seconds, **stated, "text": ""})
        write_rows(folder / f"{prefix}.jsonl", written)
        return folder / f"{prefix}.jsonl"

    speech: list[tuple[int, float, dict[str, Any]]] = [
        *((16000, 2.3, {}), (16000, 2.5, {"offset": 0.51, "duration": 1.2}), (8000, 2.0, {})),
        *((16000, 6.0, {}), (16000, 0.41, {}), (44100, 1.5, {}), (16000, 1.7, {"duration": None})),
        *((16000, 1.5, {"duration": 3.0}), (16000, 3.0, {}), (16000, 0.1, {}), (16000, 1.0, {})),
        *((16000, 1.33, {}), (22050, 1.9, {"offset": 0.2, "duration": 1.5}), (16000, 3.9, {})),
    ]
    noise = [
        (16000, 5.0, {}),
        (16000, 0.5, {}),
        (8000, 4.2, {}),
        (16000, 1.5, {"offset": 0.4, "duration": 0.6}),
    ]
    return rows("speech", speech), rows("noise", noise)
