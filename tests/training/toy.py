"""A model and data small enough to check the loop by hand: regression of y on x with BatchNorm in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nest_ssl.training.checkpoint import Checkpoints
from nest_ssl.training.distributed import Ranks
from nest_ssl.training.loop import Trainer, total_steps
from nest_ssl.training.options import CheckpointOptions, TrainerOptions

CPU = Ranks(0, 0, 1, torch.device("cpu"))


@dataclass
class ToyBatch:
    x: torch.Tensor  # (frames, 3)
    utterance_ids: list[str]
    seconds: float = 1.5

    def to(self, device: Any, non_blocking: bool = False) -> ToyBatch:
        return self


class ToyModel(torch.nn.Module):
    """Sum over frames of the squared error of predicting the mean of the inputs; noise as dropout would
    add it."""

    def __init__(self, norm: bool = True, noise: float = 0.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4) if norm else torch.nn.Identity()
        self.out = torch.nn.Linear(4, 1)
        self.frozen = torch.nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)
        self.noise = noise

    def training_loss(self, batch: ToyBatch):
        x = batch.x + self.noise * torch.randn_like(batch.x)
        error = self.out(self.norm(self.linear(x))).squeeze(1) - batch.x.mean(dim=1)
        return error.square().sum(), torch.tensor(len(error)), {"frames": torch.tensor(len(error))}

    validation_loss = training_loss

    def metrics(self, loss_sum, weight, stats):
        return {"frames": float(stats["frames"])}

    def parameter_groups(self, optim):
        return [{"params": list(self.parameters())}]

    def save_to(self, path: Path) -> None:
        torch.save(self.state_dict(), path)


class ToyData:
    """`count` batches per epoch of 2 to 4 frames; batch `number` of `epoch` depends on nothing else."""

    def __init__(self, count: int = 6, rank: int = 0, world_size: int = 1, poison: tuple[int, ...] = ()):
        self.count, self.rank, self.world_size, self.poison = count, rank, world_size, poison
        self.served: list[tuple[int, int]] = []

    def num_batches(self, epoch: int) -> int:
        return self.count

    def batch(self, epoch: int, number: int) -> ToyBatch:
        generator = np.random.default_rng([epoch, number * self.world_size + self.rank])
        frames = int(generator.integers(2, 5))
        x = torch.from_numpy(generator.normal(size=(frames, 3)).astype(np.float32))
        if epoch * self.count + number in self.poison:
            x[0, 0] = float("nan")
        return ToyBatch(x, [f"utt-{epoch}-{number}-{self.rank}"])

    def batches(self, epoch: int, start: int = 0) -> Iterator[ToyBatch]:
        for number in range(start, self.count):
            self.served.append((epoch, number))
            yield self.batch(epoch, number)

    def fingerprint(self) -> str:
        return f"toy {self.count}"


def make_trainer(
    folder: Path,
    model: ToyModel | None = None,
    data: ToyData | None = None,
    validation: ToyData | None = None,
    ranks: Ranks = CPU,
    checkpoint: dict | None = None,
    lr: float = 0.01,
    **options: Any,
) -> Trainer:
    """A trainer over the toys; `options` are TrainerOptions fields, `checkpoint` those of
    CheckpointOptions."""
    model = model or ToyModel()
    given = {
        "max_steps": 8,
        "log_every_n_steps": 1,
        "val_check_interval": 1.0,
        "enable_progress_bar": False,
        **options,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    keep = CheckpointOptions(
        **{"filename": "step-{step}", "auto_insert_metric_name": False, **(checkpoint or {})}
    )
    data = data or ToyData()
    trainer_options = TrainerOptions.from_config(given)
    return Trainer(
        model,
        optimizer,
        [lambda step: lr / (1 + step)],
        total_steps(trainer_options, data),
        data,
        validation,
        trainer_options,
        ranks,
        Checkpoints(folder / "checkpoints", "toy", keep),
        "name: toy\n",
        None,
        lambda total, initial: None,
    )


class Messages:
    """Stands in for RunLog and keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.rows: list[dict] = []
        self.validations: list[dict] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def training(self, figures: dict) -> None:
        self.rows.append(dict(figures))

    def validation(self, figures: dict) -> None:
        self.validations.append(dict(figures))
