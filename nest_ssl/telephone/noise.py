"""Background noise: babble of other utterances, coloured noise, and groups of recordings such as music."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from nest_ssl.files.audio import read_audio
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import audio_path, row_identity
from nest_ssl.telephone.draws import (
    check_draw,
    check_keys,
    check_probability,
    check_weights,
    draw,
    happens,
    weighted,
)
from nest_ssl.telephone.line import noise_start, white_noise
from nest_ssl.telephone.recordings import KEPT_S, Recordings
from nest_ssl.telephone.seed import NUM_BUCKETS, key_bucket

OWN_KINDS = ("babble", "coloured")  # every other kind is the name of a group of recordings
TALKERS = {"min": 3, "max": 7}
EXPONENT = {"min": 0.0, "max": 2.0}
MAX_TALKERS = 50
FEWEST_VOICES = 3  # of a babble; one or two are conversations

LOWEST_HZ = 20.0  # coloured noise is flat below, or its power would have no bound
LONGEST_PERIOD = 1 << 18  # samples after which coloured noise begins again: half a minute at 8 kHz
STEP_SAMPLES = 1000  # its length is rounded up to these, so that few spectra are designed
# Utterances of each bucket that babble is made of, spread over the manifest: so few that all of them, decoded
# once, stay in memory.
VOICES_PER_BUCKET = 8


def check_noise(settings: Mapping[str, Any] | None, where: str) -> None:
    """Raise ValueError naming `where` unless these are settings of noise, or None for none.

    {probability, snr_db, kinds: weights of babble, coloured and names of groups of recordings;
    talkers: their number in babble, 3 to 7 without it; exponent: of coloured noise, 0 to 2 without it}.
    """
    if settings is None:
        return
    check_keys(settings, ("probability", "snr_db", "kinds"), where, ("talkers", "exponent"))
    check_probability(settings["probability"], f"{where}.probability")
    check_draw(settings["snr_db"], f"{where}.snr_db", -40.0, 100.0)
    check_weights(settings["kinds"], f"{where}.kinds")
    for kind in settings["kinds"]:
        if not isinstance(kind, str) or not kind:
            raise ValueError(f"{where}.kinds: a kind is the name of a group of recordings, not {kind!r}")
    check_draw(settings.get("talkers", TALKERS), f"{where}.talkers", 1, MAX_TALKERS)
    check_draw(settings.get("exponent", EXPONENT), f"{where}.exponent", 0.0, 4.0)


class TalkerPool:
    """Utterances to make babble of: those whose prompt key is another one of the same hash bucket.

    A split by key (see `key_bucket`) therefore keeps babble on its own side: no recording of the test set is
    heard behind a training utterance.  Of a large bucket VOICES_PER_BUCKET utterances are used.
    """

    def __init__(self, index: ManifestIndex, buckets: np.ndarray, split_seed: int = 0) -> None:
        """`buckets`: (rows,) uint8, `key_bucket` of each row's prompt key under `split_seed`."""
        self.index = index
        self._split_seed = split_seed
        order = np.argsort(buckets, kind="stable")
        rows = np.split(order, np.searchsorted(buckets[order], np.arange(1, NUM_BUCKETS)))
        self._rows = [_spread(candidates, VOICES_PER_BUCKET) for candidates in rows]
        self._names: dict[int, tuple[str, str]] = {}  # of the few rows in use: key and identity

    def draw(self, rng: np.random.Generator, key: str, count: int) -> list[int]:
        """Give up to `count` different rows of other keys than `key`."""
        candidates = self._rows[key_bucket(key, self._split_seed)]
        chosen: list[int] = []
        for row in candidates[rng.permutation(len(candidates))].tolist():
            if self.names(row)[0] != key:
                chosen.append(row)
                if len(chosen) == count:
                    break
        return chosen

    def names(self, row_number: int) -> tuple[str, str]:
        """Give the prompt key and the identity of a row."""
        if row_number not in self._names:
            row = self.index.row(row_number)
            self._names[row_number] = prompt_key(row), row_identity(row)
        return self._names[row_number]


