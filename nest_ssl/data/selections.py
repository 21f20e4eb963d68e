"""Which items an epoch has where that is not simply each item once: concat datasets and repeated buckets."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, isfinite
from typing import Any

import numpy as np

from nest_ssl.data.streams import order_bits

TECHNIQUES = ("temperature", "random", "round-robin")


class Repeated:
    """Items [start, stop), each `times` times."""

    def __init__(self, start: int, stop: int, times: int = 1) -> None:
        self.start, self.stop, self.times = start, stop, times

    @property
    def count(self) -> int:
        """Items in an epoch."""
        return (self.stop - self.start) * self.times

    def items(self, epoch: int) -> np.ndarray:
        """Give (count,) int32."""
        return np.tile(np.arange(self.start, self.stop, dtype=np.int32), self.times)

    def facts(self) -> Any:
        """Give what decides on the items."""
        return ["repeated", self.start, self.stop, self.times]


class Listed:
    """The items of an array, each once."""

    def __init__(self, items: np.ndarray, times: int = 1) -> None:
        self._items = np.tile(items.astype(np.int32, copy=False), times)

    @property
    def count(self) -> int:
        """Items in an epoch."""
        return len(self._items)

    def items(self, epoch: int) -> np.ndarray:
        """Give (count,) int32."""
        return self._items

    def facts(self) -> Any:
        """Give what decides on the items; which they are follows from durations and limits."""
        return ["listed", self.count]


class Mixture:
    """Items drawn from several parts by a technique, NeMo's ConcatDataset: int(all items * scale) an epoch.

    starts: (parts + 1,) items at which the parts begin, and the end.  For each place a part is chosen: with
    probability proportional to size ** (1 / temperature), by the given probabilities, or in turns.  A part
    gives its items in a random order of the epoch (in their own with shuffle False) and starts over with
    another order when it is through.  A pure function of seed and epoch, the same for every rank: ranks
    share an epoch's items between them.
    """

    def __init__(
        self,
        starts: Sequence[int],
        technique: str,
        *,
        temperature: float = 5,
        scale: float = 1,
        probabilities: Sequence[float] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        name: str = "train_ds",
    ) -> None:
        self.starts = np.asarray(starts, np.int64)
        sizes = np.diff(self.starts)
        if technique not in TECHNIQUES:
            raise ValueError(
                f"{name}.concat_sampling_technique is one of {', '.join(TECHNIQUES)}, not {technique!r}"
            )
        if not _positive(scale):
            raise ValueError(f"{name}.concat_sampling_scale must be positive, not {scale!r}")
        if technique == "temperature":
            if not _positive(temperature):
                raise ValueError(f"{name}.concat_sampling_temperature must be positive, not {temperature!r}")
            weights = (sizes / sizes.sum()) ** (1 / temperature)
        elif technique == "random" and probabilities:
            if len(probabilities) != len(sizes) or not all(_positive(p) for p in probabilities):
                raise ValueError(
                    f"{name}.concat_sampling_probabilities needs a positive number for each of the "
                    f"{len(sizes)} manifests, not {list(probabilities)}"
                )
            if not isclose(sum(probabilities), 1, abs_tol=1e-6):
                raise ValueError(
                    f"{name}.concat_sampling_probabilities must add up to 1, not {sum(probabilities):g}"
                )
            weights = np.array(probabilities, float)
        else:
            weights = np.ones(len(sizes))
        self.technique = technique
        self.probabilities = weights / weights.sum()
        self.shuffle = shuffle
        self.seed = seed
        self.count = int(int(sizes.sum()) * scale)
        if self.count == 0:
            raise ValueError(f"{name}.concat_sampling_scale {scale} leaves no utterance of {sizes.sum()}")

    def items(self, epoch: int) -> np.ndarray:
        """Give (count,) int32, in the order of the draws."""
        parts = len(self.probabilities)
        if self.technique == "round-robin":
            chosen = (np.arange(self.count) % parts).astype(np.int32)
        else:
            uniform = (
                order_bits(self.seed, epoch, "mixture").random_raw(self.count) >> np.uint64(11)
            ) * 2.0**-53
            chosen = np.searchsorted(np.cumsum(self.probabilities)[:-1], uniform, "right").astype(np.int32)
        items = np.empty(self.count, np.int32)
        for part in range(parts):
            places = np.flatnonzero(chosen == part)
            items[places] = self._from_part(part, len(places), epoch)
        return items

    def facts(self) -> Any:
        """Give what decides on the items."""
        chances = [round(float(p), 12) for p in self.probabilities]
        return [self.technique, self.starts.tolist(), chances, self.shuffle, self.seed, self.count]

    def _from_part(self, part: int, wanted: int, epoch: int) -> np.ndarray:
        start, stop = int(self.starts[part]), int(self.starts[part + 1])
        passes = []
        for number in range(-(-wanted // (stop - start))):
            if self.shuffle:
                bits = order_bits(self.seed, epoch, f"mixture part {part} pass {number}")
                passes.append(np.argsort(bits.random_raw(stop - start), kind="stable").astype(np.int32))
            else:
                passes.append(np.arange(stop - start, dtype=np.int32))
        return start + np.concatenate(passes or [np.zeros(0, np.int32)])[:wanted]


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value > 0
