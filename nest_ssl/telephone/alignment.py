"""How far a channel shifts what it is given: the lag between a signal and what came of it."""

from __future__ import annotations

import numpy as np
import scipy

BAND_HZ = (500.0, 3000.0)  # outside, the phase of codecs' high-pass filters pulls the peak by 1.5 samples
FORMANTS_HZ = ((300, 800), (900, 2000), (2300, 3000))


def lag_samples(sent: np.ndarray, received: np.ndarray, sample_rate: int) -> float:
    """Give by how many samples (T,) `received` comes after (T,) `sent`, to a fraction of one.

    The peak of the cross-correlation of the band 500-3000 Hz, interpolated by a parabola.  nan where one of
    them is silent.
    """
    count = min(len(sent), len(received))
    size = scipy.fft.next_fast_len(2 * max(count, 1), real=True)
    spectra = [scipy.fft.rfft(np.asarray(signal[:count], np.float64), size) for signal in (sent, received)]
    hertz = scipy.fft.rfftfreq(size, 1 / sample_rate)
    band = (hertz >= BAND_HZ[0]) & (hertz <= BAND_HZ[1])
    correlation = scipy.fft.irfft(np.where(band, np.conj(spectra[0]) * spectra[1], 0), size)
    peak = int(np.argmax(correlation))
    before, here, after = (float(correlation[(peak + step) % size]) for step in (-1, 0, 1))
    if here <= 0:
        return float("nan")
    curve = before - 2 * here + after
    shift = 0.5 * (before - after) / curve if curve else 0.0
    return (peak if peak <= size // 2 else peak - size) + shift


def speech_like(duration_s: float, sample_rate: int, seed: int = 0) -> np.ndarray:
    """Give float32 (T,) within -0.5 and 0.5 that speech codecs take for speech: no voice, but its marks.

    Syllables of a gliding pitch of 90-220 Hz through three moving resonances, hisses between them, pauses.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    count = round(duration_s * sample_rate)
    if count == 0:
        return np.zeros(0, np.float32)
    t = np.arange(count) / sample_rate
    knots = np.arange(0, duration_s + 0.5, 0.25)
    pitch = np.interp(t, knots, rng.uniform(90, 220, len(knots)))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    resonances = [np.interp(t, knots, rng.uniform(low, high, len(knots))) for low, high in FORMANTS_HZ]
    voiced = np.zeros(count)
    for number in range(1, 40):
        hertz = number * pitch
        gain = np.zeros(count)
        for centre, weight in zip(resonances, (1.0, 0.5, 0.25), strict=True):
            gain += weight / (1 + ((hertz - centre) / 120) ** 2)
        voiced += np.where(hertz < 0.47 * sample_rate, gain, 0) * np.sin(number * phase + 0.3 * number**2)
    hiss = np.diff(rng.standard_normal(count + 1))
    syllable = np.clip(np.sin(2 * np.pi * 2.2 * t + 0.4), 0, 1) ** 0.5
    hissing = np.clip(np.sin(2 * np.pi * 2.2 * t + 0.4 + np.pi), 0, 1) ** 4
    paused = np.where((t % 3.0) > 2.4, 0.0, 1.0)
    mixed = paused * (syllable * voiced / 1.5 + 0.05 * hissing * hiss) + 1e-4 * rng.standard_normal(count)
    return (0.5 * mixed / np.abs(mixed).max()).astype(np.float32)
