"""Noise for an utterance: a random piece of a random noise recording, drawn as NeMo draws it."""

from __future__ import annotations

import numpy as np

from nest_ssl.data.corpus import Corpus, Utterance
from nest_ssl.files.audio import audio_info, read_audio, resample

MAX_SILENT_DRAWS = 100
MAX_FAILED_RECORDINGS = 20
WHITE_NOISE_DB = (-90, -46)
MAX_HELD_S = 600.0  # a longer recording is read piece by piece again


class NoiseSource:
    """Draws noise for utterances from the recordings of a noise manifest.

    zeros_at_last: after 20 recordings in a row that cannot be read, zeros (NeMo's rule) in place of an error.
    """

    def __init__(
        self,
        corpus: Corpus,
        sample_rate: int,
        channel: int | list[int] | str | None = None,
        zeros_at_last: bool = False,
    ) -> None:
        self.corpus = corpus
        self.sample_rate = sample_rate
        self.channel = channel
        self.zeros_at_last = zeros_at_last

    def draw(self, num_samples: int, rng: np.random.RandomState) -> tuple[np.ndarray, int, list[str]]:
        """Give noise for `num_samples` samples of audio: (noise (N,) float32, valid samples, notes).

        A recording longer than the audio gives a piece from a random offset; a shorter one is given whole,
        with zeros behind it (N = num_samples).  Digital silence becomes white noise at -90..-47 dB.  A
        recording that cannot be read is noted and another one drawn; after 20 of them in a row ValueError, or
        zeros as long as the audio.
        """
        notes: list[str] = []
        for _ in range(MAX_FAILED_RECORDINGS):
            recording = self.corpus[rng.randint(len(self.corpus))]
            try:
                noise = self._read(recording, num_samples, rng)
            except (ValueError, OSError) as error:
                notes.append(f"noise {recording.place}: {error}")
                continue
            valid = len(noise)
            if not noise.any():
                level_db = rng.randint(*WHITE_NOISE_DB)
                noise = (rng.standard_normal(valid) * 10.0 ** (level_db / 20.0)).astype(np.float32)
            if valid < num_samples:
                noise = np.pad(noise, (0, num_samples - valid))
            return noise, valid, notes
        if self.zeros_at_last:
            return np.zeros(num_samples, np.float32), num_samples, notes
        raise ValueError(
            f"{MAX_FAILED_RECORDINGS} noise recordings in a row could not be read; the last: {notes[-1]}"
        )

    def _read(self, recording: Utterance, num_samples: int, rng: np.random.RandomState) -> np.ndarray:
        needed_s = num_samples / self.sample_rate
        begin_s = recording.offset_s or 0.0
        duration_s = recording.duration_s
        if duration_s is None or duration_s <= 0:
            duration_s = audio_info(recording.audio()).duration_s - begin_s
        if duration_s <= needed_s:
            return self._piece(recording, begin_s, recording.duration_s)
        whole: tuple[np.ndarray, int] | None = None
        for draw in range(MAX_SILENT_DRAWS):
            offset_s = begin_s + rng.uniform(0, duration_s - needed_s)
            if draw == 1 and duration_s <= MAX_HELD_S:
                # NeMo's test takes every other piece for silence, and all of a recording with an offset
                # below zero.
                whole = read_audio(recording.audio(), channel=self.channel)
            if whole is None:
                noise = self._piece(recording, offset_s, needed_s)
            else:
                samples, rate = whole
                noise = samples[int(offset_s * rate) :][: int(needed_s * rate)]
                if rate != self.sample_rate:
                    noise = resample(noise, rate, self.sample_rate)
            if noise.sum() > 0:  # NeMo's test for silence
                break
        return noise

    def _piece(self, recording: Utterance, offset_s: float, duration_s: float | None) -> np.ndarray:
        return read_audio(recording.audio(), self.sample_rate, offset_s, duration_s, self.channel)[0]
