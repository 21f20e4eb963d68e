"""Concealment of lost packets for codecs that have none of their own: G.711, G.726, ADPCM.

Source: ITU-T G.711 Appendix I (09/1999), the description of its method; the code is our own.  What is lost is
filled with the last pitch periods before it: one for 10 ms, then two, then three, so that it does not buzz.
From 10 ms on it fades, and is silent after 60 ms.  Differences: the recommendation delays the whole output
by 3.75 ms to be able to blend the end of the good signal into the repetition; here the blend is made where it
belongs and nothing is delayed.  The pitch is sought at every lag, not first at every second one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

VERSION = 1  # raise it when other samples come out

PITCH_MIN_S, PITCH_MAX_S = 0.005, 0.015  # 200 to 66 Hz
COMPARED_S = 0.020  # the stretch whose repetition is sought
HISTORY_S = 0.04875  # three of the longest periods and a quarter
STEP_S = 0.010  # the method's own frame: more periods and less level from step to step
FADE_PER_STEP = 0.2
RETURN_OVERLAP_PER_STEP_S = 0.004  # blended longer into the good signal for every step lost after the first
MIN_ENERGY = 250.0  # of the stretch compared with; keeps the quietest noise from looking periodic


def conceal(samples: np.ndarray, lost: np.ndarray, frame_samples: int, rate: int = 8000) -> np.ndarray:
    """Fill the lost frames of int16 (T,) from what came before; gives a new int16 (T,).

    lost: bool (ceil(T / frame_samples),), True for a frame that did not arrive; what `samples` holds there is
    not looked at.  Besides the lost frames it changes up to 3.75 ms before each run of them and up to 10 ms
    after it, where both are blended.  A loss before the first good frame gives silence.  T may be any length,
    with the last frame cut short.  Raises ValueError if `lost` has another length.
    """
    runs = lost_runs(lost, frame_samples, len(samples))
    filled = samples.astype(np.int16)
    for start, end in runs:
        _fill(filled, start, end, rate)
    return filled


def silence(samples: np.ndarray, lost: np.ndarray, frame_samples: int) -> np.ndarray:
    """Give int16 (T,) with zeros in the lost frames, as receivers without concealment play them."""
    filled = samples.astype(np.int16)
    for start, end in lost_runs(lost, frame_samples, len(samples)):
        filled[start:end] = 0
    return filled


def lost_runs(lost: np.ndarray, frame_samples: int, num_samples: int) -> list[tuple[int, int]]:
    """Give the stretches (first sample, one after the last) of consecutive lost frames."""
    lost = np.asarray(lost, dtype=bool)
    expected = -(-num_samples // frame_samples)
    if lost.shape != (expected,):
        raise ValueError(
            f"{num_samples} samples are {expected} frames of {frame_samples}; `lost` has shape {lost.shape}"
        )
    framed = np.zeros(expected + 2, bool)
    framed[1:-1] = lost
    edges = np.flatnonzero(framed[1:] != framed[:-1]) * frame_samples
    ends = np.minimum(edges[1::2], num_samples)
    return list(zip(edges[::2].tolist(), ends.tolist(), strict=True))


def _fill(signal: np.ndarray, start: int, end: int, rate: int) -> None:
    """Conceal signal[start:end] in place, and blend it with what stands around it."""
    history = np.zeros(round(HISTORY_S * rate), np.float32)
    known = min(len(history), start)
    history[len(history) - known :] = signal[start - known : start]
    pitch = pitch_period(history, rate)
    overlap = pitch // 4
    if known >= overlap:
        signal[start - overlap : start] = _int16(_cycle(history, pitch, 1)[-overlap:])

    step = round(STEP_S * rate)
    steps_lost = -(-(end - start) // step)
    return_overlap = min(overlap + (steps_lost - 1) * round(RETURN_OVERLAP_PER_STEP_S * rate), step)
    until = min(end + return_overlap, len(signal))
    repeated = _repeat(history, pitch, end - start, until - end, step)
    signal[start:end] = _int16(repeated[: end - start])
    fade = _ramp(return_overlap)[: until - end]
    blend = repeated[end - start :] * (1 - fade) + signal[end:until] * fade
    signal[end:until] = _int16(blend)


def pitch_period(history: np.ndarray, rate: int) -> int:
    """Give the lag in samples, 5 to 15 ms, at which the last 20 ms of `history` resemble what lies before.

    history: float (at least 35 ms,).  The measure is the cross-correlation over the square root of the
    earlier stretch's energy; the shortest of equal lags wins.
    """
    longest, shortest = round(PITCH_MAX_S * rate), round(PITCH_MIN_S * rate)
    compared = round(COMPARED_S * rate)
    recent = history[-(compared + longest) :].astype(np.float64)
    count = longest - shortest + 1  # entry i belongs to the lag longest - i
    products = np.correlate(recent[: compared + count - 1], recent[-compared:], mode="valid")
    energy_before = np.zeros(len(recent) + 1)
    np.cumsum(np.square(recent), out=energy_before[1:])
    energies = energy_before[compared : compared + count] - energy_before[:count]
    likeness = products / np.sqrt(np.maximum(energies, MIN_ENERGY))
    return shortest + int(np.argmax(likeness[::-1]))


def _repeat(history: np.ndarray, pitch: int, num_lost: int, num_more: int, step: int) -> np.ndarray:
    """Give float (num_lost + num_more,) that continues `history` by its last periods, fading.

    The one period becomes two and three while the loss lasts, not in what is blended with the return.
    """
    until_silent = step + round(step / FADE_PER_STEP)
    sounding = min(num_lost + num_more, until_silent)
    repeated = np.zeros(num_lost + num_more, np.float32)
    rise = _ramp(pitch // 4)
    cycle = _cycle(history, pitch, 1)
    position = 0  # within the cycle, at the beginning of a step
    repeated[:sounding] = _from(cycle, position, sounding)
    for periods in (2, 3):
        begin = (periods - 1) * step
        if begin >= num_lost:
            break
        goes = _from(cycle, position + step, len(rise))
        position = (position + step) % pitch  # the same phase, in the oldest of the periods
        cycle = _cycle(history, pitch, periods)
        repeated[begin:sounding] = _from(cycle, position, sounding - begin)
        blended = repeated[begin : begin + len(rise)]
        blended += (goes[: len(blended)] - blended) * (1 - rise[: len(blended)])
    fade = 1.0 - FADE_PER_STEP * (np.arange(step, sounding) - step + 1) / step
    repeated[step:sounding] *= fade.astype(np.float32)
    return repeated


def _from(cycle: np.ndarray, position: int, length: int) -> np.ndarray:
    return cycle[(position + np.arange(length)) % len(cycle)]


def _cycle(history: np.ndarray, pitch: int, periods: int) -> np.ndarray:
    """Give the last periods of `history`, the end blended so that the first may follow the last."""
    length, overlap = periods * pitch, pitch // 4
    cycle = history[-length:].copy()
    fade_in = _ramp(overlap)
    before = history[len(history) - length - overlap : len(history) - length]
    cycle[-overlap:] += (before - cycle[-overlap:]) * fade_in
    return cycle


@lru_cache
def _ramp(length: int) -> np.ndarray:
    """Give a rise (length,) from above 0 to below 1."""
    ramp = (np.arange(length, dtype=np.float32) + 1) / np.float32(length + 1)
    ramp.setflags(write=False)
    return ramp


def _int16(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)
