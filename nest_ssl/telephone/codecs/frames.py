"""Lost frames of codecs with frames of a fixed size: what reaches the decoder, and where it belongs."""

from __future__ import annotations

import numpy as np


def received(frames: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Give (N,), the frames of (num_frames * size,) that arrived, joined."""
    return frames.reshape(len(lost), -1)[~lost].reshape(-1)


def with_gaps(decoded: np.ndarray, lost: np.ndarray, frame_samples: int) -> np.ndarray:
    """Put int16 (N,), decoded from the frames that arrived, into its places; zeros in the others."""
    frames = np.zeros((len(lost), frame_samples), np.int16)
    frames[~lost] = decoded.reshape(-1, frame_samples)
    return frames.reshape(-1)


def refuse_loss(codec: str, lost: np.ndarray | None) -> None:
    """Raise ValueError if a codec that writes recordings is asked to lose frames."""
    if lost is not None and np.any(lost):
        raise ValueError(
            f"{codec} stores recordings and loses no frames; {int(np.sum(lost))} are marked lost: "
            "put the loss on the codec of a line"
        )
