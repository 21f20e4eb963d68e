import itertools

import numpy as np
import pytest

from nest_ssl.decoding.fun_asr_alignment import aligned_path, timestamps
from nest_ssl.text.ctc_labels import collapse

BLANK = 3


def log_probs(seed: int, frames: int = 6, labels: int = 4) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, labels)) * 2
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


class Letters:
    def encode(self, text):
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, ids):
        return "".join(chr(ord("a") + i) for i in ids)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labels", [[], [0], [0, 1], [1, 1], [2, 0, 2], [0, 0, 0]])
def test_path_is_the_best_of_all_paths(seed, labels):
    scores = log_probs(seed)
    paths = [p for p in itertools.product(range(4), repeat=6) if collapse(p, BLANK) == labels]
    best = max(sum(scores[t, s] for t, s in enumerate(path)) for path in paths)
    path = aligned_path(scores, labels, BLANK)
    assert collapse(path.tolist(), BLANK) == labels
    assert scores[np.arange(6), path].sum() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("labels", [[0] * 4, [0, 1, 2, 0, 1, 2, 0], [BLANK], [4], [-1]])
def test_impossible_labels_have_no_path(labels):
    assert aligned_path(log_probs(0), labels, BLANK) is None


def test_no_frames_have_no_path():
    assert aligned_path(np.zeros((0, 4), np.float32), [], BLANK) is None


def test_timestamps_are_the_spans_of_the_path():
    scores = np.log(np.full((5, 4), 0.1, np.float32))
    for frame, label in enumerate([0, 0, BLANK, 1, BLANK]):
        scores[frame, label] = np.log(0.7)
    found = timestamps(scores, "ab", Letters(), BLANK, 0.06)
    assert found == [
        {"token": "a", "start_time": 0.0, "end_time": 0.12, "score": 0.7},
        {"token": "b", "start_time": 0.18, "end_time": 0.24, "score": 0.7},
    ]


def test_text_that_cannot_be_aligned_has_no_timestamps():
    assert timestamps(log_probs(0), "abababab", Letters(), BLANK, 0.06) == []


def test_a_text_of_more_labels_than_fit_into_a_byte_is_aligned():
    labels = [1 + i % 2 for i in range(200)]
    log_probs = np.full((400, 4), -9.0, dtype=np.float32)
    for frame in range(400):
        log_probs[frame, labels[frame // 2] if frame % 2 else 3] = 0.0
    path = aligned_path(log_probs, labels, blank=3)
    assert path is not None
    assert path[1::2].tolist() == labels
