"""Which conversations form which batch: the project's plan with a second budget, and FunASR's order."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nest_ssl.data.fun_asr_sampler import FunASRBatchSampler
from nest_ssl.data.plan import BatchPlan, EpochPlan


class TokenPlan(BatchPlan):
    """A BatchPlan whose batches keep to a number of padded LLM tokens too: what does not fit is split off.

    durations: (N,) what counts against batch_duration, in any unit.  seconds: (N,) of audio, for what is
    told of a plan.  tokens: (N,) LLM tokens of the whole sequence; token_max: most of them in a batch,
    longest * count; a longer sequence is a batch of its own.  Nothing is dropped.
    """

    def __init__(
        self,
        durations: np.ndarray,
        audio_s: np.ndarray,
        tokens: np.ndarray,
        token_max: int | None,
        **options: Any,
    ) -> None:
        self.audio_s = audio_s
        self.tokens = tokens
        self.token_max = token_max
        super().__init__(durations, **options)

    @property
    def _by_count(self) -> bool:
        return super()._by_count and self.token_max is None

    def facts(self) -> dict[str, Any]:
        """What the order of the batches depends on, beside the lengths."""
        return super().facts() | {"token_max": self.token_max}

    def seconds(self, plan: EpochPlan) -> tuple[float, np.ndarray]:
        """Give the seconds of audio in an epoch of all ranks, and (batches,) padded seconds per batch."""
        return _in_seconds(self).seconds(plan)

    def _cut(self, order: np.ndarray) -> np.ndarray:
        if self.token_max is None:
            return super()._cut(order)
        bounds = [0]
        limit = np.inf if self.batch_duration is None else float(self.batch_duration)
        most = self.batch_size or len(order)
        longest = widest = count = 0
        measured = self._measured(self.durations[order]).tolist()
        for place, (length, tokens) in enumerate(zip(measured, self.tokens[order].tolist(), strict=True)):
            now, wide = max(longest, length), max(widest, tokens)
            full = now * (count + 1) > limit or count >= most or wide * (count + 1) > self.token_max
            if count and full:
                bounds.append(place)
                longest, widest, count = length, tokens, 1
            else:
                longest, widest, count = now, wide, count + 1
        return np.array([*bounds, len(order)], np.int64)


class FunASRPlan:
    """FunASR's order as a plan: the same batches in the same order, apart from what would end a run.

    slices: [(first, last + 1)] of items, FunASR's data slices; an epoch goes through them one by one.
    allowed: (N,) bool, False for items that are left out of the batches of the sampler (FunASR replaces them
    by random others).  A batch above token_max padded LLM tokens is split, unless `drop`: then the collator
    drops from it as FunASR does.  Empty batches are left out, and ranks with fewer batches than others repeat
    their last ones in training, for a step needs all ranks.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        audio_s: np.ndarray,
        tokens: np.ndarray,
        conf: Mapping[str, Any],
        *,
        allowed: np.ndarray | None = None,
        slices: Sequence[tuple[int, int]] | None = None,
        token_max: int | None = None,
        drop: bool = False,
        training: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        name: str = "dataset_conf",
    ) -> None:
        self.durations = self.audio_s = audio_s
        self.lengths, self.tokens = lengths, tokens
        self.token_max = None if drop else token_max
        self.training, self.seed, self.rank, self.world_size = training, seed, rank, world_size
        self.name = name
        self.allowed = np.ones(len(lengths), bool) if allowed is None else allowed
        self.slices = list(slices or [(0, len(lengths))])
        self._conf = dict(conf)
        self._samplers = [
            [
                FunASRBatchSampler(
                    lengths[start:stop].tolist(),
                    conf,
                    rank=r,
                    world_size=world_size,
                    training=training,
                    name=name,
                )
                for r in range(world_size)
            ]
            for start, stop in self.slices
        ]
        self._planned: tuple[int, EpochPlan] | None = None

    def facts(self) -> dict[str, Any]:
        """What the order of the batches depends on, beside the lengths."""
        digest = hashlib.blake2b(digest_size=8)
        for array in (self.lengths, self.tokens, self.allowed):
            digest.update(np.ascontiguousarray(array).tobytes())
        facts = [self._conf, self.slices, self.token_max, self.training, self.world_size]
        return {"funasr": json.loads(json.dumps(facts, default=str)), "lengths": digest.hexdigest()}

    def num_batches(self, epoch: int) -> int:
        """Number of batches of this rank in `epoch`."""
        return len(self.epoch(epoch))

    def epoch(self, epoch: int) -> EpochPlan:
        """Plan one epoch of this rank; ValueError if no batch is left."""
        if self._planned is not None and self._planned[0] == epoch:
            return self._planned[1]
        ranks: list[list[list[int]]] = [[] for _ in range(self.world_size)]
        repeated = 0
        for (start, _), samplers in zip(self.slices, self._samplers, strict=True):
            parts = [[[i + start for i in b] for b in sampler.batches(epoch)] for sampler in samplers]
            parts = [[piece for batch in part for piece in self._split(batch)] for part in parts]
            most = max(len(part) for part in parts)
            for rank, part in enumerate(parts):
                if self.training and part:
                    repeated += most - len(part)
                    part += [part[-1 - k % len(part)] for k in range(most - len(part))]
                ranks[rank] += part
        counts = [len(batches) for batches in ranks]
        if not max(counts) or (self.training and len(set(counts)) > 1):
            raise ValueError(
                f"{self.name}: FunASR gives the ranks {counts} batches of {len(self.lengths)} rows; "
                f"raise max_token_length or batch_size, or set nest_ssl_sampler: plan"
            )
        batches = [batch for rank in ranks for batch in rank]
        bounds = np.cumsum([0] + [len(batch) for batch in batches])
        order = np.array([item for batch in batches for item in batch], np.int32)
        first = sum(counts[: self.rank])
        sequence = np.arange(first, first + counts[self.rank])
        left_out = len(self.lengths) - len(np.unique(order))
        plan = EpochPlan(order, bounds, sequence, left_out, repeated)
        self._planned = (epoch, plan)
        return plan

    def seconds(self, plan: EpochPlan) -> tuple[float, np.ndarray]:
        """Give the seconds of audio in an epoch of all ranks, and (batches,) padded seconds per batch."""
        longest = np.maximum.reduceat(self.audio_s[plan.order].astype(np.float64), plan.bounds[:-1])
        return float(self.audio_s[plan.order].sum(dtype=np.float64)), longest * np.diff(plan.bounds)

    def _split(self, batch: list[int]) -> list[list[int]]:
        pieces: list[list[int]] = []
        widest = 0
        for item in batch:
            if not self.allowed[item]:
                continue
            wide = max(widest, int(self.tokens[item]))
            if pieces and (self.token_max is None or wide * (len(pieces[-1]) + 1) <= self.token_max):
                pieces[-1].append(item)
                widest = wide
            else:
                pieces.append([item])
                widest = int(self.tokens[item])
        return pieces


def _in_seconds(plan: TokenPlan) -> BatchPlan:
    """Give the plan as one over seconds, for its sums only."""
    other = BatchPlan.__new__(BatchPlan)
    other.__dict__.update(copy.copy(plan.__dict__), durations=plan.audio_s)
    return other
