"""Long recordings piece by piece, cut where they are quiet: memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import gcd, isfinite, log10, pi
from typing import Any

import numpy as np

from nest_ssl.telephone.level import active_level

LONG_S = 600.0  # recordings up to here are one piece
PIECE_S = 300.0  # of longer ones, at most
SEARCH_S = 60.0  # the end of a piece in which the quietest place is sought
WINDOW_S = 0.1  # whose energy says how quiet a place is
FRAMES_PER_S = 50  # pieces are whole frames of 20 ms, so that those of codecs and packets go on in step
NOISES = ("noise", "far_noise")
GOLDEN = 0.6180339887  # the start of a recorded noise moves by it from piece to piece

Read = Callable[[int, int], np.ndarray]  # (start, count) -> float32 (count,)


def cut(read: Read, num_samples: int, sample_rate: int) -> Iterator[tuple[int, np.ndarray]]:
    """Give (start, samples) of the pieces of a recording: one if it is short, else cut at quiet places.

    Every piece but the last is a whole number of 20-ms frames and of samples at every rate, so the converted
    lengths of pieces add up to that of the whole.
    """
    step = sample_rate // gcd(sample_rate, FRAMES_PER_S)
    start = 0
    while num_samples - start > LONG_S * sample_rate:
        piece = read(start, int(PIECE_S * sample_rate) // step * step)
        piece = piece[: _quietest(piece, sample_rate, step)]
        yield start, piece
        start += len(piece)
    yield start, read(start, num_samples - start)


def level_shifts(pieces: Iterator[tuple[int, np.ndarray]], sample_rate: int) -> list[float]:
    """Give, for each piece, its active level in dB over that of the whole recording; 0 for silent ones."""
    levels, energy, active_s = [], 0.0, 0.0
    for _, samples in pieces:
        level = active_level(samples, sample_rate)
        levels.append(level.level_dbov)
        if isfinite(level.level_dbov):
            time_s = level.activity * len(samples) / sample_rate
            energy += 10 ** (level.level_dbov / 10) * time_s
            active_s += time_s
    whole = 10 * log10(energy / active_s) if active_s else 0.0
    return [round(level - whole, 4) if isfinite(level) else 0.0 for level in levels]


def piece_channel(
    channel: Mapping[str, Any], number: int, shift_db: float, start_s: float = 0.0
) -> dict[str, Any]:
    """Give the channel of piece `number` of a recording, from `start_s` on: the same call, further on.

    Levels of speech keep their distances between the pieces and the noise its level; noises, hum and losses
    go on instead of beginning again.
    """
    changed = dict(channel) | {"segment": number}
    if changed.get("line_noise"):
        changed["line_noise"] = changed["line_noise"] | {"seed": changed["line_noise"]["seed"] + number}
    if changed.get("hum"):
        turns = changed["hum"]["mains_hz"] * start_s
        phases = [phase + 2 * pi * (turns * n % 1) for n, phase in enumerate(changed["hum"]["phases"], 1)]
        changed["hum"] = changed["hum"] | {"phases": [round(phase % (2 * pi), 4) for phase in phases]}
    if changed.get("level_dbov") is not None:
        changed["level_dbov"] = round(changed["level_dbov"] + shift_db, 4)
    for name in NOISES:
        noise = changed.get(name)
        if isinstance(noise, Mapping):
            noise = dict(noise)
            if noise.get("snr_db") is not None:
                noise["snr_db"] = round(noise["snr_db"] + shift_db, 4)
            if "seed" in noise:
                noise["seed"] += number
            if "start" in noise:
                noise["start"] = _moved(noise["start"], number)
            if "starts" in noise:
                noise["starts"] = [_moved(start, number) for start in noise["starts"]]
            changed[name] = noise
    return changed


def _quietest(samples: np.ndarray, sample_rate: int, step: int) -> int:
    """Give the multiple of `step` near the end of (T,) samples around which they are quietest."""
    first = max(1, (len(samples) - int(SEARCH_S * sample_rate)) // step)
    half = max(1, int(WINDOW_S * sample_rate / 2) // step)
    part = samples[(first - half if first > half else 0) * step :].astype(np.float64)
    energies = np.add.reduceat(part * part, np.arange(0, len(part), step))
    sums = np.convolve(energies, np.ones(2 * half), "valid")  # around the end of frame number half - 1, ...
    base = max(first - half, 0) + half
    return (base + int(np.argmin(sums))) * step


def _moved(start: float, number: int) -> float:
    return round((start + number * GOLDEN) % 1.0, 6)
