"""Audio files: partial reads with resampling, atomic writes, header facts.

decode.py says what can be opened: what libsndfile reads, telephone formats, what PyAV and sox decode.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import soundfile
import soxr

from nest_ssl.files.atomic import replaced
from nest_ssl.files.decode import Audio, open_audio, reason

LARGEST_FLOAT = 65536.0  # of float files: more than integers that nobody divided by their full scale
NO_LIMIT = 1 << 62  # of frames, where the header only estimates how many there are

Channel = int | Sequence[int] | str | None


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says; `num_frames` counts samples per channel.

    missing_frames: those that the header states beyond the end of the file; seekable: False where a part can
    only be decoded from the beginning of the file on; format: container and coding, in words.
    """

    sample_rate: int
    num_frames: int
    channels: int
    missing_frames: int = 0
    seekable: bool = True
    format: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_frames / self.sample_rate


def audio_info(path: Audio) -> AudioInfo:
    """Read the header of an audio file; ValueError or FileNotFoundError name the file.

    Nothing is decoded, apart from shorten-compressed SPHERE files that state no length.
    """
    with closing(open_audio(path)) as file:
        return AudioInfo(
            file.sample_rate, file.num_frames, file.channels, file.missing_frames, file.seekable, file.format
        )


def read_audio(
    path: Audio,
    sample_rate: int | None = None,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    channel: Channel = None,
) -> tuple[np.ndarray, int]:
    """Read one channel of an audio file, or a part of it, and resample it where `sample_rate` differs.

    Skips int(offset_s * rate) samples and reads int(duration_s * rate) of them, rate being the file's: all
    that follow if `duration_s` is None or not positive, fewer if the file ends before.  `channel` is an
    index, a list of indices or "average" (both are averaged to one channel); None wants a file of one
    channel.

    Gives (samples, rate): float32 (T,) in [-1, 1], and `sample_rate` or the file's own.  Integers are divided
    by their full scale, so that NeMo's int_values changes no sample of such a file.  Resampling is
    soxr's HQ, T = ceil(samples * sample_rate / rate), as librosa's "soxr_hq".  Raises FileNotFoundError for
    a missing file and ValueError naming the file if it is unreadable, damaged, cut off or empty, holds values
    that are not finite, or has several channels and `channel` is None.
    """
    with closing(open_audio(path)) as file:
        rate = file.sample_rate
        start = int((offset_s or 0.0) * rate)
        if start and start >= file.num_frames:
            raise ValueError(
                f"{path}: offset {offset_s} s is behind the end of the file ({file.num_frames / rate:.3f} s)"
            )
        present = file.num_frames - start
        wanted = int(duration_s * rate) if duration_s is not None and duration_s > 0 else -1
        if file.missing_frames and (wanted < 0 or wanted > present):
            before = f"{file.missing_frames / rate:.3f} s before the end that its header states"
            ends = before if file.missing_frames > 1 else "within a frame or a page: it was cut off"
            raise ValueError(f"{path}: the audio is damaged: it ends {ends}; fetch or convert the file again")
        expected = present if wanted < 0 else min(wanted, present)
        try:
            samples = file.read(start, expected if file.exact or wanted >= 0 else NO_LIMIT)
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            raise ValueError(f"{path}: the audio is damaged: {reason(error)}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if len(samples) < expected - file.slack:
            raise ValueError(
                f"{path}: the audio is damaged: {expected} samples follow from {offset_s or 0.0} s on, "
                f"only {len(samples)} can be decoded; fetch or convert the file again"
            )
        may_hold_nan = getattr(file, "may_hold_nan", False)
    if len(samples) == 0:
        raise ValueError(f"{path}: no audio samples (offset {offset_s or 0.0} s, duration {duration_s} s)")
    if may_hold_nan:
        _check_floats(samples, start, path)
    mono = _select(samples, channel, path)
    if sample_rate is None or sample_rate == rate:
        return mono, rate
    return resample(mono, rate, sample_rate), sample_rate


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample float32 (T,) by soxr HQ to ceil(T * new_rate / rate) samples, as librosa's "soxr_hq" does."""
    length = ceil(len(samples) * (float(new_rate) / rate))
    changed = soxr.resample(samples, rate, new_rate, quality="HQ")[:length]
    if len(changed) < length:
        changed = np.pad(changed, (0, length - len(changed)))
    return changed.astype(np.float32, copy=False)


def write_audio(path: str | os.PathLike, samples: np.ndarray, sample_rate: int) -> None:
    """Write int16 or float (T,) samples as 16-bit PCM FLAC or WAV, by the suffix of `path`; atomic.

    Floats in [-1, 1) are scaled by 32768, rounded and clipped.  Raises ValueError for other shapes, other
    suffixes and values that are not finite.
    """
    path = Path(path)
    container = {".flac": "FLAC", ".wav": "WAV"}.get(path.suffix.lower())
    if container is None:
        raise ValueError(
            f"{path}: audio is written as .flac or .wav, not as {path.suffix or 'a file without suffix'}"
        )
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"{path}: samples must have the shape (T,), not {samples.shape}")
    if samples.dtype != np.int16:
        if not np.issubdtype(samples.dtype, np.floating):
            raise ValueError(f"{path}: samples must be int16 or float, not {samples.dtype}")
        if not np.isfinite(samples).all():
            raise ValueError(f"{path}: samples hold values that are not finite")
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    with replaced(path) as temporary:
        soundfile.write(temporary, samples, sample_rate, subtype="PCM_16", format=container)


def _check_floats(samples: np.ndarray, start: int, path: Audio) -> None:
    """Raise ValueError unless (T, channels) floats are finite and of a size that a scale could explain."""
    peak = max(samples.max(), -samples.min())  # NaN where there is one
    if peak <= LARGEST_FLOAT:
        return
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{path}: {len(bad)} of {len(samples)} samples are not finite (NaN or infinity), the first "
            f"is sample {start + bad[0]}; convert the file again"
        )
    raise ValueError(
        f"{path}: the audio is damaged: it has samples up to {peak:.3g}, where full scale is 1; "
        f"convert the file again"
    )


def _select(samples: np.ndarray, channel: Channel, path: Audio) -> np.ndarray:
    """Give (T,) from (T, channels)."""
    channels = samples.shape[1]
    if channel is None:
        if channels > 1:
            raise ValueError(
                f"{path}: the file has {channels} channels; "
                f"set channel_selector to a channel number or to 'average'"
            )
        return samples[:, 0]
    if channel == "average":
        return samples[:, 0] if channels == 1 else samples.mean(axis=1)
    wanted: list = [channel] if isinstance(channel, int | str) else list(channel)
    if not wanted or not all(isinstance(c, int) and 0 <= c < channels for c in wanted):
        raise ValueError(f"{path}: channel_selector {channel!r} does not fit a file of {channels} channel(s)")
    return samples[:, wanted[0]] if len(wanted) == 1 else samples[:, wanted].mean(axis=1)
