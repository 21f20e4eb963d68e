"""What handsets and lines add: hum, direct current, line noise, clipping, gain control, echo, clock drift.

Each stage has check_X(settings, where), draw_X(rng, settings) -> dict or None (it does not happen), and
apply_X(samples, rate, drawn): float (T,) in [-1, 1] to a new float32 (T,) in time with it, for drawn None the
samples as they are.  Settings of None turn a stage off.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import gcd, pi
from typing import Any, TypeGuard

import numpy as np
import scipy
import soxr

from nest_ssl.telephone.draws import check_draw, check_keys, check_probability, draw, happens

Settings = Mapping[str, Any] | None
Drawn = Mapping[str, Any] | None

FULL_SCALE = 32768.0
MAINS_HZ = (50, 60)
MAX_HARMONICS = 20
WEAKEST_HARMONIC_DB = -20.0
CARBON_NEGATIVE = 1.6  # a carbon microphone yields that much more under low pressure before it saturates
CLIP_SHAPES = ("hard", "carbon")
MAX_DELAY_MS = 1000.0
SPREAD = 2654435761  # the golden section of 2**32
NOISE_SAMPLES, NOISE_KEY = 1 << 19, 0  # a minute at 8 kHz; drawing noise anew took 20 times as long as adding

AGC_BLOCK_S = 0.002
# Speech whose active level is L has this much more in the envelope while it is loud, so the gain aims above.
AGC_CREST_DB = 4.5  # measured on prompts of five languages: +-0.6 dB from one to the next


def check_hum(settings: Settings, where: str) -> None:
    """Raise ValueError unless {probability, mains_hz: 50 or 60, harmonics, level_dbov}."""
    if _on(settings, where, "mains_hz", "harmonics", "level_dbov"):
        check_draw(settings["mains_hz"], f"{where}.mains_hz", allowed=MAINS_HZ)
        check_draw(settings["harmonics"], f"{where}.harmonics", 0, MAX_HARMONICS)
        check_draw(settings["level_dbov"], f"{where}.level_dbov", -120.0, 0.0)


def draw_hum(rng: np.random.Generator, settings: Settings) -> dict[str, Any] | None:
    """Give {"mains_hz", "level_dbov", "levels_db", "phases"}: the fundamental, then its harmonics."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    drawn: dict[str, Any] = {"mains_hz": int(draw(rng, settings["mains_hz"]))}
    count = 1 + _whole(rng, settings["harmonics"])
    drawn["level_dbov"] = float(draw(rng, settings["level_dbov"]))
    levels = [0.0, *rng.uniform(WEAKEST_HARMONIC_DB, 0.0, count - 1)]
    drawn["levels_db"] = [round(float(level), 2) for level in levels]
    drawn["phases"] = [round(float(phase), 4) for phase in rng.uniform(0, 2 * pi, count)]
    return drawn


