"""Sums between two log lines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from nest_ssl.training.distributed import Ranks
from nest_ssl.training.protocol import TrainableModel


class Window:
    """Sums since the last log line, kept on the device until they are printed."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.steps = 0
        self.seconds = 0.0
        self.lr = self.grad_norm = 0.0
        self._batches = 0
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, loss_sum: torch.Tensor, weight: torch.Tensor, stats: Mapping[str, torch.Tensor]) -> None:
        loss_sum = loss_sum.double()
        mean = torch.where(weight > 0, loss_sum / weight.clamp(min=1), torch.zeros_like(loss_sum))
        self._batches += 1
        for key, value in {
            "loss_sum": loss_sum,
            "weight": weight.double(),
            "mean_loss": mean,
            **stats,
        }.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value.clone()

    def figures(self, model: TrainableModel, ranks: Ranks, loss_weighting: str) -> dict[str, float]:
        """`loss` and the model's metrics over all ranks; a collective call."""
        # A rank may have had no batch at all (validation data smaller than the number of ranks).
        known: dict[str, Any] = next(
            (keys for keys in ranks.gather({k: (v.shape, v.dtype) for k, v in self._sums.items()}) if keys),
            {},
        )
        sums = {
            key: ranks.sum(self._sums.get(key, torch.zeros(shape, dtype=dtype, device=ranks.device))).cpu()
            for key, (shape, dtype) in known.items()
        }
        batches = float(ranks.sum(torch.tensor(float(self._batches), device=ranks.device)))
        if not sums:
            return {"loss": float("nan")}
        loss_sum, weight = float(sums.pop("loss_sum")), float(sums.pop("weight"))
        mean_of_means = float(sums.pop("mean_loss")) / max(batches, 1.0)
        loss = loss_sum / weight if weight else float("nan")
        metrics = model.metrics(loss_sum, weight, sums)
        return {"loss": mean_of_means if loss_weighting == "nemo" else loss, **metrics}
