"""What the tests of codecs measure, in plain numpy: delay, long-term spectrum, segmental SNR, level."""

import numpy as np
from scipy import signal


def lag_samples(before: np.ndarray, after: np.ndarray, rate: int) -> float:
    """Samples by which `after` comes late, in the band where codecs keep the phase: 500 to 3000 Hz."""
    band = signal.butter(6, (500, 3000), "bandpass", fs=rate, output="sos")
    before, after = (signal.sosfilt(band, samples.astype(float)) for samples in (before, after))
    correlation = signal.correlate(after, before, method="fft")
    zero = len(before) - 1
    reach = rate // 20  # 50 ms
    peak = zero - reach + int(np.argmax(correlation[zero - reach : zero + reach + 1]))
    left, top, right = correlation[peak - 1 : peak + 2]
    return peak - zero + 0.5 * (left - right) / (left - 2 * top + right)  # the vertex of a parabola


def spectrum_change_db(before: np.ndarray, after: np.ndarray, rate: int, centres) -> np.ndarray:
    """Change of the long-term power in a third of an octave around each centre (Hz)."""
    hertz, power_before = signal.welch(before.astype(float), rate, nperseg=1024)
    power_after = signal.welch(after.astype(float), rate, nperseg=1024)[1]
    near = [(hertz > centre / 1.12) & (hertz < centre * 1.12) for centre in centres]
    return np.array([10 * np.log10(power_after[band].sum() / power_before[band].sum()) for band in near])


def segmental_snr_db(before: np.ndarray, after: np.ndarray, frame: int = 160) -> float:
    """Mean over active frames of the SNR, held within -10 and 45 dB."""
    whole = len(before) // frame * frame
    speech = before[:whole].astype(float).reshape(-1, frame)
    error = after[:whole].astype(float).reshape(-1, frame) - speech
    energy = (speech**2).sum(axis=1)
    active = energy > energy.max() * 1e-4
    snr = 10 * np.log10(energy[active] / np.maximum((error[active] ** 2).sum(axis=1), 1.0))
    return float(np.clip(snr, -10, 45).mean())


def level_db(samples: np.ndarray) -> float:
    """Power in dB re one LSB squared; the floor is one LSB."""
    return float(10 * np.log10(max(np.mean(samples.astype(float) ** 2), 1.0)))
