"""What the CTC branch says: its text, further candidates, and the exact likelihood of any text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nest_ssl.decoding.beam import beam_search
from nest_ssl.decoding.fun_asr_alignment import CtcTokenizer
from nest_ssl.decoding.greedy import greedy_labels
from nest_ssl.text.ctc_labels import frames_needed

NO_SPEECH = "<|nospeech|>"  # FunASR takes this token out of ctc_text
PRUNE_NATS = 8.0  # labels so far below a frame's best one open no new candidate
LABELS_PER_FRAME = 16  # nor do more than so many; a branch that is hardly trained would offer thousands


def ctc_text(log_probs: np.ndarray, tokenizer: CtcTokenizer, blank: int) -> str:
    """Give the text of the best path through (T, V) log probabilities, as FunASR's ctc_text."""
    labels, _ = greedy_labels(log_probs, blank)
    return tokenizer.decode(labels).replace(NO_SPEECH, "")


def ctc_best(log_probs: np.ndarray, tokenizer: CtcTokenizer, blank: int, beam_size: int) -> str:
    """Give the most probable text of a prefix beam search through (T, V) log probabilities."""
    found = beam_search(_likely(log_probs, blank), blank, beam_size, prune_nats=PRUNE_NATS)
    return tokenizer.decode(list(found[0].labels)).replace(NO_SPEECH, "")


def ctc_candidates(log_probs: np.ndarray, tokenizer: CtcTokenizer, blank: int, count: int) -> list[str]:
    """Give up to `count` different texts: that of the best path, then those of a prefix beam search."""
    texts = [ctc_text(log_probs, tokenizer, blank)]
    if count > 1:
        found = beam_search(_likely(log_probs, blank), blank, count, prune_nats=PRUNE_NATS, num_best=count)
        texts += [tokenizer.decode(list(one.labels)).replace(NO_SPEECH, "") for one in found]
    return list(dict.fromkeys(texts))[:count]


def _likely(log_probs: np.ndarray, blank: int) -> np.ndarray:
    """Give (T, V) log probabilities in which all but the likeliest labels of a frame are impossible."""
    if log_probs.shape[1] <= LABELS_PER_FRAME:
        return log_probs
    places = np.argpartition(log_probs, -LABELS_PER_FRAME, axis=1)[:, -LABELS_PER_FRAME:]
    kept = np.full_like(log_probs, -np.inf)
    np.put_along_axis(kept, places, np.take_along_axis(log_probs, places, axis=1), axis=1)
    kept[:, blank] = log_probs[:, blank]
    return kept


def ctc_log_likelihoods(log_probs: Tensor, candidates: Sequence[Sequence[int]], blank: int) -> list[float]:
    """Give ln P(labels | audio) in nats, summed over all paths, for each candidate.

    log_probs: (T, V) float, natural logarithms.  -inf where no path says the labels: too few frames, a label
    outside the vocabulary, the blank among the labels.  Computed in float64 by the forward recursion (Graves
    et al., 2006, section 4.1), all candidates at once over the labels that they use.
    """
    num_frames, num_labels = log_probs.shape
    found = [-np.inf] * len(candidates)
    possible = [
        i
        for i, labels in enumerate(candidates)
        if num_frames
        and frames_needed(labels) <= num_frames
        and all(0 <= x < num_labels and x != blank for x in labels)
    ]
    if not possible:
        return [0.0 if not num_frames and not len(labels) else value
                for labels, value in zip(candidates, found, strict=True)]  # fmt: skip
    used = sorted({label for i in possible for label in candidates[i]})
    number = {label: n for n, label in enumerate(used, start=1)}
    columns = log_probs[:, [blank, *used]].double()
    lengths = torch.tensor([len(candidates[i]) for i in possible])
    targets = torch.zeros(len(possible), max(1, int(lengths.max())), dtype=torch.long)
    for row, i in enumerate(possible):
        targets[row, : len(candidates[i])] = torch.tensor(
            [number[x] for x in candidates[i]], dtype=torch.long
        )
    losses = F.ctc_loss(
        columns.unsqueeze(1).expand(-1, len(possible), -1).cpu(),
        targets,
        torch.full((len(possible),), num_frames),
        lengths,
        blank=0,
        reduction="none",
    )
    for i, loss in zip(possible, losses.tolist(), strict=True):
        found[i] = -loss
    return found
