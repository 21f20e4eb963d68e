import itertools
import math

import numpy as np
import pytest
import torch

from nest_ssl.decoding.fun_asr_ctc import ctc_best, ctc_candidates, ctc_log_likelihoods, ctc_text
from nest_ssl.text.ctc_labels import collapse
from tests.decoding.test_fun_asr_alignment import BLANK, Letters, log_probs


def summed_over_paths(scores: np.ndarray, labels: list[int]) -> float:
    frames, symbols = scores.shape
    paths = [p for p in itertools.product(range(symbols), repeat=frames) if collapse(p, BLANK) == labels]
    total = sum(math.exp(sum(float(scores[t, s]) for t, s in enumerate(path))) for path in paths)
    return math.log(total) if total else -math.inf


@pytest.mark.parametrize("seed", range(3))
def test_likelihoods_are_sums_over_all_paths(seed):
    scores = log_probs(seed, frames=5)
    candidates = [[], [0], [1, 1], [0, 1, 2], [2, 2, 2], [0, 0, 0, 0], [0, 1, 0, 1, 0, 1]]
    found = ctc_log_likelihoods(torch.from_numpy(scores), candidates, BLANK)
    assert found == pytest.approx([summed_over_paths(scores, labels) for labels in candidates], abs=1e-5)


def test_labels_outside_the_vocabulary_are_impossible():
    scores = torch.from_numpy(log_probs(0))
    assert ctc_log_likelihoods(scores, [[BLANK], [9], [-1]], BLANK) == [-math.inf] * 3


def test_without_frames_only_the_empty_text_is_possible():
    assert ctc_log_likelihoods(torch.zeros(0, 4), [[], [0]], BLANK) == [0.0, -math.inf]


def test_the_best_path_comes_first_and_no_text_twice():
    scores = log_probs(1)
    found = ctc_candidates(scores, Letters(), BLANK, 5)
    assert found[0] == ctc_text(scores, Letters(), BLANK)
    assert len(set(found)) == len(found) == 5


def test_prefix_search_finds_the_most_probable_text():
    scores = log_probs(2, frames=4)
    texts = {tuple(collapse(path, BLANK)) for path in itertools.product(range(4), repeat=4)}
    best = max(texts, key=lambda labels: summed_over_paths(scores, list(labels)))
    assert ctc_best(scores, Letters(), BLANK, 50) == Letters().decode(best)
