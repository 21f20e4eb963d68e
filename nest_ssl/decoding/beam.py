"""Prefix beam search for CTC: the most probable labellings, summed over their paths.

Source: Graves, Supervised Sequence Labelling with Recurrent Neural Networks (2012), section 7.5; Hannun et
al., arXiv 1408.2873, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nest_ssl.decoding.word_list import WordList

LOG_ZERO = -math.inf


@dataclass(frozen=True)
class Hypothesis:
    """Labels without blanks; log_prob: nats of CTC alone; score: with the word list's bonus."""

    labels: tuple[int, ...]
    log_prob: float
    score: float


class _Prefix:
    """A node of the tree of prefixes, with the probabilities of the paths that say it so far."""

    __slots__ = ("blank", "bonus", "children", "label", "new_blank", "new_other", "other", "parent", "words")

    def __init__(self, parent: _Prefix | None, label: int, words: Any, bonus: float) -> None:
        self.parent, self.label, self.words, self.bonus = parent, label, words, bonus
        self.blank = self.other = LOG_ZERO  # paths that end in the blank, in the label
        self.new_blank = self.new_other = LOG_ZERO  # after the frame at hand
        self.children: dict[int, _Prefix | None] = {}  # None: forbidden by the word list

    def labels(self) -> tuple[int, ...]:
        found: list[int] = []
        node: _Prefix = self
        while node.parent is not None:
            found.append(node.label)
            node = node.parent
        return tuple(reversed(found))


def beam_search(
    log_probs: np.ndarray,
    blank: int,
    beam_size: int = 16,
    words: WordList | None = None,
    prune_nats: float = 12.0,
    num_best: int = 1,
) -> list[Hypothesis]:
    """Give up to `num_best` labellings of (T, V) log probabilities, best first.

    beam_size: prefixes kept after each frame.  prune_nats: labels that far below a frame's best one do not
    extend a prefix; inf tries all.  words: a list that holds or favours.  Exact where the beam is never full
    and nothing is pruned.  With a list that holds, the result may be empty: no word of it ended.
    """
    if log_probs.ndim != 2 or not 0 <= blank < log_probs.shape[1]:
        raise ValueError(f"log_probs: shape {log_probs.shape}; (T, V) with the blank {blank} is needed")
    if beam_size < 1 or num_best < 1:
        raise ValueError(f"beam_size {beam_size} and num_best {num_best} must be at least 1")
    root = _Prefix(None, -1, words.start() if words else None, 0.0)
    root.blank = 0.0
    beam = [root]
    for frame in log_probs.astype(np.float64):
        keep = frame >= frame.max() - prune_nats
        keep[blank] = False
        labels = np.flatnonzero(keep).tolist()
        beam = _best(_advanced(beam, frame.tolist(), blank, labels, words), beam_size)
    return _hypotheses(beam, words, num_best)


def _advanced(
    beam: list[_Prefix], frame: list[float], blank: int, labels: list[int], words: WordList | None
) -> list[_Prefix]:
    """Every prefix that the beam's prefixes become in one frame, its probabilities updated."""
    touched = {id(prefix): prefix for prefix in beam}
    for prefix in beam:
        total = _add(prefix.blank, prefix.other)
        prefix.new_blank = _add(prefix.new_blank, total + frame[blank])
        if prefix.parent is not None:
            prefix.new_other = _add(prefix.new_other, prefix.other + frame[prefix.label])
        for label in labels:
            # The same label again is a repeat, unless a blank came between.
            before = prefix.blank if label == prefix.label else total
            if before == LOG_ZERO:
                continue
            child = _child(prefix, label, words)
            if child is not None:
                child.new_other = _add(child.new_other, before + frame[label])
                touched[id(child)] = child
    for prefix in touched.values():
        prefix.blank, prefix.other = prefix.new_blank, prefix.new_other
        prefix.new_blank = prefix.new_other = LOG_ZERO
    return list(touched.values())


def _child(prefix: _Prefix, label: int, words: WordList | None) -> _Prefix | None:
    if label not in prefix.children:
        state = words.extend(prefix.words, label) if words else None
        if words and state is None:
            prefix.children[label] = None
        else:
            bonus = words.score(state) if words and state else 0.0
            prefix.children[label] = _Prefix(prefix, label, state, bonus)
    return prefix.children[label]


def _best(prefixes: list[_Prefix], beam_size: int) -> list[_Prefix]:
    """The best `beam_size` prefixes; the others are forgotten, lest they come back with old sums."""
    if len(prefixes) <= beam_size:
        return prefixes
    prefixes.sort(key=lambda prefix: -(_add(prefix.blank, prefix.other) + prefix.bonus))
    for prefix in prefixes[beam_size:]:
        prefix.blank = prefix.other = LOG_ZERO
    return prefixes[:beam_size]


def _hypotheses(beam: list[_Prefix], words: WordList | None, num_best: int) -> list[Hypothesis]:
    found = []
    for prefix in beam:
        bonus = words.final(prefix.words) if words else 0.0
        if bonus is not None:
            log_prob = _add(prefix.blank, prefix.other)
            found.append(Hypothesis(prefix.labels(), log_prob, log_prob + bonus))
    found.sort(key=lambda hypothesis: (-hypothesis.score, hypothesis.labels))
    return found[:num_best]


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == LOG_ZERO else a + math.log1p(math.exp(b - a))
