"""When each label of a text is said: the best CTC path of given labels, and FunASR's timestamps from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from nest_ssl.text.ctc_labels import frames_needed


class CtcTokenizer(Protocol):
    """What turns text into labels of the CTC head and back."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


def aligned_path(log_probs: np.ndarray, labels: Sequence[int], blank: int) -> np.ndarray | None:
    """Give the label of every frame, (T,) int64, on the most probable path that says `labels`.

    log_probs: (T, V) natural logarithms.  None where there is no such path: too few frames, a label outside
    the vocabulary, the blank among the labels.  Of equally probable paths the one that stays longer wins.
    Source: Graves et al., 2006, section 4, with the maximum in place of the sum; the order of the comparisons
    is that of torchaudio.functional.forced_align, which FunASR calls.
    """
    num_frames, num_labels = log_probs.shape
    target = np.asarray(labels, dtype=np.int64)
    if len(target) and (target.min() < 0 or target.max() >= num_labels or (target == blank).any()):
        return None
    if not num_frames or num_frames < frames_needed(labels):
        return None
    states = np.full(2 * len(target) + 1, blank, dtype=np.int64)
    states[1::2] = target
    emitted = log_probs[:, states].astype(np.float32)
    may_skip = np.zeros(len(states), dtype=bool)  # the blank between two labels, unless these are equal
    may_skip[3::2] = target[1:] != target[:-1]
    score = np.full(len(states), -np.inf, dtype=np.float32)
    score[:2] = emitted[0, :2]
    moves = np.zeros((num_frames, len(states)), dtype=np.int8)
    for frame in range(1, num_frames):
        one = np.concatenate(([-np.inf], score[:-1])).astype(np.float32)
        two = np.concatenate(([-np.inf, -np.inf], score[:-2])).astype(np.float32)[: len(states)]
        two = np.where(may_skip, two, -np.inf)
        move = moves[frame]
        best = score
        move[one > best] = 1
        best = np.maximum(best, one)
        move[two > best] = 2
        score = np.maximum(best, two) + emitted[frame]
    state = len(states) - 1
    if len(states) > 1 and not score[-1] > score[-2]:
        state -= 1
    if not np.isfinite(score[state]):
        return None
    path = np.empty(num_frames, dtype=np.int64)
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = states[state]
        state -= int(moves[frame, state])  # an int8 would take the state with it
    return path


def timestamps(
    log_probs: np.ndarray, text: str, tokenizer: CtcTokenizer, blank: int, frame_s: float
) -> list[dict[str, Any]]:
    """Give FunASR's {token, start_time, end_time, score} for each CTC token of a text, times in seconds.

    log_probs: (T, V); frame_s: seconds per frame.  score: the highest probability of the label in its span,
    to three places.  An empty list where the text cannot be aligned, as FunASR gives one.
    """
    path = aligned_path(log_probs, tokenizer.encode(text), blank)
    if path is None:
        return []
    found = []
    borders = np.flatnonzero(np.diff(path)) + 1
    for start, end in zip([0, *borders], [*borders, len(path)], strict=True):
        label = int(path[start])
        if label == blank:
            continue
        probability = float(np.exp(log_probs[start:end, label].astype(np.float32)).max())
        found.append(
            {
                "token": tokenizer.decode([label]),
                "start_time": seconds(int(start), frame_s),
                "end_time": seconds(int(end), frame_s),
                "score": round(probability, 3),
            }
        )
    return found


def seconds(frame: int, frame_s: float) -> float:
    """Give frames in seconds without the noise of binary fractions: whole milliseconds are divided once."""
    milliseconds = frame_s * 1000
    whole = round(milliseconds)
    return frame * whole / 1000 if abs(milliseconds - whole) < 1e-6 else frame * frame_s
