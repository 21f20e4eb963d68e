"""Sample rate changes that keep length and time: soxr HQ, no image above the old Nyquist frequency."""

from __future__ import annotations

import threading

import numpy as np
import soxr

KEPT_RESAMPLERS = 16  # pairs of rates, per thread
SHORT = 1 << 20  # samples; what is longer costs little to set up for, and leaves large buffers behind


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
        changed = _RESAMPLERS.run(samples, rate, new_rate)
    if len(changed) < num_samples:
        changed = np.concatenate([changed, np.zeros(num_samples - len(changed), np.float32)])
    return changed[:num_samples]


class _Resamplers(threading.local):
    """Resamplers that are set up once, which for a short file takes as long as the work itself."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], soxr.ResampleStream] = {}

    def run(self, samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
        """Give the whole of (T,) float32 at the new rate, the same as soxr.resample gives."""
        if len(samples) > SHORT:
            return soxr.resample(samples, rate, new_rate, "HQ")
        resampler = self._made.pop((rate, new_rate), None)  # one that an error left half-way is not kept
        if resampler is None:
            resampler = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
        resampled = resampler.resample_chunk(samples, last=True)
        resampler.clear()
        if len(self._made) < KEPT_RESAMPLERS:
            self._made[rate, new_rate] = resampler
        return resampled


_RESAMPLERS = _Resamplers()