def apply_hum(samples: np.ndarray, rate: int, drawn: Drawn) -> np.ndarray:
    """Add mains hum whose level is that of all its harmonics together."""
    samples = np.asarray(samples, np.float32)
    if drawn is None:
        return samples
    mains = drawn["mains_hz"]
    time = np.arange(rate // gcd(rate, mains)) / rate  # after whole periods of all harmonics it repeats
    amplitudes = 10 ** (np.array(drawn["levels_db"]) / 20)
    period = np.zeros(len(time))
    for number, (amplitude, phase) in enumerate(zip(amplitudes, drawn["phases"], strict=True), 1):
        if number * mains < rate / 2:
            period += amplitude * np.sin(2 * pi * number * mains * time + phase)
    power = np.mean(np.square(period))
    period *= 10 ** (drawn["level_dbov"] / 20) / np.sqrt(power)
    return samples + np.resize(period.astype(np.float32), len(samples))


def check_dc(settings: Settings, where: str) -> None:
    """Raise ValueError unless {probability, lsb}: steps of 16 bits, of either sign."""
    if _on(settings, where, "lsb"):
        check_draw(settings["lsb"], f"{where}.lsb", -FULL_SCALE / 2, FULL_SCALE / 2)


def draw_dc(rng: np.random.Generator, settings: Settings) -> dict[str, Any] | None:
    """Give {"lsb"}, a whole number."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    return {"lsb": round(draw(rng, settings["lsb"]))}


def apply_dc(samples: np.ndarray, rate: int, drawn: Drawn) -> np.ndarray:
    """Add an offset, as converters do."""
    samples = np.asarray(samples, np.float32)
    return samples if drawn is None else samples + np.float32(drawn["lsb"] / FULL_SCALE)


def check_line_noise(settings: Settings, where: str) -> None:
    """Raise ValueError unless {probability, level_dbov}."""
    if _on(settings, where, "level_dbov"):
        check_draw(settings["level_dbov"], f"{where}.level_dbov", -120.0, 0.0)


def draw_line_noise(rng: np.random.Generator, settings: Settings) -> dict[str, Any] | None:
    """Give {"level_dbov", "seed"}."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    level_dbov = float(draw(rng, settings["level_dbov"]))
    return {"level_dbov": level_dbov, "seed": int(rng.integers(2**53))}


def apply_line_noise(samples: np.ndarray, rate: int, drawn: Drawn) -> np.ndarray:
    """Add white Gaussian noise of a level in dBov; after NOISE_SAMPLES it begins again."""
    samples = np.asarray(samples, np.float32)
    if drawn is None:
        return samples
    gain = np.float32(10 ** (drawn["level_dbov"] / 20))
    stretch = white_noise()
    noisy = np.empty_like(samples)
    done, start = 0, noise_start(drawn["seed"])
    while done < len(samples):
        piece = stretch[start : start + len(samples) - done]
        np.multiply(piece, gain, out=noisy[done : done + len(piece)])
        done, start = done + len(piece), 0
    noisy += samples
    return noisy


def check_clip(settings: Settings, where: str) -> None:
    """Raise ValueError unless {probability, over_db, shape: hard, carbon or weights of them}."""
    if _on(settings, where, "over_db", optional=("shape",)):
        check_draw(settings["over_db"], f"{where}.over_db", 0.0, 40.0)
        check_draw(settings.get("shape", "hard"), f"{where}.shape", allowed=CLIP_SHAPES)


def draw_clip(rng: np.random.Generator, settings: Settings) -> dict[str, Any] | None:
    """Give {"over_db", "shape"}."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    return {
        "over_db": float(draw(rng, settings["over_db"])),
        "shape": draw(rng, settings.get("shape", "hard")),
    }


def apply_clip(samples: np.ndarray, rate: int, drawn: Drawn) -> np.ndarray:
    """Overload the line: what it can carry lies `over_db` below the peak of the signal.

    hard: cut there.  carbon: the soft, lopsided curve of a carbon microphone, which has even harmonics; it
    saturates at that level in one direction and at 1.6 times that in the other.  What it makes of the
    mean is taken out, as the transformer of the line does.
    """
    samples = np.asarray(samples, np.float32)
    peak = float(np.max(np.abs(samples), initial=0.0))
    if drawn is None or peak == 0.0:
        return samples
    limit = np.float32(peak * 10 ** (-drawn["over_db"] / 20))
    if drawn["shape"] == "hard":
        return np.clip(samples, -limit, limit)
    reach = np.where(samples < 0, np.float32(CARBON_NEGATIVE) * limit, limit)
    carried = reach * np.tanh(samples / reach)
    return carried - (carried.mean() - samples.mean())


def check_echo(settings: Settings, where: str) -> None:
    """Raise ValueError unless {probability, delay_ms, level_db}."""
    if _on(settings, where, "delay_ms", "level_db"):
        check_draw(settings["delay_ms"], f"{where}.delay_ms", 0.0, MAX_DELAY_MS)
        check_draw(settings["level_db"], f"{where}.level_db", -120.0, 0.0)


def draw_echo(rng: np.random.Generator, settings: Settings) -> dict[str, Any] | None:
    """Give {"delay_ms", "level_db"}."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    return {
        "delay_ms": float(draw(rng, settings["delay_ms"])),
        "level_db": float(draw(rng, settings["level_db"])),
    }


def apply_echo(samples: np.ndarray, rate: int, drawn: Drawn) -> np.ndarray:
    """Add the signal once more, later and softer: an echo of the line, or the talker's own sidetone."""
    samples = np.asarray(samples, np.float32)
    if drawn is None:
        return samples
    delay = round(drawn["delay_ms"] * rate / 1000)
    echoed = samples.copy()
    if delay < len(samples):
        echoed[delay:] += np.float32(10 ** (drawn["level_db"] / 20)) * samples[: len(samples) - delay]
    return echoed


def check_agc(settings: Settings, where: str) -> None:
    """Raise ValueError unless {probability, target_dbov, attack_ms, release_ms, max_gain_db}."""
    if _on(settings, where, "target_dbov", "attack_ms", "release_ms", "max_gain_db"):
        check_draw(settings["target_dbov"], f"{where}.target_dbov", -60.0, 0.0)
        for key in ("attack_ms", "release_ms"):
            check_draw(settings[key], f"{where}.{key}", 1.0, 10000.0)
        check_draw(settings["max_gain_db"], f"{where}.max_gain_db", 0.0, 40.0)


