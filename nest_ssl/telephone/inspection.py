"""What a recording says about the line it came over: band, level, noise, lost packets, the last codec.

Everything here is an estimate from the samples alone.  What leaves no trace in them (losses that an AMR or
Opus decoder concealed, a CELP codec behind another one) is not guessed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy

from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.level import active_level
from nest_ssl.telephone.resample import resample

RATE = 8000
FRAME = 80  # 10 ms at 8 kHz
ACTIVE_DB = 20.0  # frames within so much of the active level count as speech
LOW_EDGE_DB, EDGE_DB = (
    15.0,
    30.0,
)  # a band ends where the spectrum stays so far below its median of 500-2500 Hz
PEAK_DB = 40.0  # no speech has that much between its strongest part and the median; tones have
EMPTY_DB = 50.0  # what lies so far below it in every recording of speech is an empty band
PIECE_S = 20.0  # of active speech, that the tests for codecs look at
REPEATED = 0.9998  # correlation with what was before; natural speech stays below, a copied period does not
LATTICE_SHARE = 0.999  # of samples that are multiples of 8, behind a decoder of 13 bits
LOUD = 256  # samples above this tell the laws of G.711 apart; below, their tables are dense
TABLE_SHARE = 0.85  # of them that are values of a law's table; what is missing was concealed or mixed
LATTICE_STEP = 0.35  # mean distance to the nearest G.711 value, in half steps; 0.5 without quantisation
# How far the frame start of a GSM coder stands out over all others and over the second, in deviations: among
# 72 recordings without one the largest were 3.5 and 1.5, never both in the same.
GSM_Z, GSM_GAP = 4.0, 2.0
NO_SIGNAL = (None, None, "no signal")  # the band's edges, and what it is


@dataclass(frozen=True)
class Inspection:
    """Levels in dBov (0: a full-scale square wave), frequencies in Hz, shares from 0 to 1; None: not to tell.

    low_hz, high_hz: where speech fades out of the spectrum; band: the same in words; noise_dbov: level of the
    quietest tenth of the frames; zeroed: share of the speech time that is exactly constant within speech;
    repeated: share of the speech frames that copy an earlier pitch period; family: the codec that the samples
    point to, with its evidence.
    """

    sample_rate: int
    duration_s: float
    level_dbov: float | None
    activity: float
    peak_dbov: float | None
    clipped: float
    dc: float
    noise_dbov: float | None
    snr_db: float | None
    low_hz: float | None
    high_hz: float | None
    band: str
    zeroed: float
    repeated: float
    family: str
    evidence: str

    def record(self) -> dict[str, Any]:
        """Give it as a JSON-able dictionary."""
        return asdict(self)


def inspect(samples: np.ndarray, sample_rate: int) -> Inspection:
    """Estimate what line (T,) float samples in [-1, 1] came over; ValueError for another shape or NaN."""
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"inspect takes one channel, samples of the shape (T,), not {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(samples))} samples are not finite")
    level = active_level(samples, sample_rate)
    heard = bool(np.isfinite(level.level_dbov))
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    noise = _noise_dbov(samples, sample_rate)
    low, high, band = _band(samples, sample_rate) if heard else NO_SIGNAL
    narrow = resample(samples, sample_rate, RATE) if sample_rate != RATE else samples
    zeroed, repeated = _losses(narrow, level.level_dbov) if heard else (0.0, 0.0)
    narrowband = high is not None and high <= RATE / 2
    pcm = np.clip(np.rint(narrow * 32768.0), -32768, 32767).astype(np.int16)
    family, evidence = _family(pcm, sample_rate == RATE) if heard and narrowband else ("none to tell", band)
    return Inspection(
        sample_rate=sample_rate,
        duration_s=round(len(samples) / sample_rate, 6),
        level_dbov=round(level.level_dbov, 2) if heard else None,
        activity=round(level.activity, 4),
        peak_dbov=round(float(20 * np.log10(peak)), 2) if peak > 0 else None,
        clipped=round(_clipped(samples, peak), 6),
        dc=round(float(np.mean(samples, dtype=np.float64)), 6) if len(samples) else 0.0,
        noise_dbov=noise,
        snr_db=round(level.level_dbov - noise, 1) if heard and noise is not None else None,
        low_hz=low,
        high_hz=high,
        band=band,
        zeroed=round(zeroed, 4),
        repeated=round(repeated, 4),
        family=family,
        evidence=evidence,
    )


def long_term_spectrum(samples: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Give (frequencies in Hz, dB) of (T,), the mean of its louder 32-ms frames, at 31.25 Hz steps."""
    size = round(0.032 * sample_rate)
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    _, _, spectra = scipy.signal.stft(
        samples, sample_rate, nperseg=size, noverlap=size // 2, boundary=None, padded=False
    )
    power = np.abs(spectra) ** 2
    loud = power.sum(axis=0)
    power = power[:, loud >= np.median(loud)].mean(axis=1)
    return np.fft.rfftfreq(size, 1 / sample_rate), 10 * np.log10(power + 1e-20)


