"""Small corpora made on the spot."""

from pathlib import Path

import numpy as np

from nest_ssl.files.audio import write_audio
from nest_ssl.files.manifest import write_rows

RATE = 16000


def tone(seconds: float, number: int, rate: int = RATE) -> np.ndarray:
    """int16 (T,); another waveform for every number."""
    t = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * (200 + 37 * number) * t) * 8000 + number).astype(np.int16)


def make_corpus(folder: Path, durations: list[float], name: str = "train.jsonl", prefix: str = "u") -> Path:
    """Write one FLAC file per duration and a manifest of them with relative paths; gives the manifest."""
    rows = []
    for number, seconds in enumerate(durations):
        audio = f"audio/{prefix}{number:03d}.flac"
        write_audio(folder / audio, tone(seconds, number), RATE)
        rows.append({"id": f"{prefix}{number:03d}", "audio_filepath": audio, "duration": seconds})
    write_rows(folder / name, rows)
    return folder / name
