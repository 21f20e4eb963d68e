"""How well masked tokens are guessed, and how much of the codebooks is in use."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def masked_token_stats(scores: Tensor, targets: Tensor, frame_lengths: Tensor) -> dict[str, Tensor]:
    """Sums over the masked frames of a batch, on its device and without waiting for it.

    scores (N, C, K), any monotone score of the tokens; targets (N, K) int64; frame_lengths (B,) of the
    whole batch. Gives "correct" () float64, averaged over books; "target_counts" and "prediction_counts"
    (K, C) int64; "frames_total" () int64, valid frames, masked or not.
    """
    predictions = scores.argmax(dim=1)
    return {
        "correct": (predictions == targets).double().mean(dim=1).sum(),
        "target_counts": _counts(targets, scores.shape[1]),
        "prediction_counts": _counts(predictions, scores.shape[1]),
        "frames_total": frame_lengths.sum().to(torch.int64),
    }


def masked_token_metrics(
    loss_sum: Tensor | float, weight: Tensor | float, stats: Mapping[str, Tensor]
) -> dict[str, float]:
    """The figures of a log line from sums over any number of batches and ranks; NaN where nothing was masked.

    masked_acc: share of masked frames guessed right.  mask_share: masked of all valid frames.  ..._ppl: exp
    of the entropy of the tokens' counts, from 1 (one token always) to the number of classes.  ..._coverage:
    share of the classes that occur.  Both averaged over books.  gain_nats: how far the loss is below that
    of guessing by the targets' frequencies, ln(target_ppl) - loss; 0 or less means that nothing was learnt
    but those.
    """
    frames = float(weight)
    loss = float(loss_sum) / frames if frames else math.nan
    target_ppl, target_coverage = _usage(stats["target_counts"])
    prediction_ppl, prediction_coverage = _usage(stats["prediction_counts"])
    total = float(stats["frames_total"])
    return {
        "masked_acc": float(stats["correct"]) / frames if frames else math.nan,
        "mask_share": frames / total if total else math.nan,
        "target_ppl": target_ppl,
        "target_coverage": target_coverage,
        "pred_ppl": prediction_ppl,
        "pred_coverage": prediction_coverage,
        "gain_nats": math.log(target_ppl) - loss if target_ppl == target_ppl else math.nan,
    }


def _counts(tokens: Tensor, num_classes: int) -> Tensor:
    """(N, K) tokens -> (K, C) counts; not by bincount, which makes the host wait for a GPU."""
    books = tokens.shape[1]
    cells = (tokens + num_classes * torch.arange(books, device=tokens.device)).flatten()
    counts = torch.zeros(books * num_classes, dtype=torch.int64, device=tokens.device)
    return counts.scatter_add_(0, cells, torch.ones_like(cells)).view(books, num_classes)


def _usage(counts: Tensor) -> tuple[float, float]:
    """Perplexity and coverage of (K, C) counts, averaged over books."""
    counts = counts.double().cpu()
    totals = counts.sum(dim=1, keepdim=True)
    if not bool((totals > 0).all()):
        return math.nan, math.nan
    shares = counts / totals
    entropy = -torch.xlogy(shares, shares).sum(dim=1)
    return float(entropy.exp().mean()), float((counts > 0).double().mean())
