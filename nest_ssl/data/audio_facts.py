"""What the annotation rules need to know of a stretch of audio, measured in one decoding."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from nest_ssl.files.audio import Channel, audio_info, read_audio
from nest_ssl.telephone.level import active_level

FRAME_S = 0.02
CLIPPED = 32100  # of 32768: G.711 mu-law ends at 32124, A-law at 32256
QUIETEST = 1e-10  # power of a frame of zeros, -100 dB


def audio_facts(
    path: str | os.PathLike,
    offset: float | None = None,
    duration: float | None = None,
    channel: Channel = None,
) -> dict[str, Any]:
    """Measure the audio of a row; bad audio raises nothing, it is what "error" says.  JSON-able.

    error: None, or why nothing could be measured; then only what the header gave is there.  sample_rate: Hz.
    channels.  file_duration: s, of the whole file.  duration: s, exact, of what there is of the segment, 0.0
    if it lies behind the end.  num_samples.  active_level_dbov: P.56, None for silence.  activity: share of
    the time, 0 to 1.  active_s.  dynamics_db: between the quiet and the loud 20-ms frames (5th and 95th
    percentile), None below 5 frames.  peak: 0 to 1.  clipped_share: of samples at CLIPPED or above.
    digital_silence_share: of 20-ms frames in which all samples are equal.  digest: of 16-bit samples, hex.
    """
    try:
        info = audio_info(path)
        facts: dict[str, Any] = {
            "error": None,
            "sample_rate": info.sample_rate,
            "channels": info.channels,
            "file_duration": info.duration_s,
        }
        if offset and info.num_frames and int(offset * info.sample_rate) >= info.num_frames:
            return facts | {"duration": 0.0, "num_samples": 0}
        samples, rate = read_audio(path, None, offset or 0.0, duration, channel)
    except (ValueError, OSError) as error:
        return {"error": str(error)}
    return facts | measure(samples, rate)


def measure(samples: np.ndarray, rate: int) -> dict[str, Any]:
    """Give the facts, from duration on, of float32 (T,) samples in [-1, 1]; see audio_facts."""
    level = active_level(samples, rate)
    scaled = samples * np.float32(32768.0)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768.0, 32767.0, out=scaled)
    pcm = scaled.astype("<i2")
    peak = max(-int(pcm.min(initial=0)), int(pcm.max(initial=0)))
    duration = len(samples) / rate
    clipped = int(np.count_nonzero(np.abs(scaled) >= CLIPPED)) if peak >= CLIPPED else 0
    width = round(FRAME_S * rate)
    count = len(samples) // width
    return {
        "duration": duration,
        "num_samples": len(samples),
        "active_level_dbov": round(level.level_dbov, 2) if np.isfinite(level.level_dbov) else None,
        "activity": round(level.activity, 4),
        "active_s": round(level.activity * duration, 3),
        "dynamics_db": _dynamics_db(samples[: count * width].reshape(count, width)),
        "peak": round(peak / 32768, 5),
        "clipped_share": round(clipped / max(1, len(samples)), 6),
        "digital_silence_share": _constant_share(pcm[: count * width].reshape(count, width)),
        "digest": hashlib.blake2b(pcm.tobytes(), digest_size=16).hexdigest(),
    }


def _dynamics_db(frames: np.ndarray) -> float | None:
    """Give dB between the 5th and 95th percentile of (frames, samples): 2 for steady noise, 20 for speech."""
    if len(frames) < 5:
        return None
    power = np.einsum("ij,ij->i", frames, frames) / frames.shape[1]
    power.sort()
    low, high = power[[int(0.05 * (len(power) - 1)), round(0.95 * (len(power) - 1))]]
    return round(float(10 * np.log10(max(high, QUIETEST) / max(low, QUIETEST))), 2)


def _constant_share(frames: np.ndarray) -> float:
    if not frames.size:
        return 0.0
    possible = (frames[:, 0] == frames[:, 1]) & (frames[:, 0] == frames[:, -1])
    if not possible.any():
        return 0.0
    few = frames[possible]
    return round(float(np.count_nonzero((few == few[:, :1]).all(axis=1)) / len(frames)), 4)
