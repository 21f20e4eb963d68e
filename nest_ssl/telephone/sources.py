"""The recording that a manifest row names, whole or in pieces, so that long ones need little memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.telephone import pieces
from nest_ssl.telephone.resample import converted_length

SMALL_BYTES = 4 << 20  # files up to here are decoded as they are
LONGEST_DECODED_S = 4 * 3600.0  # of codings in which a place is only found by decoding all that is before it
RATES = (4000, 384000)  # Hz, lowest and highest


class Source:
    """A row's recording, in the file `path`.

    sample_rate: the file's; is_long: so long that it is to be taken in pieces;
    channel: overrides the row's channel_selector.  Raises ValueError or FileNotFoundError, naming the file,
    for what cannot be read, is empty, holds values that are not finite, has a rate outside of RATES, or is
    too long for its coding.
    """

    def __init__(
        self, row: Mapping[str, Any], path: Path, file_bytes: int, channel: int | str | None = None
    ) -> None:
        self.path = path
        self.channel = row.get("channel_selector") if channel is None else channel
        self._offset = row.get("offset") or 0.0
        # without an offset the file is the utterance: a rounded duration must not cut its last sample
        duration = row.get("duration") if self._offset else None
        self._samples: np.ndarray | None = None
        if file_bytes > SMALL_BYTES:
            info = audio_info(self.path)
            self.sample_rate = info.sample_rate
            self._check_rate()
            start = int(self._offset * info.sample_rate)
            left = max(info.num_frames - start, 0)
            wanted = int(duration * info.sample_rate) if duration is not None and duration > 0 else left
            self.num_samples = min(left, wanted)
            if self.is_long and info.seekable:
                return
            if self.is_long and info.duration_s > LONGEST_DECODED_S:
                raise ValueError(
                    f"{self.path}: too long ({info.duration_s / 3600:.1f} h) for its coding ({info.format}), "
                    f"in which no place can be sought: convert it to FLAC or WAV first"
                )
        self._samples, self.sample_rate = read_audio(self.path, None, self._offset, duration, self.channel)
        self._check_rate()
        self.num_samples = len(self._samples)

    @property
    def is_long(self) -> bool:
        """True for more than a piece."""
        return self.num_samples > pieces.LONG_S * self.sample_rate

    def check_length(self, rate: int) -> None:
        """Raise ValueError, naming the file, where so few samples are not one at `rate` Hz."""
        if converted_length(self.num_samples, self.sample_rate, rate) == 0:
            raise ValueError(
                f"{self.path}: no audio samples at {rate} Hz: it has {self.num_samples} at "
                f"{self.sample_rate} Hz"
            )

    def read_all(self) -> np.ndarray:
        """Give all samples, float32 (T,)."""
        return self.read(0, self.num_samples)

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Give (start, samples) of the pieces."""
        return pieces.cut(self.read, self.num_samples, self.sample_rate)

    def read(self, start: int, count: int) -> np.ndarray:
        """Give samples, float32 (count,)."""
        if self._samples is not None:
            return self._samples[start : start + count]
        # half a sample: read_audio takes whole samples below a time
        first = int(self._offset * self.sample_rate) + start
        samples, _ = read_audio(
            self.path, None, (first + 0.5) / self.sample_rate, (count + 0.5) / self.sample_rate, self.channel
        )
        if len(samples) < count:
            raise ValueError(
                f"{self.path}: the audio is damaged: it ends "
                f"{(count - len(samples)) / self.sample_rate:.3f} s before the end that its header states"
            )
        return samples

    def _check_rate(self) -> None:
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise ValueError(
                f"{self.path}: a sample rate of {self.sample_rate} Hz is not supported; convert it to one "
                f"from {RATES[0]} to {RATES[1]} Hz"
            )
