"""Background noise at 8 kHz: babble of other utterances, music, coloured noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from nest_ssl.files.audio import read_audio
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import audio_path, row_identity
from nest_ssl.telephone.draws import check_draw, check_keys, check_probability, check_weights, draw, weighted
from nest_ssl.telephone.level import rms_dbov
from nest_ssl.telephone.resample import resample
from nest_ssl.telephone.seed import NUM_BUCKETS, key_bucket

RATE = 8000
LOWEST_HZ = 20.0  # coloured noise is flat below, or its power would have no bound
SPARE_S = 0.05  # read more than is needed, for roundings of times to samples
TRIES = 10  # draws of a talker before babble makes do with fewer


class TalkerPool:
    """Utterances to make babble of: those whose prompt key is another one of the same hash bucket.

    A split by key (see `key_bucket`) therefore keeps babble on its own side: no recording of the test set is
    heard behind a training utterance.
    """

    def __init__(self, index: ManifestIndex, buckets: np.ndarray, split_seed: int = 0) -> None:
        """`buckets`: (rows,) uint8, `key_bucket` of each row's prompt key under `split_seed`."""
        self.index = index
        self._split_seed = split_seed
        order = np.argsort(buckets, kind="stable")
        self._rows = np.split(order, np.searchsorted(buckets[order], np.arange(1, NUM_BUCKETS)))

    def draw(self, rng: np.random.Generator, key: str, count: int) -> list[int]:
        """Give up to `count` different rows of other keys than `key`."""
        candidates = self._rows[key_bucket(key, self._split_seed)]
        chosen: list[int] = []
        for _ in range(TRIES * count if len(candidates) else 0):
            row = int(candidates[rng.integers(len(candidates))])
            if row not in chosen and prompt_key(self.index.row(row)) != key:
                chosen.append(row)
                if len(chosen) == count:
                    break
        return chosen


def check_noise(settings: Any, where: str) -> None:
    """Raise ValueError naming the key unless `settings` can be drawn from."""
    check_keys(settings, ("probability", "snr_db", "kinds", "talkers", "exponent"), where)
    check_probability(settings["probability"], f"{where}.probability")
    check_draw(settings["snr_db"], f"{where}.snr_db")
    check_weights(settings["kinds"], f"{where}.kinds")
    check_draw(settings["talkers"], f"{where}.talkers", 1.0)
    check_draw(settings["exponent"], f"{where}.exponent", 0.0)