def _band(samples: np.ndarray, sample_rate: int) -> tuple[float | None, float | None, str]:
    alternating = samples - np.mean(samples)
    if np.max(np.abs(alternating)) < 0.5 / 32768:  # nothing but a constant
        return NO_SIGNAL
    frequencies, level = long_term_spectrum(alternating, sample_rate)
    reference = float(np.median(level[(frequencies >= 500) & (frequencies <= 2500)]))
    reference = max(reference, float(level.max()) - PEAK_DB)
    present = np.flatnonzero(level > reference - EDGE_DB)
    low = float(frequencies[np.flatnonzero(level > reference - LOW_EDGE_DB)[0]])
    high = float(frequencies[present[-1]])
    above = level[frequencies > 4200]
    if len(above) and float(above.max()) > reference - EMPTY_DB:
        return low, high, "wideband: there is sound above 4 kHz"
    if len(above):
        return low, min(high, 4000.0), "narrowband: nothing above 4 kHz"
    return low, high, "narrowband: sampled at 8 kHz"


def _noise_dbov(samples: np.ndarray, sample_rate: int) -> float | None:
    size = round(0.02 * sample_rate)
    count = len(samples) // size
    if count < 10:
        return None
    power = np.mean(np.square(samples[: count * size].reshape(count, size), dtype=np.float64), axis=1)
    quiet = float(np.mean(np.sort(power)[: count // 10]))
    return round(10 * np.log10(quiet), 2) if quiet > 0 else -96.0


def _clipped(samples: np.ndarray, peak: float) -> float:
    """Share of samples in runs of at least three at the peak."""
    if peak < 0.1 or len(samples) < 3:
        return 0.0
    at_peak = np.abs(samples) >= peak * (1 - 1e-4)
    inner = at_peak[:-2] & at_peak[1:-1] & at_peak[2:]
    in_run = np.convolve(inner, np.ones(3)) > 0
    return float(np.count_nonzero(in_run)) / len(samples)


def _losses(samples: np.ndarray, level_dbov: float) -> tuple[float, float]:
    """Share of the speech time that is constant, and of its frames that repeat an earlier pitch period."""
    count = len(samples) // FRAME
    if count < 4:
        return 0.0, 0.0
    frames = samples[: count * FRAME].reshape(count, FRAME).astype(np.float64)
    power = np.mean(frames**2, axis=1)
    active = power > 10 ** ((level_dbov - ACTIVE_DB) / 10)
    constant = np.ptp(frames[:, 20:60], axis=1) <= 4 / 32768  # the middle: resampling rings at the edges
    near = np.convolve(active, np.ones(9))[4:-4] > 0  # speech within 40 ms on either side
    before = np.cumsum(active) > 0
    after = np.cumsum(active[::-1])[::-1] > 0
    gaps = _short_runs(constant & before & after & near, 12)  # a pause is longer
    spoken = max(1, int(active.sum() + gaps.sum()))
    repeated = 0
    for number in np.flatnonzero(active & (np.arange(count) >= 5)).tolist():
        repeated += _copies(samples, number * FRAME)
    return float(gaps.sum()) / spoken, repeated / spoken


def _short_runs(flags: np.ndarray, longest: int) -> np.ndarray:
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    kept = np.zeros_like(flags)
    for start, end in zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0), strict=True):
        kept[start:end] = end - start <= longest
    return kept


def _copies(samples: np.ndarray, start: int) -> bool:
    """True if the 10 ms from `start` on are a scaled copy of those 5 to 45 ms before."""
    frame = samples[start : start + FRAME].astype(np.float64)
    first = max(0, start - 360)
    past = samples[first : start - 40 + FRAME].astype(np.float64)
    products = np.correlate(past, frame, "valid")
    sums = np.concatenate([[0.0], np.cumsum(past**2)])
    energy = sums[FRAME:] - sums[:-FRAME]
    best = np.max(products / np.sqrt(np.maximum(energy * (frame @ frame), 1e-20)))
    return bool(best > REPEATED)


def _family(pcm: np.ndarray, untouched: bool) -> tuple[str, str]:
    """Name the codec that int16 (T,) at 8 kHz points to; untouched: not resampled since it was decoded."""
    found = []
    if untouched:
        # AMR and GSM decoders give 13 bits: the last three are zero, unless something changed the level since
        coarse, very_coarse = (
            np.count_nonzero(pcm & bits) <= (1 - LATTICE_SHARE) * len(pcm) for bits in (0x07, 0x3F)
        )
        if very_coarse and np.count_nonzero(pcm) > 100:
            return "linear PCM of 10 bits or fewer", "the last six bits of all samples are zero"
        if coarse and np.count_nonzero(pcm) > 100:
            found.append(
                ("AMR, GSM or another codec of 13 bits", "the last three bits of all samples are zero")
            )
        loud = pcm[np.abs(pcm.astype(np.int32)) >= LOUD]
        for name, law in (("G.711 A-law", "g711a"), ("G.711 mu-law", "g711u")):
            share = float(np.mean(np.isin(loud, _values(law)))) if len(loud) else 0.0
            if share >= TABLE_SHARE:
                found.append((name, f"{share:.1%} of the louder samples are values of its table"))
    else:
        steps = {law: _distance(pcm, law) for law in ("g711a", "g711u")}
        law = min(steps, key=lambda law: steps[law])
        if steps[law] < LATTICE_STEP:
            name = {"g711a": "G.711 A-law", "g711u": "G.711 mu-law"}[law]
            found.append(
                (name, f"loud samples are {steps[law]:.2f} half steps off its table (0.5 by chance)")
            )
    gsm, gap = _gsm_fit(pcm)
    if gsm >= GSM_Z and gap >= GSM_GAP:
        words = f"coding again fits best at one frame start, by {gsm:.1f} deviations"
        others = [name for name, _ in found if name.startswith("G.711")]
        return ("GSM 06.10" + (f", then {others[0]}" if others else ""), words)
    if found:
        return found[-1]
    return "none to tell", "no trace of G.711 or GSM: linear, AMR, Opus, G.729, or the level changed since"


@lru_cache
def _values(law: str) -> np.ndarray:
    """The 256 values of a G.711 decoder, sorted."""
    every = np.arange(-32768, 32768).astype(np.int16)
    return np.unique(codec(law).encode_decode(every, {}))


def _distance(pcm: np.ndarray, law: str) -> float:
    """Mean distance of loud samples to the nearest value of the table, in halves of its step there."""
    loud = pcm[np.abs(pcm.astype(np.int32)) >= 2048].astype(np.float64)
    if len(loud) < 200:
        return 1.0
    values = _values(law).astype(np.float64)
    right = np.clip(np.searchsorted(values, loud), 1, len(values) - 1)
    low, high = values[right - 1], values[right]
    return float(np.mean(np.minimum(np.abs(loud - low), np.abs(high - loud)) / ((high - low) / 2)))


def _gsm_fit(pcm: np.ndarray) -> tuple[float, float]:
    """How much better coding again by GSM fits at its best frame start than at all others and at the second.

    A frame that was coded is coded the same way again; at another start it is another frame.  Up to
    20 s of the loudest part are searched, in steps of 4 samples: units are deviations of the fit in dB.
    """
    length = int(PIECE_S * RATE)
    if len(pcm) > length:
        power = np.add.reduceat(pcm.astype(np.float64) ** 2, np.arange(0, len(pcm), RATE))
        start = int(np.argmax(np.convolve(power, np.ones(int(PIECE_S)), "valid"))) * RATE
        pcm = pcm[start : start + length]
    if len(pcm) < RATE:
        return 0.0, 0.0
    coder = codec("gsm_fr")
    fits = []
    for start in range(0, 160, 4):
        piece = pcm[start : start + (len(pcm) - 160) // 160 * 160]
        error = piece.astype(np.float64) - coder.encode_decode(piece, {})
        fits.append(10 * np.log10(np.sum(piece.astype(np.float64) ** 2) / max(np.sum(error**2), 1e-9)))
    best = int(np.argmax(fits))
    others = np.delete(fits, best)
    deviation = max(float(others.std()), 1e-6)
    return float(fits[best] - others.mean()) / deviation, float(fits[best] - others.max()) / deviation
