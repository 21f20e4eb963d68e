"""Label sequences of CTC: what a frame-wise path says, and how many frames a text needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise


def collapse(path: Iterable[int], blank: int) -> list[int]:
    """Give the labels of a path: repeats become one, then blanks go (Graves et al., 2006, the map B)."""
    labels = []
    previous = blank
    for label in path:
        if label != previous and label != blank:
            labels.append(label)
        previous = label
    return labels


def frames_needed(labels: Sequence[int]) -> int:
    """Give the least number of frames for `labels`: one each, and a blank between equal neighbours."""
    return len(labels) + sum(1 for a, b in pairwise(labels) if a == b)