class NoiseBank:
    """Draws a noise for an utterance and renders it.

    `talkers`: for babble; `music`: index of a manifest of noise recordings.  A kind without its source is
    left out, and the weights of the others stand.
    """

    def __init__(self, talkers: TalkerPool | None = None, music: ManifestIndex | None = None) -> None:
        self.talkers = talkers
        self.music = music if music is not None and len(music) else None

    def draw(self, rng: np.random.Generator, settings: Mapping[str, Any], key: str) -> dict[str, Any] | None:
        """Give the description of a noise, or None for none. Every value is as `render` uses it."""
        if rng.random() >= settings["probability"]:
            return None
        snr_db = draw(rng, settings["snr_db"])
        kinds = {kind: weight for kind, weight in settings["kinds"].items() if weight > 0 and self._has(kind)}
        if not kinds:
            return None
        kind = weighted(rng, kinds)
        noise: dict[str, Any] = {"kind": kind, "snr_db": snr_db}
        if kind == "babble" and self.talkers is not None:
            count = round(draw(rng, settings["talkers"]))
            rows = self.talkers.draw(rng, key, count)
            if not rows:
                return None
            noise["talkers"] = [row_identity(self.talkers.index.row(row)) for row in rows]
            noise["rows"] = rows
            noise["starts"] = [round(float(start), 6) for start in rng.random(len(rows))]
        elif kind == "music" and self.music is not None:
            row = int(rng.integers(len(self.music)))
            noise["recording"] = row_identity(self.music.row(row))
            noise["row"] = row
            noise["start"] = round(float(rng.random()), 6)
        else:
            noise["exponent"] = draw(rng, settings["exponent"])
            noise["seed"] = int(rng.integers(2**53))
        return noise

    def render(self, noise: Mapping[str, Any], num_samples: int) -> tuple[np.ndarray, list[str]]:
        """Give the noise, (num_samples,) float32 at 8 kHz, and the reason for every talker left out.

        The level is as it comes.  A talker that cannot be read is left out here and has its own error line
        where its turn comes; music that cannot be read raises ValueError.
        """
        if noise["kind"] == "coloured":
            return coloured_noise(num_samples, noise["exponent"], noise["seed"]), []
        voices = self.talkers.index if self.talkers is not None else None
        source = self.music if noise["kind"] == "music" else voices
        if source is None:
            raise ValueError(
                f"noise {noise['kind']} has no source here: another manifest than it was drawn with"
            )
        if noise["kind"] == "music":
            return _recording(source, noise["row"], noise["start"], num_samples), []
        total, left_out = np.zeros(num_samples, np.float32), []
        for row, start in zip(noise["rows"], noise["starts"], strict=True):
            try:
                voice = _recording(source, row, start, num_samples)
            except (ValueError, OSError) as error:
                left_out.append(str(error))
                continue
            level = rms_dbov(voice)
            if np.isfinite(level):
                total += voice * np.float32(10 ** (-round(level, 4) / 20))
        return total, left_out

    def _has(self, kind: str) -> bool:
        return {"babble": self.talkers, "music": self.music}.get(kind, True) is not None


def coloured_noise(num_samples: int, exponent: float, seed: int) -> np.ndarray:
    """Give (T,) float32 Gaussian noise whose power falls with 1 / frequency ** exponent above 20 Hz."""
    if num_samples == 0:
        return np.zeros(0, np.float32)
    rng = np.random.Generator(np.random.Philox(key=seed))
    size = fft.next_fast_len(max(num_samples, 2), real=True)
    spectrum = fft.rfft(rng.standard_normal(size))
    frequencies = np.maximum(fft.rfftfreq(size, 1 / RATE), LOWEST_HZ)
    return fft.irfft(spectrum * frequencies ** (-exponent / 2), size)[:num_samples].astype(np.float32)


def prompt_key(row: Mapping[str, Any]) -> str:
    """Give the key that versions of one prompt share: the row's `key`, or its utterance id."""
    return str(row["key"]) if row.get("key") not in (None, "") else row_identity(row)


def read_utterance(manifest: Path, row: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """Read the audio of a manifest row as (T,) float32 and its rate."""
    offset = row.get("offset") or 0.0
    # without an offset the file is the utterance: a rounded duration must not cut its last sample
    duration = row.get("duration") if offset else None
    return read_audio(audio_path(row, manifest), None, offset, duration, row.get("channel_selector"))


def _recording(index: ManifestIndex, row_number: int, start: float, num_samples: int) -> np.ndarray:
    """Give (num_samples,) of a recording at 8 kHz, from `start` (0 to 1) on; a short one is repeated."""
    row = index.row(row_number)
    path = audio_path(row, index.path)
    offset, length = row.get("offset") or 0.0, row.get("duration")
    channel = row.get("channel_selector", "average")
    needed = num_samples / RATE + SPARE_S
    if length is not None and length > needed:
        samples, rate = read_audio(path, None, offset + start * (length - needed), needed, channel)
        samples = resample(samples, rate, RATE)
        if len(samples) >= num_samples:
            return samples[:num_samples]
    else:
        samples, rate = read_audio(path, None, offset, length if offset else None, channel)
        samples = resample(samples, rate, RATE)
        samples = np.roll(samples, -int(start * len(samples)))
    return np.resize(samples, num_samples)
