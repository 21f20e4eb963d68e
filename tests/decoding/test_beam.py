"""Prefix beam search against the definition: every labelling's probability, summed over all its paths."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from nest_ssl.decoding.beam import beam_search
from nest_ssl.decoding.greedy import greedy_labels
from nest_ssl.decoding.word_list import WordList, read_words
from nest_ssl.text.ctc_labels import collapse

PIECES = ["▁", "a", "b", "▁ab"]


def random_log_probs(frames: int, classes: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, classes)) * 1.5
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def all_labellings(log_probs: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """Log probability of every labelling, by enumerating every path."""
    frames, classes = log_probs.shape
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=frames):
        labels = tuple(collapse(path, blank))
        probability = math.exp(sum(log_probs[t, label] for t, label in enumerate(path)))
        sums[labels] = sums.get(labels, 0.0) + probability
    return {labels: math.log(value) for labels, value in sums.items()}


def words_of(labels: tuple[int, ...]) -> list[str]:
    return "".join(PIECES[label] for label in labels).replace("▁", " ").split()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("blank", [0, 3])
def test_a_beam_that_is_never_full_gives_every_labelling_its_probability(seed, blank):
    log_probs = random_log_probs(5, 4, seed)
    expected = all_labellings(log_probs, blank)
    found = beam_search(log_probs, blank, beam_size=10_000, prune_nats=math.inf, num_best=10_000)
    assert {h.labels: pytest.approx(h.log_prob, abs=1e-9) for h in found} == expected
    assert [h.log_prob for h in found] == pytest.approx(sorted(expected.values(), reverse=True))


def test_paths_of_one_labelling_are_added_up():
    # The best single path says nothing; the label's paths together are more probable (Graves 2006, figure 3).
    log_probs = np.log(np.array([[0.4, 0.6], [0.4, 0.6]]))
    assert greedy_labels(log_probs, blank=1)[0] == []
    best = beam_search(log_probs, blank=1, beam_size=4)[0]
    assert best.labels == (0,)
    assert math.exp(best.log_prob) == pytest.approx(0.4 * 0.4 + 2 * 0.4 * 0.6)


@pytest.mark.parametrize("seed", range(6))
def test_a_list_that_holds_gives_the_best_labelling_made_of_its_words(seed):
    log_probs = random_log_probs(5, 5, seed)
    blank, allowed = 4, {"ab", "b"}
    expected = {
        labels: value
        for labels, value in all_labellings(log_probs, blank).items()
        if set(words_of(labels)) <= allowed
    }
    words = WordList(allowed, PIECES)
    found = beam_search(log_probs, blank, 10_000, words, math.inf, num_best=10_000)
    assert {h.labels: pytest.approx(h.log_prob, abs=1e-9) for h in found} == expected


@pytest.mark.parametrize("seed", range(4))
def test_a_bonus_is_gained_by_every_word_of_the_list(seed):
    log_probs = random_log_probs(5, 5, seed)
    found = beam_search(log_probs, 4, 10_000, WordList({"ab"}, PIECES, bonus=1.5), math.inf, num_best=10_000)
    assert len(found) == len(all_labellings(log_probs, 4))
    for hypothesis in found:
        count = words_of(hypothesis.labels).count("ab")
        assert hypothesis.score == pytest.approx(hypothesis.log_prob + 1.5 * count)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@pytest.mark.parametrize("beam_size", [1, 2, 3])
def test_a_narrow_beam_never_claims_more_than_the_labelling_has(beam_size):
    for seed in range(20):
        log_probs = random_log_probs(6, 3, seed)
        expected = all_labellings(log_probs, 2)
        for hypothesis in beam_search(log_probs, 2, beam_size, prune_nats=math.inf, num_best=beam_size):
            assert hypothesis.log_prob <= expected[hypothesis.labels] + 1e-9


def test_no_frames_say_nothing():
    empty = np.zeros((0, 3))
    assert beam_search(empty, 2)[0].labels == ()
    assert greedy_labels(empty, 2) == ([], 0.0)


def test_a_list_that_cannot_be_said_gives_no_hypothesis():
    log_probs = np.log(np.array([[1e-9, 1.0, 1e-9, 1e-9, 1e-9]]))
    assert beam_search(log_probs, 4, words=WordList({"bb"}, PIECES), prune_nats=math.inf)[0].labels == ()
    # All hypotheses are unfinished words once the silent one has fallen out of the beam.
    assert beam_search(np.repeat(log_probs, 3, 0), 4, beam_size=1, words=WordList({"ab"}, PIECES)) == []


@pytest.mark.parametrize("arguments", [{"beam_size": 0}, {"num_best": 0}, {"blank": 9}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=r"needed|at least 1"):
        beam_search(np.zeros((2, 3)), **{"blank": 2, **arguments})


def test_the_word_list_is_read_normalised_and_checked(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("Hello\n\nhello world\n", encoding="utf-8")
    assert read_words(path, str.lower) == ["hello", "world"]
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"words\.txt holds no word"):
        read_words(path, str.lower)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        read_words(tmp_path / "nowhere.txt", str.lower)
    with pytest.raises(ValueError, match="several words: 'a b'"):
        WordList(["a b"], PIECES)
