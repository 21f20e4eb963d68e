"""What the loop asks of a model, of a batch and of the data; anything that offers it can be trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class Batch(Protocol):
    """One micro-batch of utterances."""

    seconds: float  # of audio, without padding
    utterance_ids: list[str]

    def to(self, device: Any, non_blocking: bool = False) -> Batch: ...


class TrainableModel(Protocol):
    """A torch module with a loss of its own.

    Losses are given as (loss_sum, weight, stats): `loss_sum` is a scalar with graph, the sum over what is
    counted (frames, tokens); `weight` a scalar, how many were counted (0 is possible, then loss_sum is 0
    and still has a graph); `stats` are sums without graph that may be added over micro-batches and ranks.
    A model may have `before_step(step)`: called in train mode before optimiser step `step`, counted from 0.
    A model with large frozen parts may keep them out of the checkpoints: `checkpoint_state()` gives what
    training changes, `load_checkpoint_state(state)` takes all of it back (RuntimeError where it does not
    fit), and `frozen_identity()` is a text that changes when the rest does.
    """

    def training_loss(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]: ...

    def validation_loss(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]: ...

    def metrics(self, loss_sum: float, weight: float, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Turn summed stats into the figures of a log line, always the same keys in the same order."""
        ...

    def parameter_groups(self, optim: Mapping[str, Any]) -> list[dict[str, Any]]: ...

    def save_to(self, path: Path, /) -> None: ...


class TrainingData(Protocol):
    """Micro-batches whose content is a pure function of (seed, epoch, world size, rank, number)."""

    def num_batches(self, epoch: int) -> int:
        """Micro-batches of this rank in `epoch`; in training the same on every rank."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The micro-batches of `epoch` from number `start` on, without reading those before it."""
        ...

    def fingerprint(self) -> str:
        """Changes when the order or content of the batches would."""
        ...
