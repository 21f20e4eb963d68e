"""FunASR's batch samplers: the batches that funasr 1.4.16 makes of given lengths, list by list."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch

# FunASR's own defaults, where dataset_conf does not say otherwise.
DEFAULTS: dict[str, Any] = {
    "batch_type": "example",
    "batch_size": None,
    "sort_size": -1,
    "max_token_length": None,  # 2048 for batch_type token
    "batch_size_sample_max": 200,
    "shuffle": True,
    "drop_last": False,
}
TOKEN_MOST = 2048


class FunASRBatchSampler:
    """The batches of one rank in one epoch, as FunASR's BatchSampler gives them.

    lengths: (N,) speech_length + text_length of each item.  conf: dataset_conf, of which the keys of DEFAULTS
    count.  batch_type example: batch_size items each.  token with sort_size above 0: buffers of sort_size *
    world size items are sorted by length and packed into batches of up to batch_size (longest * count) and
    batch_size_sample_max items; the batches are dealt to the ranks in turns.  token without sort_size: each
    rank packs its own items as they come.  Items above max_token_length never come.  The order depends on the
    epoch alone.  draws: stands for Python's global generator, from which FunASR draws the batches that
    validation repeats on ranks with fewer of them, unseeded; None makes these follow from the epoch too.
    As there, an item above batch_size is a batch of its own, and one that is the first of all
    makes an empty batch come before it.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        conf: Mapping[str, Any],
        *,
        rank: int = 0,
        world_size: int = 1,
        training: bool = True,
        draws: random.Random | None = None,
        name: str = "dataset_conf",
    ) -> None:
        options = DEFAULTS | {key: conf[key] for key in DEFAULTS if conf.get(key) is not None}
        if options["batch_size"] is None:
            raise ValueError(f"{name}.batch_size must be given")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not below the world size {world_size}")
        self.lengths = [int(length) for length in lengths]
        self.rank, self.world_size, self.draws = rank, world_size, draws
        self.batch_size = int(options["batch_size"])
        self.by_token = options["batch_type"] != "example"
        self.sort_size = int(options["sort_size"])
        self.most = options["max_token_length"]
        if self.most is None and self.by_token:
            self.most = TOKEN_MOST
        self.samples_max = int(options["batch_size_sample_max"])
        self.shuffle = bool(options["shuffle"]) and training
        self.drop_last = bool(options["drop_last"])

    def batches(self, epoch: int, start_step: int = 0) -> list[list[int]]:
        """Give the batches of items of `epoch`.

        start_step leaves the first ones out where sort_size sorts, as there; the others start from the front.
        """
        order = list(range(len(self.lengths)))
        if self.shuffle:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(epoch)).tolist()
        if not self.by_token:
            return self._by_count(order)
        if self.sort_size > 0:
            return self._sorted(order, epoch)[start_step:]
        return self._packed(order[self.rank :: self.world_size])

    def _by_count(self, order: list[int]) -> list[list[int]]:
        step = self.batch_size * self.world_size
        total = (len(order) // step if self.drop_last else math.ceil(len(order) / step)) * step
        repeated = order * math.ceil(total / max(1, len(order)))
        mine = [item for item in repeated[self.rank : total : self.world_size] if self._fits(item)]
        batches = [mine[i : i + self.batch_size] for i in range(0, len(mine), self.batch_size)]
        return batches[:-1] if self.drop_last and batches and len(batches[-1]) < self.batch_size else batches

    def _packed(self, items: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        batch: list[int] = []
        longest = 0
        for item in filter(self._fits, items):
            length = self.lengths[item]
            if max(longest, length) * (len(batch) + 1) <= self.batch_size:
                batch.append(item)
                longest = max(longest, length)
            else:
                batches.append(batch)
                batch, longest = [item], length
        if batch and (not self.drop_last or len(batch) * longest == self.batch_size):
            batches.append(batch)
        return batches

    def _sorted(self, order: list[int], epoch: int) -> list[list[int]]:
        draws = self.draws or random.Random(epoch)
        if self.shuffle:
            draws.seed(epoch)
        batches: list[list[int]] = []
        size = self.sort_size * self.world_size
        for start in range(0, len(order), size):
            batch: list[int] = []
            longest, count = 0, 1  # counts from 1, so that the first batch of a buffer holds one item less
            for item in filter(self._fits, sorted(order[start : start + size], key=self.lengths.__getitem__)):
                length = self.lengths[item]
                if max(longest, length) * (len(batch) + 1) <= self.batch_size and count < self.samples_max:
                    batch.append(item)
                    longest, count = max(longest, length), count + 1
                else:
                    batches.append(batch)
                    batch, longest, count = [item], length, 1
            if batch:
                batches.append(batch)
        missing = -len(batches) % self.world_size
        if missing and batches:
            batches += draws.choices(batches, k=missing)
        return batches[self.rank :: self.world_size]

    def _fits(self, item: int) -> bool:
        return self.most is None or self.lengths[item] <= self.most
