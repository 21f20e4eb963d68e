"""Whether anybody speaks: a language model that is asked to transcribe silence writes something all the same.

Two gates.  "ctc": the CTC branch hears no label, or is not sure of those in nearly steady sound.  "level":
the active speech level is that of silence, or all that is heard is steady: noise, hum, a tone, comfort noise.
Where a checkpoint has no CTC weights the level alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nest_ssl.data.audio_facts import measure

GATES = ("auto", "level", "off")
FAINTEST_DBOV = -75.0  # of active speech: below the idle noise of 16-bit telephone recordings
FRAME_S = 0.1
BANDS_HZ = (200.0, 500.0, 900.0, 1400.0, 2000.0, 2700.0, 3400.0)  # edges within the telephone band
QUIETEST = 1e-10  # power of a band in silence
# Range of the level in the band where it is largest: noise has up to 5, comfort noise 8, of 500 words and
# sentences over a simulated telephone 498 have more than 12, a short vowel may have 7.
STEADY_DB, STEADY_SHORT_DB, SHORT_S = 9.0, 7.25, 1.0  # nobody speaks below, whatever CTC says
LITTLE_DB = 12.0  # where only a CTC branch that is sure is believed
SURE = 0.7  # mean probability of the labels that CTC gives


@dataclass(frozen=True)
class Gate:
    """What the gates found.

    silent: "ctc" or "level", the gate that heard nobody; None where somebody speaks.  ctc_confidence: mean
    probability of the labels on the best path, 0 without any; ctc_blank: mean probability of the blank; both
    None without CTC.  range_db: how much the level of a band changes, None below 3 frames.
    """

    silent: str | None
    ctc_confidence: float | None
    ctc_blank: float | None
    range_db: float | None
    active_level_dbov: float | None


def gate(samples: np.ndarray, rate: int, log_probs: np.ndarray | None, blank: int) -> Gate:
    """Judge float32 (T,) samples in [-1, 1] and the CTC branch's (frames, V) log probabilities."""
    confidence = mean_blank = None
    level = measure(samples, rate)["active_level_dbov"]
    changes = range_db(samples, rate)
    silent = None
    if log_probs is not None and len(log_probs):
        best = log_probs.argmax(axis=1)
        heard = best != blank
        mean_blank = float(np.exp(log_probs[:, blank]).mean())
        confidence = float(np.exp(log_probs[heard].max(axis=1)).mean()) if heard.any() else 0.0
        steady = changes is not None and changes < LITTLE_DB
        if not heard.any() or (steady and confidence < SURE):
            silent = "ctc"
    least = STEADY_DB if len(samples) >= SHORT_S * rate else STEADY_SHORT_DB
    steady = changes is not None and changes < least
    if silent is None and (level is None or level < FAINTEST_DBOV or steady):
        silent = "level"
    return Gate(silent, _rounded(confidence), _rounded(mean_blank), _rounded(changes), level)


def range_db(samples: np.ndarray, rate: int) -> float | None:
    """Give how much the level of a band changes 90 % of the time, in dB, in the band where it changes most.

    samples: float (T,).  None below three frames of FRAME_S.
    """
    width = round(FRAME_S * rate)
    count = len(samples) // width
    if count < 3:
        return None
    frames = np.asarray(samples[: count * width], dtype=np.float64).reshape(count, width)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(width), axis=1)) ** 2 / width**2
    edges = np.searchsorted(np.fft.rfftfreq(width, 1 / rate), BANDS_HZ)
    power = np.stack([spectrum[:, a:b].sum(axis=1) for a, b in pairwise(edges)], axis=1)
    levels = 10 * np.log10(np.maximum(power, QUIETEST))
    low, high = np.percentile(levels, [5, 95], axis=0)
    return float((high - low).max())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