def draw_agc(rng: np.random.Generator, settings: Settings) -> dict[str, Any] | None:
    """Give {"target_dbov", "attack_ms", "release_ms", "max_gain_db"}."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    keys = ("target_dbov", "attack_ms", "release_ms", "max_gain_db")
    return {key: float(draw(rng, settings[key])) for key in keys}


def apply_agc(samples: np.ndarray, rate: int, drawn: Drawn) -> np.ndarray:
    """Bring speech to an active level of about `target_dbov`, by at most max_gain_db up or down."""
    samples = np.asarray(samples, np.float32)
    return samples if drawn is None else samples * agc_gain(samples, rate, drawn)


def agc_gain(samples: np.ndarray, rate: int, drawn: Mapping[str, Any]) -> np.ndarray:
    """Give float32 (T,), the factors by which the gain control changes (T,) samples.

    A level detector in blocks of 2 ms falls with `release_ms` and its rises are smoothed with `attack_ms`
    (time constants of the amplitude; the "smooth decoupled peak detector" of Giannoulis, Massberg and
    Reiss, 2012, Journal of the Audio Engineering Society 60:399).  In decibels the release is a straight
    line, so that the detector is a running maximum and needs no loop.  The gain is linear within each block
    and never above the maximum; pauses are raised by all of it, as simple telephones do.
    """
    if len(samples) == 0:
        return np.ones(0, np.float32)
    size = max(1, round(AGC_BLOCK_S * rate))
    blocks = -(-len(samples) // size)
    padded: np.ndarray = np.zeros(blocks * size, np.float32)
    padded[: len(samples)] = samples
    padded = padded.reshape(blocks, size)
    power = np.einsum("ij,ij->i", padded, padded).astype(np.float64) / size
    most = drawn["max_gain_db"]
    target = drawn["target_dbov"] + AGC_CREST_DB
    level = np.clip(10 * np.log10(np.maximum(power, 1e-20)), target - most, target + most)
    fall = 20 / np.log(10) * 1000 * AGC_BLOCK_S / drawn["release_ms"] * np.arange(blocks)
    level = np.maximum.accumulate(level + fall) - fall
    level = np.maximum(level, target - most)
    smooth = np.exp(-1000 * AGC_BLOCK_S / drawn["attack_ms"])
    level, _ = scipy.signal.lfilter([1 - smooth], [1.0, -smooth], level, zi=[smooth * level[0]])
    gain = 10 ** (np.clip(target - level, -most, most) / 20)
    ends = np.concatenate([gain[:1], (gain[1:] + gain[:-1]) / 2, gain[-1:]]).astype(np.float32)
    ramp = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return (ends[:-1, None] + np.diff(ends)[:, None] * ramp).reshape(-1)[: len(samples)]


def check_drift(settings: Settings, where: str) -> None:
    """Raise ValueError unless {probability, ppm}: of the clock that plays against the one that recorded."""
    if _on(settings, where, "ppm"):
        check_draw(settings["ppm"], f"{where}.ppm", -1000.0, 1000.0)


def draw_drift(rng: np.random.Generator, settings: Settings) -> dict[str, Any] | None:
    """Give {"ppm"}."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    return {"ppm": float(draw(rng, settings["ppm"]))}


def apply_drift(samples: np.ndarray, rate: int, drawn: Drawn) -> np.ndarray:
    """Stretch time by (1 + ppm / 10**6), keeping the length: labels shift by up to that share of the file."""
    samples = np.ascontiguousarray(samples, np.float32)
    if drawn is None or len(samples) == 0:
        return samples
    stretched = soxr.resample(samples, rate, rate * (1 + drawn["ppm"] * 1e-6), "HQ")[: len(samples)]
    return np.pad(stretched, (0, len(samples) - len(stretched)))


def _on(
    settings: Settings, where: str, *keys: str, optional: tuple[str, ...] = ()
) -> TypeGuard[Mapping[str, Any]]:
    """True for settings that have `probability` and these keys; False for None."""
    if settings is None:
        return False
    check_keys(settings, ("probability", *keys), where, optional)
    check_probability(settings["probability"], f"{where}.probability")
    return True


def noise_start(seed: int) -> int:
    """Give the place in `white_noise` that a seed stands for; those of successive seeds lie far apart."""
    return seed * SPREAD % NOISE_SAMPLES


@lru_cache(maxsize=1)
def white_noise() -> np.ndarray:
    """Give NOISE_SAMPLES float32 of unit variance, always the same."""
    noise = np.random.Generator(np.random.Philox(key=NOISE_KEY)).standard_normal(NOISE_SAMPLES, np.float32)
    noise.setflags(write=False)
    return noise


def _whole(rng: np.random.Generator, setting: Any) -> int:
    """Draw a whole number, both ends of an interval alike."""
    if isinstance(setting, Mapping) and setting.keys() == {"min", "max"}:
        return int(rng.integers(int(setting["min"]), int(setting["max"]) + 1))
    return round(draw(rng, setting))