class NoiseBank:
    """Draws a noise for an utterance and renders it.

    `talkers`: for babble; `recordings`: by kind, the index of a manifest of noise (recordings.py makes one of
    a folder).  A kind without its source is left out, and the weights of the others stand.
    """

    def __init__(
        self, talkers: TalkerPool | None = None, recordings: Mapping[str, ManifestIndex] | None = None
    ) -> None:
        import scipy.signal  # noqa: F401  a second, spent here once and not by each worker that is forked later

        self.talkers = talkers
        # long utterances would be read again and again
        self._voices = Recordings(talkers.index, longest_s=KEPT_S) if talkers is not None else None
        self._recordings = {
            kind: Recordings(index) for kind, index in sorted((recordings or {}).items()) if len(index)
        }
        for kind in OWN_KINDS:
            if kind in self._recordings:
                raise ValueError(f"recordings of the kind {kind}: that name is taken; give them another one")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that can be rendered."""
        return (*(["babble"] if self._voices else []), "coloured", *self._recordings)

    def draw(
        self, rng: np.random.Generator, settings: Mapping[str, Any] | None, key: str
    ) -> dict[str, Any] | None:
        """Give the description of a noise, or None for none. Every value is as `render` uses it.

        key: babble is made of utterances of other keys; where a small corpus has too few of them, another
        kind is drawn in its place, so that the share of noisy calls stays.
        """
        if settings is None or not happens(rng, settings["probability"]):
            return None
        snr_db = float(draw(rng, settings["snr_db"]))
        here = self.kinds
        kinds = {kind: weight for kind, weight in settings["kinds"].items() if weight > 0 and kind in here}
        if not kinds:
            return None
        kind = weighted(rng, kinds)
        rows: list[int] = []
        if kind == "babble" and self.talkers is not None:
            talkers = settings.get("talkers", TALKERS)
            rows = self.talkers.draw(rng, key, _number_of_talkers(rng, talkers))
            others = {other: weight for other, weight in kinds.items() if other != kind}
            if len(rows) < min(_fewest_talkers(talkers), FEWEST_VOICES) and others:
                kind = weighted(rng, others)
            elif not rows:
                return None
        noise: dict[str, Any] = {"kind": kind, "snr_db": snr_db}
        if kind == "babble" and self.talkers is not None:
            noise["talkers"] = [self.talkers.names(row)[1] for row in rows]
            noise["rows"] = rows
            noise["starts"] = [round(float(start), 6) for start in rng.random(len(rows))]
        elif kind == "coloured":
            noise["exponent"] = float(draw(rng, settings.get("exponent", EXPONENT)))
            noise["seed"] = int(rng.integers(2**53))
        else:
            index = self._recordings[kind].index
            row = int(rng.integers(len(index)))
            noise["recording"] = row_identity(index.row(row))
            noise["row"] = row
            noise["start"] = round(float(rng.random()), 6)
        return noise

    def render(
        self, noise: Mapping[str, Any], num_samples: int, rate: int = 8000
    ) -> tuple[np.ndarray, list[str]]:
        """Give the noise, (num_samples,) float32 at `rate`, and the reason for every talker left out.

        The level is as it comes.  A talker that cannot be read is left out here and has its own error line
        where its turn comes; another recording that cannot be read raises ValueError.
        """
        kind = noise["kind"]
        if kind == "coloured":
            return coloured_noise(num_samples, noise["exponent"], noise["seed"], rate), []
        source = self._voices if kind == "babble" else self._recordings.get(kind)
        if source is None:
            raise ValueError(
                f"noise {kind} has no source here: another manifest than it was drawn with, or none"
            )
        total, left_out = np.zeros(num_samples, np.float32), []
        if num_samples == 0:
            return total, []
        if kind != "babble":
            source.excerpt(noise["row"], noise["recording"], noise["start"], num_samples, rate).add_to(
                total, 1.0
            )
            return total, []
        for row, talker, start in zip(noise["rows"], noise["talkers"], noise["starts"], strict=True):
            try:
                voice = source.excerpt(row, talker, start, num_samples, rate)
            except (ValueError, OSError) as error:
                left_out.append(str(error))
                continue
            if voice.rms > 0:
                voice.add_to(total, 1 / voice.rms)
        return total, left_out


def coloured_noise(num_samples: int, exponent: float, seed: int, rate: int = 8000) -> np.ndarray:
    """Give (T,) float32 Gaussian noise whose power falls with 1 / frequency ** exponent above 20 Hz.

    Its spectrum is cut from a stretch of random numbers made once, at the place of `seed`.
    """
    if num_samples == 0:
        return np.zeros(0, np.float32)
    size = scipy.fft.next_fast_len(-(-num_samples // STEP_SAMPLES) * STEP_SAMPLES, real=True)
    size = min(size, LONGEST_PERIOD)
    places = noise_start(seed) + np.arange(2 * (size // 2 + 1))
    spectrum = np.take(white_noise(), places, mode="wrap").view(np.complex64)
    spectrum = spectrum * np.exp(np.float32(-exponent / 2) * _log_hertz(size, rate))
    return np.resize(scipy.fft.irfft(spectrum, size), num_samples) * np.float32(np.sqrt(size))


@lru_cache(maxsize=64)
def _log_hertz(size: int, rate: int) -> np.ndarray:
    return np.log(np.maximum(scipy.fft.rfftfreq(size, 1 / rate), LOWEST_HZ)).astype(np.float32)


def prompt_key(row: Mapping[str, Any]) -> str:
    """Give the key that versions of one prompt share: the row's `key`, or its utterance id."""
    return str(row["key"]) if row.get("key") not in (None, "") else row_identity(row)


def read_utterance(manifest: Path, row: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """Read the audio of a manifest row as (T,) float32 and its rate."""
    offset = row.get("offset") or 0.0
    # without an offset the file is the utterance: a rounded duration must not cut its last sample
    duration = row.get("duration") if offset else None
    return read_audio(audio_path(row, manifest), None, offset, duration, row.get("channel_selector"))


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Give up to `count` rows at equal distances, so that they are of many speakers where rows are sorted."""
    if len(rows) <= count:
        return rows
    return rows[np.arange(count) * len(rows) // count]


def _fewest_talkers(setting: Any) -> float:
    """Give the smallest number of talkers that a checked setting can draw."""
    if not isinstance(setting, Mapping):
        return float(setting)
    return float(setting["min"] if "min" in setting else min(setting))


def _number_of_talkers(rng: np.random.Generator, setting: Any) -> int:
    if isinstance(setting, Mapping) and setting.keys() == {"min", "max"}:
        return int(rng.integers(int(setting["min"]), int(setting["max"]) + 1))
    return max(1, round(draw(rng, setting)))
