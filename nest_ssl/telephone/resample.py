"""Sample rate changes that keep length and time: soxr HQ, no image above the old Nyquist frequency."""

from __future__ import annotations

import numpy as np
import soxr


def converted_length(num_samples: int, rate: int, new_rate: int) -> int:
    """Give round(num_samples * new_rate / rate), in integers (halves round up)."""
    return (2 * num_samples * new_rate + rate) // (2 * rate)


def resample(samples: np.ndarray, rate: int, new_rate: int, num_samples: int | None = None) -> np.ndarray:
    """Resample (T,) float to `new_rate` Hz as float32, exactly `num_samples` long.

    `num_samples` defaults to `converted_length`; what the resampler gives beyond it is cut, what is missing
    (one sample at most, or all of a signal of a sample or two) is zero.  Linear resampling only: no gain,
    no dither.
    """
    if num_samples is None:
        num_samples = converted_length(len(samples), rate, new_rate)
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    changed = samples
    if rate != new_rate and len(samples) > 0:
        changed = soxr.resample(samples, rate, new_rate, "HQ")
    if len(changed) < num_samples:
        changed = np.concatenate([changed, np.zeros(num_samples - len(changed), np.float32)])
    return changed[:num_samples]
