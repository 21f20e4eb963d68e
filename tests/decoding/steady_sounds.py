"""Sound in which nobody speaks, made from seeds: silence, noise, hum, a tone, comfort noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nest_ssl.telephone.comfort_noise import ORDER, synthesise
from nest_ssl.telephone.noise import coloured_noise

RATE = 16000
LEVELS_DB = (-70, -45, -20)


def steady_sounds(seconds: float, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Give (name, float32 (T,)) sounds at RATE."""
    count = round(seconds * RATE)
    generator = np.random.default_rng(seed)
    time = np.arange(count) / RATE
    yield "zeros", np.zeros(count, np.float32)
    yield "last bit", (generator.integers(-1, 2, count) / 32768).astype(np.float32)
    for level in LEVELS_DB:
        gain = 10 ** (level / 20)
        hum = sum(np.sin(2 * np.pi * 50 * k * time + generator.uniform(0, 6)) / k for k in range(1, 20))
        made = {
            "white": generator.normal(size=count),
            "pink": coloured_noise(count, 1.0, seed, RATE),
            "brown": coloured_noise(count, 2.0, seed, RATE),
            "hum": hum,
            "tone": np.sin(2 * np.pi * 425 * time),
        }
        for name, samples in made.items():
            yield f"{name} {level} dB", (samples / samples.std() * gain).astype(np.float32)
        yield f"comfort noise {level} dB", _comfort_noise(count, -level, generator, seed)


def _comfort_noise(count: int, level: int, generator: np.random.Generator, seed: int) -> np.ndarray:
    """Give RFC 3389's, described anew every 200 ms: a few dB up and down, another spectrum each time."""
    rng, state = np.random.Generator(np.random.Philox(seed)), np.zeros(ORDER)
    spectrum = generator.integers(100, 155, ORDER)
    parts = []
    for _ in range(count // 3200 + 1):
        described = spectrum + generator.integers(-4, 5, ORDER)
        part, state = synthesise(rng, int(level + generator.integers(-2, 3)), described, 1600, state)
        parts.append(np.repeat(part, 2))
    return (np.concatenate(parts)[:count] / 32768).astype(np.float32)
