"""Greedy CTC decoding: the best label of every frame, collapsed."""

from __future__ import annotations

import numpy as np

from nest_ssl.text.ctc_labels import collapse


def greedy_labels(log_probs: np.ndarray, blank: int) -> tuple[list[int], float]:
    """Give the labels of the most probable path through (T, V) log probabilities, and its score in nats."""
    if log_probs.ndim != 2:
        raise ValueError(f"log_probs has the shape {log_probs.shape}; (T, V) of one utterance is needed")
    if not len(log_probs):
        return [], 0.0
    best = log_probs.argmax(axis=1)
    return collapse(best.tolist(), blank), float(log_probs.max(axis=1).sum(dtype=np.float64))
