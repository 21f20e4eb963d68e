"""Cutting quiet ends off audio."""

from __future__ import annotations

import numpy as np

FRAME, HOP, TOP_DB = 2048, 512, 60.0


def trim_silence(samples: np.ndarray) -> np.ndarray:
    """Cut (T,) samples to the span of frames within 60 dB of the loudest one; all-zero audio stays as it is.

    Frames of 2048 samples, hop 512, centred with zeros outside: librosa.effects.trim with NeMo's settings.
    """
    padded = np.pad(samples.astype(np.float64), FRAME // 2)
    energy = np.concatenate([[0.0], np.cumsum(padded**2)])
    starts = np.arange(1 + (len(padded) - FRAME) // HOP) * HOP
    power = np.maximum((energy[starts + FRAME] - energy[starts]) / FRAME, 1e-10)
    loud = np.flatnonzero(10.0 * np.log10(power / power.max()) > -TOP_DB)
    return samples[loud[0] * HOP : min(len(samples), (loud[-1] + 1) * HOP)]
