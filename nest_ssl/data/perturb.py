"""Changes of each utterance's waveform, NeMo's `augmentor` section: what needs no further files."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nest_ssl.config import suggestion
from nest_ssl.files.audio import resample

Change = Callable[[np.ndarray, np.random.RandomState], np.ndarray]

# NeMo's others, and why they are not here.
REFUSED = {
    "time_stretch": "use speed, which changes the pitch too, or stretch the recordings beforehand",
    "impulse": "prepare the recordings with room responses beforehand (python -m nest_ssl.bin.simulate)",
    "noise": "noise comes from noise_manifest and batch_augmentor",
    "noise_norm": "noise comes from noise_manifest and batch_augmentor",
    "rir_noise_aug": "prepare the recordings beforehand (python -m nest_ssl.bin.simulate)",
    "transcode_aug": "the telephone simulation has the codecs (python -m nest_ssl.bin.simulate)",
}


class WaveformAugmentor:
    """Applies each perturbation with its probability, in the order of the section.

    Called as augmentor(samples, rng): (T,) float32 in, (T',) float32 out; every draw is from `rng`, the
    utterance's own stream.  (NeMo draws from the process's global generators: other numbers, same
    distributions.)
    """

    def __init__(self, steps: list[tuple[float, Change]], facts: Any) -> None:
        self.steps = steps
        self.facts = facts  # for fingerprints

    def __call__(self, samples: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        for probability, change in self.steps:
            if rng.uniform() < probability:
                samples = change(samples, rng)
        return np.ascontiguousarray(samples, np.float32)


class Gain:
    """Multiply by a gain drawn between two levels, dB."""

    def __init__(self, sample_rate: int, min_gain_dbfs: float = -10, max_gain_dbfs: float = 10) -> None:
        self.span = (min_gain_dbfs, max_gain_dbfs)

    def __call__(self, samples: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        return samples * np.float32(10.0 ** (rng.uniform(*self.span) / 20.0))


class WhiteNoise:
    """Add white noise at a whole level drawn from [min_level, max_level), dB below full scale."""

    def __init__(self, sample_rate: int, min_level: int = -90, max_level: int = -46) -> None:
        self.span = (int(min_level), int(max_level))

    def __call__(self, samples: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        level_db = rng.randint(*self.span)
        return samples + (rng.standard_normal(len(samples)) * 10.0 ** (level_db / 20.0)).astype(np.float32)


class Shift:
    """Move by a time drawn between two, zeros coming in; positive times move it to the front, as in NeMo."""

    def __init__(self, sample_rate: int, min_shift_ms: float = -5.0, max_shift_ms: float = 5.0) -> None:
        self.sample_rate = sample_rate
        self.span = (min_shift_ms, max_shift_ms)

    def __call__(self, samples: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        shift = int(rng.uniform(*self.span) * self.sample_rate // 1000)
        if shift == 0 or abs(shift) >= len(samples):
            return samples
        moved = np.zeros_like(samples)
        if shift > 0:
            moved[:-shift] = samples[shift:]
        else:
            moved[-shift:] = samples[:shift]
        return moved


class Speed:
    """Change tempo and pitch by resampling; NeMo's rates: the new length is rate times the old one.

    resample_type is taken and not used: soxr's HQ resamples, as everywhere here.
    """

    def __init__(
        self,
        sample_rate: int,
        sr: int | None = None,
        resample_type: str = "kaiser_best",
        min_speed_rate: float = 0.9,
        max_speed_rate: float = 1.1,
        num_rates: int = 5,
    ) -> None:
        if min(min_speed_rate, max_speed_rate) <= 0:
            raise ValueError(f"the rates must be positive, not {min_speed_rate} and {max_speed_rate}")
        if sr not in (None, sample_rate):
            raise ValueError(f"sr {sr} is not the sample_rate {sample_rate} of the section")
        self.sample_rate = sample_rate
        self.span = (min_speed_rate, max_speed_rate)
        self.rates = np.linspace(min_speed_rate, max_speed_rate, num_rates) if num_rates > 0 else None

    def __call__(self, samples: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        rate = rng.uniform(*self.span) if self.rates is None else self.rates[rng.randint(len(self.rates))]
        new_rate = int(self.sample_rate * rate)
        return samples if rate == 1.0 else resample(samples, self.sample_rate, new_rate)


class Silence:
    """Put silence of drawn length before and behind."""

    def __init__(
        self,
        sample_rate: int,
        min_start_silence_secs: float = 0,
        max_start_silence_secs: float = 0,
        min_end_silence_secs: float = 0,
        max_end_silence_secs: float = 0,
        value: float = 0,
    ) -> None:
        self.sample_rate = sample_rate
        self.spans = (
            (min_start_silence_secs, max_start_silence_secs),
            (min_end_silence_secs, max_end_silence_secs),
        )
        self.value = value

    def __call__(self, samples: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        lengths = [int(rng.uniform(*span) * self.sample_rate) for span in self.spans]
        return np.pad(samples, lengths, constant_values=self.value)


class RandomSegment:
    """Keep a random segment; what is shorter stays, or gets zeros behind it."""

    def __init__(self, sample_rate: int, duration_sec: float = 32.0, pad_to_duration: bool = False) -> None:
        if not duration_sec > 0:
            raise ValueError(f"duration_sec must be positive, not {duration_sec}")
        self.length = round(duration_sec * sample_rate)
        self.pad = pad_to_duration

    def __call__(self, samples: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        if len(samples) <= self.length:
            return np.pad(samples, (0, self.length - len(samples))) if self.pad else samples
        start = rng.randint(len(samples) - self.length + 1)
        return samples[start : start + self.length]


PERTURBATIONS: dict[str, Callable[..., Change]] = {
    "gain": Gain,
    "white_noise": WhiteNoise,
    "shift": Shift,
    "speed": Speed,
    "silence": Silence,
    "random_segment": RandomSegment,
}


def augmentor_from_config(
    section: Mapping[str, Any] | None, sample_rate: int, name: str
) -> WaveformAugmentor | None:
    """Build the augmentor of NeMo's section {perturbation: {prob: 0..1, option: value}}; None for none.

    NeMo's `rng` (a seed) has no effect: the draws follow from the run's seed.  ValueError names the key.
    """
    if not section:
        return None
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} must be a section of perturbations, not {section!r}")
    steps: list[tuple[float, Change]] = []
    for kind, given in section.items():
        key = f"{name}.{kind}"
        if kind in REFUSED:
            raise ValueError(f"{key} is not supported: {REFUSED[kind]}")
        if kind not in PERTURBATIONS:
            raise ValueError(f"{key} is no perturbation; {suggestion(str(kind), list(PERTURBATIONS))}")
        if not isinstance(given, Mapping):
            raise ValueError(f"{key} must be a section with prob and options, not {given!r}")
        options = {option: value for option, value in given.items() if option not in ("prob", "rng")}
        probability: Any = given.get("prob")
        if not _number(probability) or not 0 <= probability <= 1:
            raise ValueError(f"{key}.prob must be a number from 0 to 1, not {probability!r}")
        known = list(inspect.signature(PERTURBATIONS[kind]).parameters)[1:]
        for option, value in options.items():
            if option not in known:
                raise ValueError(f"{key}.{option} is no option; {suggestion(str(option), [*known, 'prob'])}")
            if option != "resample_type" and not isinstance(value, bool) and not _number(value):
                raise ValueError(f"{key}.{option} must be a number, not {value!r}")
        try:
            steps.append((float(probability), PERTURBATIONS[kind](sample_rate, **options)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from error
    return WaveformAugmentor(steps, {str(kind): dict(given) for kind, given in section.items()})


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
