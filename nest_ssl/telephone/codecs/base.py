"""What every codec offers the channel."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Codec(Protocol):
    """A speech codec as a round trip: what a listener at the other end of the line gets."""

    name: str
    sample_rate: int  # Hz
    frame_samples: int  # the codec works on frames of this length; 1 if it has none

    def version(self) -> str:
        """Name the implementation and its version, for the manifest."""

    def encode_decode(self, samples: np.ndarray) -> np.ndarray:
        """Give int16 (T,) as decoded after coding int16 (T,); the codec's own delay is taken out."""
