"""Batches of bucketing lists: each batch from one bucket, the buckets in the order of a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nest_ssl.data.plan import BatchPlan, EpochPlan
from nest_ssl.data.streams import order_bits

STRATEGIES = ("fixed_order", "synced_randomized", "fully_randomized")


class BucketPlan:
    """Plans epochs over buckets, each planned by a BatchPlan of its own over the same durations.

    strategy: fixed_order, one bucket after the other; synced_randomized, whole buckets in an order that
    differs by epoch; fully_randomized, the batches of all buckets shuffled.  Every rank has the same bucket
    at the same step.  (NeMo's fully_randomized gives each rank an order of whole buckets of its own: ranks
    would wait for the one with the longest batch.)
    """

    def __init__(self, buckets: Sequence[BatchPlan], strategy: str, name: str = "train_ds") -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"{name}.bucketing_strategy is one of {', '.join(STRATEGIES)}, not {strategy!r}")
        self.buckets = list(buckets)
        self.strategy = strategy
        first = self.buckets[0]
        self.durations, self.seed, self.shuffle = first.durations, first.seed, first.shuffle
        self.training, self.rank, self.world_size = first.training, first.rank, first.world_size
        self.batch_size, self.batch_duration = first.batch_size, first.batch_duration
        self.drop_last = first.drop_last

    def facts(self) -> dict[str, Any]:
        """What the order of the batches depends on, beside the durations."""
        return {"buckets": [bucket.facts() for bucket in self.buckets], "strategy": self.strategy}

    def num_batches(self, epoch: int) -> int:
        """Number of batches of this rank in `epoch`."""
        return sum(bucket.num_batches(epoch) for bucket in self.buckets)

    def epoch(self, epoch: int) -> EpochPlan:
        """Plan one epoch of this rank."""
        plans = [bucket.epoch(epoch) for bucket in self.buckets]
        utterances = np.cumsum([0] + [len(plan.order) for plan in plans])
        cuts = np.cumsum([0] + [len(plan.bounds) - 1 for plan in plans])
        bounds = [plan.bounds[:-1] + start for plan, start in zip(plans, utterances[:-1], strict=True)]
        sequences = [plan.sequence + start for plan, start in zip(plans, cuts[:-1], strict=True)]
        bits = order_bits(self.seed, epoch, "buckets")
        if self.shuffle and self.strategy == "synced_randomized":
            order = np.argsort(bits.random_raw(len(sequences)), kind="stable")
            sequences = [sequences[k] for k in order]
        sequence = np.concatenate(sequences)
        if self.shuffle and self.strategy == "fully_randomized":
            sequence = sequence[np.argsort(bits.random_raw(len(sequence)), kind="stable")]
        return EpochPlan(
            np.concatenate([plan.order for plan in plans]),
            np.append(np.concatenate(bounds), utterances[-1]),
            sequence,
            sum(plan.dropped_utterances for plan in plans),
            sum(plan.repeated_batches for plan in plans),
        )

    def padding_share(self, plan: EpochPlan) -> float:
        """Share of a padded epoch (all ranks) that is padding, 0..1."""
        return self.buckets[0].padding_share(plan)

    def seconds(self, plan: EpochPlan) -> tuple[float, np.ndarray]:
        """Give the seconds of audio in an epoch of all ranks, and (batches,) padded seconds per batch."""
        return self.buckets[0].seconds(plan)

    def count_over_long(self) -> int:
        """Number of utterances longer than `batch_duration`, each of them a batch of its own."""
        return self.buckets[0].count_over_long()


def bucket_batch_sizes(
    bucketing_batch_size: int | Sequence[int] | None, num_buckets: int, batch_size: int | None, name: str
) -> list[int | None]:
    """Give the batch size of each bucket: a list's own, or n * (buckets - k) for a number n, as in NeMo."""
    if bucketing_batch_size is None:
        return [batch_size] * num_buckets
    if batch_size not in (None, 1):
        raise ValueError(
            f"{name}.batch_size must be 1 or null where bucketing_batch_size is given, not {batch_size}"
        )
    sizes = (
        [bucketing_batch_size * (num_buckets - bucket) for bucket in range(num_buckets)]
        if isinstance(bucketing_batch_size, int)
        else list(bucketing_batch_size)
    )
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes)
    if isinstance(bucketing_batch_size, bool) or len(sizes) != num_buckets or not whole:
        raise ValueError(
            f"{name}.bucketing_batch_size must be a whole number or one for each of the {num_buckets} "
            f"buckets, not {bucketing_batch_size!r}"
        )
    return list(sizes)
