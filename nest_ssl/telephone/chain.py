"""The channel itself: draw its parameters for an utterance, then apply them to the samples.

Order: 8 kHz - band filter - noise - level - int16 - codec legs - output rate.  What was drawn and what was
measured is one JSON-able dictionary; `apply_channel` depends on nothing else, so that a manifest row
replays to the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.filters import g712
from nest_ssl.telephone.level import active_level, gain_from_db, rms_dbov
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.presets import LevelDraw, Mix
from nest_ssl.telephone.resample import converted_length, resample
from nest_ssl.telephone.seed import generator

RATE = 8000
PEAK_LIMIT_DBOV = -0.1
MAX_GAIN_DB = 40.0  # a nearly silent recording is not raised to speech level


def draw_channel(
    mix: Mix, bank: NoiseBank, seed: int, utterance_id: str, key: str, copy: int
) -> dict[str, Any]:
    """Draw every parameter of the channel of one copy of one utterance."""
    preset = mix.draw(generator(seed, utterance_id, copy, "preset"))
    level_rng = generator(seed, utterance_id, copy, "level")
    return {
        "preset": preset.name,
        "seed": seed,
        "copy": copy,
        "band": preset.band,
        "legs": list(preset.legs),
        "codec_versions": [codec(leg).version() for leg in preset.legs],
        "level_dbov": _draw_level(level_rng, preset.level_dbov) if preset.level_dbov else None,
        "noise": bank.draw(generator(seed, utterance_id, copy, "noise"), preset.noise, key),
    }


def apply_channel(
    samples: np.ndarray, sample_rate: int, channel: Mapping[str, Any], bank: NoiseBank, out_rate: int = 16000
) -> tuple[np.ndarray, dict[str, Any]]:
    """Send (T,) float samples through a drawn channel.

    Gives int16 (round(T * out_rate / sample_rate),), in time with the input to less than a sample, and
    `channel` with the measurements added: speech_dbov (active level within the band as it came), gain_db,
    limited_db (what the peak limit took off), noise.gain_db.  Raises ValueError for samples that are not
    finite or not (T,).
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"the channel takes samples of the shape (T,), not {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(samples))} of {len(samples)} samples are not finite"
        )
    narrow = _band(resample(samples, sample_rate, RATE, ceil(len(samples) * RATE / sample_rate)), channel)

    measured = dict(channel)
    speech_dbov = active_level(narrow, RATE).level_dbov
    heard = np.isfinite(speech_dbov)
    measured["speech_dbov"] = round(speech_dbov, 4) if heard else None
    gain_db = 0.0
    if heard and channel["level_dbov"] is not None:
        gain_db = min(round(channel["level_dbov"] - speech_dbov, 4), MAX_GAIN_DB)
    line = narrow * gain_from_db(gain_db)
    if channel["noise"] and heard:
        noise, left_out = bank.render(channel["noise"], len(narrow))
        noise = _band(noise, channel)
        noise_dbov = rms_dbov(noise)
        measured["noise"] = dict(channel["noise"]) | ({"left_out": left_out} if left_out else {})
        if np.isfinite(noise_dbov):
            noise_gain_db = round(speech_dbov + gain_db - channel["noise"]["snr_db"] - noise_dbov, 4)
            line = line + noise * gain_from_db(noise_gain_db)
            measured["noise"]["gain_db"] = noise_gain_db
    elif channel["noise"]:
        measured["noise"] = None  # no speech, so no speech-to-noise ratio
    line, limited_db = _limit(line)
    measured["gain_db"] = round(gain_db - limited_db, 4)
    measured["limited_db"] = limited_db

    pcm = _to_int16(line)
    for leg in channel["legs"]:
        pcm = codec(leg).encode_decode(pcm, {})
    length = converted_length(len(samples), sample_rate, out_rate)
    return _to_int16(resample(pcm / np.float32(32768.0), RATE, out_rate, length)), measured


def _draw_level(rng: np.random.Generator, level: LevelDraw) -> float:
    return round(float(np.clip(rng.normal(level.mean, level.deviation), level.min, level.max)), 4)


def _band(samples: np.ndarray, channel: Mapping[str, Any]) -> np.ndarray:
    return g712(samples) if channel["band"] == "g712" else samples


def _limit(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """Turn the signal down where its peak would pass the limit; gives it and the dB taken off."""
    peak = float(np.max(np.abs(samples))) if len(samples) else 0.0
    excess_db = 20 * np.log10(peak) - PEAK_LIMIT_DBOV if peak > 0 else 0.0
    if excess_db <= 0:
        return samples, 0.0
    limited_db = round(excess_db + 5e-5, 4)
    return samples * gain_from_db(-limited_db), limited_db


def _to_int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
