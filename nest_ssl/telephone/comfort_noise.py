"""Silence suppression of a G.711 call: pauses are not sent, the receiver fills them with comfort noise.

The sender describes the noise of a pause now and then by its level and the envelope of its spectrum, in the
payload of RFC 3389: a level in whole -dBov and reflection coefficients of eight bits.  When to send, and how
to tell speech from silence, is left to the sender by the RFC; here that is an energy threshold above the
noise floor, with a hangover.
"""

from __future__ import annotations

import zlib

import numpy as np
import scipy

VERSION = 1  # raise it when other samples come out

FRAME_SAMPLES = 160  # 20 ms at 8 kHz
SPEECH_ABOVE_FLOOR_DB = 6.0
FLOOR_SMOOTHED_FRAMES = 5  # 100 ms: longer than the closure of a stop, which is no pause
FLOOR_REACH_FRAMES = 50  # the floor is the least level within 1 s to either side
QUIETEST_SPEECH_DBOV, LOUDEST_NOISE_DBOV = -65.0, -40.0  # below is always silence, above always speech
HANGOVER_FRAMES = 8  # 160 ms: weak ends of words are sent
DESCRIBED_FRAMES = 8  # a description covers so many, and is sent as often in a pause
ORDER = 10


def suppress_silence(
    samples: np.ndarray, decoded: np.ndarray, lost: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Put comfort noise into the pauses of a call at 8 kHz.

    samples, decoded: int16 (T,) before and after the codec.  lost: bool (ceil(T / 160),) or None.  Gives
    int16 (T,) and which frames are left to conceal: lost ones with speech, and a pause until the first
    description of it arrives.  A lost description leaves the one before in force.  The noise is seeded by the
    samples.
    """
    speech = speech_frames(samples)
    starts, ends = _runs(~speech)
    described = [np.arange(start, end, DESCRIBED_FRAMES) for start, end in zip(starts, ends, strict=True)]
    if not described:
        return decoded, lost
    levels, coefficients = describe(samples, np.concatenate(described))
    conceal = lost & speech if lost is not None else None
    heard = decoded.copy()
    rng = np.random.Generator(np.random.Philox(key=zlib.crc32(np.ascontiguousarray(samples).data)))
    state = np.zeros(ORDER)
    sent = 0
    for frames, end in zip(described, ends, strict=True):
        arrived = np.ones(len(frames), bool) if lost is None else ~lost[frames]
        if conceal is not None:
            conceal[frames[0] : frames[arrived][0] if arrived.any() else end] = True
        borders = np.append(frames[arrived], end)
        for i, begin, stop in zip(np.flatnonzero(arrived) + sent, borders[:-1], borders[1:], strict=True):
            part = heard[begin * FRAME_SAMPLES : stop * FRAME_SAMPLES]
            noise, state = synthesise(rng, levels[i], coefficients[i], len(part), state)
            part[:] = noise
        sent += len(frames)
    return heard, conceal


def speech_frames(samples: np.ndarray) -> np.ndarray:
    """Tell which 20-ms frames of int16 (T,) at 8 kHz are sent as speech, hangover included.

    Gives bool (ceil(T / 160),).  The floor looks ahead as well as back: an utterance is a piece of a call,
    whose noise the detector has heard before.
    """
    if len(samples) == 0:
        return np.zeros(0, bool)
    power = np.var(_frames(samples), axis=1) / 32768.0**2
    level_dbov = 10 * np.log10(power + 1e-12)
    smooth = scipy.ndimage.uniform_filter1d(level_dbov, FLOOR_SMOOTHED_FRAMES, mode="nearest")
    floor = scipy.ndimage.minimum_filter1d(smooth, 2 * FLOOR_REACH_FRAMES + 1, mode="nearest")
    threshold = np.clip(floor + SPEECH_ABOVE_FLOOR_DB, QUIETEST_SPEECH_DBOV, LOUDEST_NOISE_DBOV)
    loud = level_dbov > threshold
    reach = HANGOVER_FRAMES + 1
    padded = np.concatenate([np.zeros(HANGOVER_FRAMES, bool), loud])
    return scipy.ndimage.maximum_filter1d(padded, reach, origin=(reach - 1) // 2, mode="constant")[
        HANGOVER_FRAMES:
    ]


def describe(samples: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Describe the noise of the eight frames that end with each of `frames`.

    Gives what RFC 3389 sends: levels, uint8 (N,), 0 to 127 for 0 to -127 dBov, and quantised reflection
    coefficients, uint8 (N, 10), where n stands for 258 (n - 127) / 32768.
    """
    length = DESCRIBED_FRAMES * FRAME_SAMPLES
    last = np.minimum((frames + 1) * FRAME_SAMPLES, len(samples))
    index = last[:, None] - length + np.arange(length)
    known = index >= 0
    pieces = np.where(known, samples[np.maximum(index, 0)], 0).astype(np.float64)
    pieces = np.where(known, pieces - (pieces.sum(axis=1) / known.sum(axis=1))[:, None], 0.0)
    correlation = np.stack(
        [np.einsum("ij,ij->i", pieces[:, lag:], pieces[:, : length - lag]) for lag in range(ORDER + 1)],
        axis=1,
    )
    power = correlation[:, 0] / known.sum(axis=1) / 32768.0**2
    levels = np.clip(np.rint(-10 * np.log10(power + 1e-13)), 0, 127).astype(np.uint8)
    correlation[:, 0] = correlation[:, 0] * 1.0001 + 1.0  # a floor 40 dB down keeps the filter stable
    quantised = np.rint(reflection_coefficients(correlation) * (32768 / 258)) + 127
    return levels, np.clip(quantised, 0, 254).astype(np.uint8)


def synthesise(
    rng: np.random.Generator, level: int, coefficients: np.ndarray, length: int, state: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make noise of a described level and spectrum: int16 (length,) and the state (10,) for what follows."""
    reflection = (coefficients.astype(np.float64) - 127) * 258 / 32768
    rms = 32768.0 * 10 ** (-float(level) / 20)
    gain = rms * np.sqrt(np.prod(1 - reflection**2))
    predictor = np.zeros(ORDER + 1)
    predictor[0] = 1.0
    for p, value in enumerate(reflection.tolist(), 1):
        predictor[1 : p + 1] += value * predictor[p - 1 :: -1]
    noise, state = scipy.signal.lfilter([1.0], predictor, gain * rng.standard_normal(length), zi=state)
    return np.clip(np.rint(noise), -32768, 32767).astype(np.int16), state


def reflection_coefficients(correlation: np.ndarray) -> np.ndarray:
    """Solve for the linear predictors of autocorrelations (N, P + 1) by Levinson's recursion; gives (N, P).

    The prediction error filter of order p is that of order p - 1 plus k_p times the same reversed.
    """
    count, order = correlation.shape[0], correlation.shape[1] - 1
    predictor = np.zeros((count, order + 1))
    predictor[:, 0] = 1.0
    error = correlation[:, 0].copy()
    reflection = np.zeros((count, order))
    for p in range(1, order + 1):
        reflection[:, p - 1] = -np.einsum("ij,ij->i", predictor[:, :p], correlation[:, p:0:-1]) / error
        predictor[:, 1 : p + 1] += reflection[:, p - 1 : p] * predictor[:, p - 1 :: -1]
        error *= 1 - reflection[:, p - 1] ** 2
    return reflection


def _frames(samples: np.ndarray) -> np.ndarray:
    """Give float (ceil(T / 160), 160), the last one filled up with its own last sample."""
    missing = -len(samples) % FRAME_SAMPLES
    return np.pad(samples.astype(np.float32), (0, missing), mode="edge").reshape(-1, FRAME_SAMPLES)


def _runs(mask: np.ndarray) -> tuple[list[int], list[int]]:
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return edges[::2].tolist(), edges[1::2].tolist()
