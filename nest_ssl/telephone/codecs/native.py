"""What codecs in shared libraries have in common: whole frames in, whole frames out, the delay cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs.base import check_choices
from nest_ssl.telephone.codecs.libraries import load_library

CONCEALMENT = ("codec", "zeros")  # the decoder's own, or silence from receivers that skip what did not arrive


class NativeCodec:
    """A codec that codes frame by frame in one or two shared libraries.

    A child offers `code_frames`.  The states of encoder and decoder are made anew in every call: that costs
    microseconds, and nothing can carry over from one utterance to the next or between threads.
    """

    name: str
    sample_rate = 8000
    frame_samples = 160
    delay_samples = 0.0
    choices: Mapping[str, tuple[Any, ...]] = {}
    libraries: tuple[str, ...] = ()

    def check(self) -> None:
        for name in self.libraries:
            load_library(name)

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        check_choices(self, parameters)

    def route(self) -> str:
        return ", ".join(load_library(name).route() for name in self.libraries)

    def version(self) -> str:
        return ", ".join(load_library(name).version for name in self.libraries)

    def encode_decode(
        self, samples: np.ndarray, parameters: Mapping[str, Any], lost: np.ndarray | None = None
    ) -> np.ndarray:
        self.check_parameters(parameters)
        delay = round(self.delay_samples)
        pcm = whole_frames(samples, self.frame_samples, delay)
        missing = lost_frames(lost, len(samples), self.frame_samples, len(pcm) // self.frame_samples)
        if len(samples) == 0:
            return pcm
        return self.code_frames(pcm, parameters, missing)[delay : delay + len(samples)]

    def code_frames(self, pcm: np.ndarray, parameters: Mapping[str, Any], lost: Sequence[bool]) -> np.ndarray:
        """Give int16 (N * frame_samples,), delayed, from as many samples, which it may overwrite."""
        raise NotImplementedError


def whole_frames(samples: np.ndarray, frame_samples: int, delay: int = 0) -> np.ndarray:
    """Give a contiguous copy of int16 (T,), filled with zeros to whole frames that hold T + delay samples.

    Raises ValueError for another type or more than one channel: the library gets a mere address.
    """
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"a codec takes int16 (T,), not {samples.dtype} {samples.shape}")
    num_frames = -(-(len(samples) + delay) // frame_samples) if len(samples) else 0
    pcm = np.zeros(num_frames * frame_samples, np.int16)
    pcm[: len(samples)] = samples
    return pcm


def lost_frames(lost: np.ndarray | None, num_samples: int, frame_samples: int, num_frames: int) -> list[bool]:
    """Give one flag per coded frame; a frame that the delay adds at the end arrives.

    Raises ValueError if `lost` has not one flag per frame of the samples.
    """
    if lost is None:
        return [False] * num_frames
    expected = -(-num_samples // frame_samples)
    if len(lost) != expected:
        raise ValueError(f"lost has {len(lost)} flags for {expected} frames of {frame_samples} samples")
    flags = [bool(flag) for flag in lost]
    return flags + [False] * (num_frames - expected)
