"""Audio that FFmpeg's libraries decode and libsndfile does not (m4a, AMR, wma, webm, G.722), through PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from types import ModuleType
from typing import IO, Any

import numpy as np

GUESSED = ("mp3", "aac", "ac3")  # FFmpeg guesses their length from the bit rate
SLACK_S = 0.5  # what codecs cut off at both ends, and rounded times of the containers


def load_av(reason: str) -> ModuleType:
    """Import PyAV; ValueError says what it is needed for where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f"{reason} needs the package av (pip install av), which cannot be imported: {error}"
        ) from error
    return av


def decoded_packets(codec: str, sample_rate: int, packets: Iterable[bytes]) -> np.ndarray:
    """Decode packets of one channel; gives (T,) float32 in [-1, 1]; ValueError for damage."""
    av = load_av(f"decoding {codec}")
    try:
        context: Any = av.CodecContext.create(codec, "r")
    except Exception as error:  # codecs differ between builds of FFmpeg, and so does the exception
        raise ValueError(f"this build of PyAV has no decoder {codec}: {error}") from error
    context.sample_rate = sample_rate
    context.layout = "mono"
    parts = []
    try:
        for content in packets:
            parts += [
                as_float(frame.to_ndarray(), frame.format.is_planar, 1)
                for frame in context.decode(av.Packet(content))
            ]
        parts += [as_float(frame.to_ndarray(), frame.format.is_planar, 1) for frame in context.decode(None)]
    except av.error.FFmpegError as error:
        raise ValueError(f"its {codec} audio is damaged: {error.strerror}") from error
    return np.concatenate(parts)[:, 0] if parts else np.zeros(0, np.float32)


def as_float(samples: np.ndarray, planar: bool, channels: int) -> np.ndarray:
    """Give (T, channels) float32 in [-1, 1] from what a frame holds: (channels, T) or (1, T * channels)."""
    samples = samples.T if planar else samples.reshape(-1, channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return np.ascontiguousarray(samples, np.float32)


class StreamReader:
    """Reads the first audio stream of a container; a part is exact, decoded from the beginning on."""

    exact = False
    seekable = False
    missing_frames = 0
    slack = inf

    def __init__(self, file: IO[bytes]) -> None:
        av = self._av = load_av("this format")
        self._file = file
        file.seek(0)
        try:
            container = av.open(file)
        except (av.error.FFmpegError, OSError) as error:
            raise ValueError(getattr(error, "strerror", "") or str(error)) from error
        with container:
            if not container.streams.audio:
                raise ValueError("the file has no audio stream")
            stream = container.streams.audio[0]
            codec = stream.codec_context
            if codec is None:
                raise ValueError("its audio is in a coding for which there is no decoder")
            self.format = f"{container.format.name} {codec.name}"
            self.sample_rate, self.channels = codec.sample_rate, codec.channels
            if not self.sample_rate or not self.channels:
                raise ValueError("the file states no sample rate or no channels")
            self.num_frames = self._stated_frames(container, stream)
            if len(container.streams) == 1 and container.format.name not in GUESSED:
                self.slack = SLACK_S * self.sample_rate

    def read(self, start: int, count: int) -> np.ndarray:
        """Give (T, channels) float32 of `count` frames from `start` on, fewer at the end."""
        end = min(start + count, self.num_frames)
        parts, position = [], 0
        for samples in self._frames():
            first, last = max(start - position, 0), min(end - position, len(samples))
            if first < last:
                parts.append(samples[first:last])
            position += len(samples)
            if position >= end:
                break
        return np.concatenate(parts) if parts else np.zeros((0, self.channels), np.float32)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _stated_frames(self, container: Any, stream: Any) -> int:
        """What the container says of the stream's length, or else what its packets say."""
        if container.format.name in GUESSED:
            packets = [packet.duration or 0 for packet in container.demux(stream)]
            return round(sum(packets) * (stream.time_base or 0) * self.sample_rate)
        if stream.duration is not None and stream.time_base is not None:
            return round(stream.duration * stream.time_base * self.sample_rate)
        if container.duration:
            return round(container.duration * self.sample_rate / self._av.time_base)
        packets = [packet.duration or 0 for packet in container.demux(stream)]
        return round(sum(packets) * (stream.time_base or 0) * self.sample_rate)

    def _frames(self) -> Iterator[np.ndarray]:
        self._file.seek(0)
        try:
            with self._av.open(self._file) as container:
                for frame in container.decode(container.streams.audio[0]):
                    yield as_float(frame.to_ndarray(), frame.format.is_planar, frame.layout.nb_channels)
        except self._av.error.FFmpegError as error:
            raise ValueError(f"the audio is damaged: {error.strerror}") from error
