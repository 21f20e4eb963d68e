"""Which utterances form which batch, as a pure function of (seed, epoch, world size, rank).

One epoch: every utterance gets the key duration * (1 + jitter * u), u uniform in [-1, 1); utterances are
sorted by it, so that neighbours are of like length yet other neighbours in every epoch, and cut into
consecutive batches by count or by padded seconds.  `world_size` neighbouring batches form a group, one for
each rank, so that ranks wait little for each other; the groups are shuffled.  Only exactly rounded
arithmetic and raw bits are used: the plan is the same on every machine.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nest_ssl.data.streams import order_bits

# Costs about 3/4 of itself in padding: 2 % on top of what a small corpus costs anyway.
DURATION_JITTER = 0.03
CHUNK = 1 << 18  # utterances handled at once, so that temporaries stay small beside the order itself


@dataclass(frozen=True)
class EpochPlan:
    """The batches of one rank in one epoch.

    order: (utterances,) int32, the dataset's items in the order in which they were cut into batches;
    bounds: (batches of all ranks + 1,) int64, batch c holds order[bounds[c]:bounds[c + 1]];
    sequence: (batches of this rank,) int64, its batches c in the order of training.
    """

    order: np.ndarray
    bounds: np.ndarray
    sequence: np.ndarray
    dropped_utterances: int  # left out of this epoch for want of a full batch on every rank
    repeated_batches: int  # given twice, so that every rank has equally many

    def __len__(self) -> int:
        return len(self.sequence)

    def items(self, batch: int) -> np.ndarray:
        """Give the dataset's items of this rank's batch number `batch`: (B,) int32."""
        cut = int(self.sequence[batch])
        return self.order[self.bounds[cut] : self.bounds[cut + 1]]


class Selection(Protocol):
    """Which of the dataset's items an epoch has: `count` of them, the same number in every epoch."""

    @property
    def count(self) -> int: ...

    def items(self, epoch: int) -> np.ndarray:
        """Give (count,) int32 items, in the order they have where nothing is shuffled."""
        ...

    def facts(self) -> Any:
        """Give what the selection depends on, for fingerprints."""
        ...


class BatchPlan:
    """Plans epochs over utterances of known length.

    durations: (N,) float32 seconds.  Batches hold `batch_size` utterances, or as many as keep (longest *
    count) within `batch_duration` seconds; with both, `batch_size` is the most that a batch may hold.  A
    longer utterance than `batch_duration` is a batch of its own.

    shuffle: order differs by epoch; otherwise it is always longest first, or the manifest's without
        bucketing.
    use_bucketing: False puts any lengths together (plain random or manifest order, as NeMo's loader).
    quadratic_duration: seconds d count as d + d**2 / quadratic_duration against `batch_duration`.
    bin_sizes: [(seconds, utterances)] ascending: a batch whose longest utterance has at most so many seconds
        holds at most so many utterances.
    selection: which items an epoch has, some of them several times; None = each once.
    stream: name of the plan's random draws, where a run has several plans.
    training: ranks get equally many batches.  What does not fill a batch on every rank is left out with
        `drop_last` (other utterances in every epoch if shuffled), otherwise some batches are given twice.
        False, for validation: no batch is repeated and ranks may differ by one; `drop_last` leaves out only
        an incomplete last batch.

    Raises ValueError where no batch can be formed.
    """

    def __init__(
        self,
        durations: np.ndarray,
        *,
        batch_size: int | None = None,
        batch_duration: float | None = None,
        shuffle: bool = True,
        use_bucketing: bool = True,
        duration_jitter: float = DURATION_JITTER,
        drop_last: bool = False,
        training: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        name: str = "train_ds",
        quadratic_duration: float | None = None,
        bin_sizes: Sequence[tuple[float, int]] | None = None,
        selection: Selection | None = None,
        stream: str = "",
    ) -> None:
        if batch_size is None and batch_duration is None and not bin_sizes:
            raise ValueError(f"{name}: give batch_size (utterances) or batch_duration (seconds)")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"{name}.batch_size must be at least 1, not {batch_size}")
        if batch_duration is not None and not batch_duration > 0:
            raise ValueError(f"{name}.batch_duration must be positive seconds, not {batch_duration}")
        if quadratic_duration is not None and not quadratic_duration > 0:
            raise ValueError(f"{name}.quadratic_duration must be positive seconds, not {quadratic_duration}")
        if not 0 <= duration_jitter < 1:
            raise ValueError(f"{name}.duration_jitter must be in [0, 1), not {duration_jitter}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not below the world size {world_size}")
        self.durations = durations
        self.batch_size = batch_size
        self.batch_duration = batch_duration
        self.shuffle = shuffle
        self.use_bucketing = use_bucketing
        self.duration_jitter = duration_jitter
        self.drop_last = drop_last
        self.training = training
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.name = name
        self.quadratic_duration = quadratic_duration
        self.bin_sizes = list(bin_sizes or ())
        self.selection = selection
        self.stream = stream
        self._check_size()

    @property
    def _by_count(self) -> bool:
        """True where every batch holds batch_size utterances."""
        return self.batch_duration is None and not self.bin_sizes

    @property
    def count(self) -> int:
        """Number of utterances in an epoch of all ranks, repeated ones counted again."""
        return len(self.durations) if self.selection is None else self.selection.count

    def facts(self) -> dict[str, Any]:
        """What the order of the batches depends on, beside the durations."""
        facts: dict[str, Any] = {
            "batches": [self.batch_size, self.batch_duration, self.world_size, self.training, self.drop_last],
            "order": [self.shuffle, self.use_bucketing, self.duration_jitter, self.seed],
        }
        if self.quadratic_duration is not None:
            facts["quadratic_duration"] = self.quadratic_duration
        if self.bin_sizes:
            facts["bin_sizes"] = self.bin_sizes
        if self.selection is not None:
            facts["selection"] = self.selection.facts()
        return facts

    def num_batches(self, epoch: int) -> int:
        """Number of batches of this rank in `epoch`; cheap when batches are cut by count."""
        if not self._by_count:
            return len(self.epoch(epoch))
        assert self.batch_size is not None
        count, ranks = self.count, self.world_size
        if self.training and self.drop_last:
            return count // (self.batch_size * ranks)
        batches = count // self.batch_size if self.drop_last else -(-count // self.batch_size)
        return -(-batches // ranks) if self.training else len(range(self.rank, batches, ranks))

    def epoch(self, epoch: int) -> EpochPlan:
        """Plan one epoch: O(N log N), 10 million utterances take a few seconds and 12 bytes each."""
        order = self._order(epoch)
        total = len(order)
        if self.drop_last and self._by_count:
            order = self._without_remainder(order, epoch)
        bounds = self._cut(order)
        count = len(bounds) - 1
        if not self.training:
            sequence = np.arange(self.rank, count, self.world_size)
            return EpochPlan(order, bounds, sequence, total - len(order), 0)
        cuts, repeated = self._whole_groups(count, epoch)
        groups = cuts.reshape(-1, self.world_size)
        columns = np.full(len(groups), self.rank)
        if self.shuffle:
            bits = self._bits(epoch, "groups").random_raw(len(groups))
            shuffled = np.argsort(bits, kind="stable")
            # Ranks take turns, or rank 0 would always get the shortest batch of a group.
            columns = (columns + (bits[shuffled] % self.world_size).astype(np.int64)) % self.world_size
            groups = groups[shuffled]
        sequence = groups[np.arange(len(groups)), columns]
        missing = np.setdiff1d(np.arange(count), cuts) if len(cuts) < count else np.zeros(0, np.int64)
        dropped = total - len(order) + int((bounds[missing + 1] - bounds[missing]).sum())
        return EpochPlan(order, bounds, sequence, dropped, repeated)

    def padding_share(self, plan: EpochPlan) -> float:
        """Share of a padded epoch (all ranks) that is padding, 0..1."""
        audio_s, padded_s = self.seconds(plan)
        return 1.0 - audio_s / float(padded_s.sum())

    def seconds(self, plan: EpochPlan) -> tuple[float, np.ndarray]:
        """Give the seconds of audio in an epoch of all ranks, and (batches,) padded seconds per batch."""
        longest = np.zeros(len(plan.bounds) - 1)
        audio_s = 0.0
        for start, stop, first, last in _chunks_of_batches(plan.bounds):
            durations = self.durations[plan.order[start:stop]].astype(np.float64)
            audio_s += float(durations.sum())
            longest[first:last] = np.maximum.reduceat(durations, plan.bounds[first:last] - start)
        return audio_s, longest * np.diff(plan.bounds)

    def count_over_long(self) -> int:
        """Number of utterances longer than `batch_duration`, each of them a batch of its own."""
        if self.batch_duration is None:
            return 0
        return int(np.count_nonzero(self._measured(self.durations) > np.float64(self.batch_duration)))

    def _bits(self, epoch: int, purpose: str) -> np.random.Philox:
        return order_bits(self.seed, epoch, f"{purpose} {self.stream}" if self.stream else purpose)

    def _seconds(self, edge: float) -> float:
        return float(self._measured(np.array([edge], np.float32))[0])

    def _measured(self, durations: np.ndarray) -> np.ndarray:
        """Give what durations count as against batch_duration."""
        if self.quadratic_duration is None:
            return durations
        seconds = durations.astype(np.float64)
        return seconds + seconds * seconds / self.quadratic_duration

    def _check_size(self) -> None:
        count, ranks = self.count, self.world_size
        if count == 0:
            raise ValueError(f"{self.name}: there are no utterances to train on")
        if not self.drop_last or self.batch_size is None or not self._by_count:
            return
        needed = self.batch_size * (ranks if self.training else 1)
        if count < needed:
            how = f"batch_size {self.batch_size}" + (f" on {ranks} ranks" if needed > self.batch_size else "")
            raise ValueError(
                f"{self.name}: {count} utterances are fewer than the {needed} of one step ({how}), and "
                f"drop_last drops what is incomplete; lower {self.name}.batch_size or set "
                f"{self.name}.drop_last=false"
            )

    def _order(self, epoch: int) -> np.ndarray:
        count = self.count
        items = None
        if self.selection is not None:  # a mixture is drawn anew in every epoch of training, shuffled or not
            items = self.selection.items(epoch if self.shuffle or self.training else 0)
        if not self.shuffle and not self.use_bucketing:
            return np.arange(count, dtype=np.int32) if items is None else items
        # A key in the upper and the item in the lower half of one word: sorted in place, and ties have one
        # order.
        packed = np.empty(count, np.uint64)
        bits = self._bits(epoch, "utterances")
        for start in range(0, count, CHUNK):
            stop = min(start + CHUNK, count)
            chosen = np.arange(start, stop) if items is None else items[start:stop]
            if not self.use_bucketing:
                keys = (bits.random_raw(stop - start) >> np.uint64(32)).astype(np.uint32)
            else:
                lengths = self.durations[chosen].astype(np.float64)
                if self.shuffle:
                    uniform = (bits.random_raw(stop - start) >> np.uint64(11)) * 2.0**-52 - 1.0
                    lengths *= 1.0 + self.duration_jitter * uniform
                keys = lengths.astype(np.float32).view(np.uint32)  # positive floats sort as their bits do
                if not self.shuffle:
                    keys = ~keys  # longest first: what does not fit into memory shows at once
            packed[start:stop] = (keys.astype(np.uint64) << np.uint64(32)) | chosen.astype(np.uint64)
        packed.sort()
        return _lower_halves(packed)

    def _without_remainder(self, order: np.ndarray, epoch: int) -> np.ndarray:
        """Leave out the utterances that would not fill a batch (on every rank, in training)."""
        assert self.batch_size is not None
        count = len(order)
        remainder = count % (self.batch_size * (self.world_size if self.training else 1))
        if remainder == 0:
            return order
        if not self.shuffle:
            return order[: count - remainder]
        if self.selection is not None:
            left_out = np.argsort(self._bits(epoch, "left out").random_raw(count), kind="stable")[:remainder]
            return np.delete(order, left_out)
        # A window that moves on by its own width: everyone is left out equally seldom.
        start = epoch * remainder % count
        return order[(order - np.int32(start)) % np.int32(count) >= remainder]

    def _cut(self, order: np.ndarray) -> np.ndarray:
        if self._by_count:
            assert self.batch_size is not None
            return np.append(np.arange(0, len(order), self.batch_size), len(order))
        bounds = array("q", [0])
        limit_s = np.inf if self.batch_duration is None else float(self.batch_duration)
        most = self.batch_size or len(order)
        edges = [self._seconds(edge) for edge, _ in self.bin_sizes]
        sizes = [min(size, most) for _, size in self.bin_sizes]
        sizes.append(sizes[-1] if sizes else most)  # for what is longer than the last edge
        longest, count = 0.0, 0
        for start in range(0, len(order), CHUNK):
            for item, duration in enumerate(
                self._measured(self.durations[order[start : start + CHUNK]]).tolist(), start=start
            ):
                new_longest = duration if duration > longest else longest
                limit = sizes[bisect_left(edges, new_longest)] if edges else most
                if count and (new_longest * (count + 1) > limit_s or count >= limit):
                    bounds.append(item)
                    longest, count = duration, 1
                else:
                    longest, count = new_longest, count + 1
        bounds.append(len(order))
        return np.array(bounds, np.int64)

    def _whole_groups(self, count: int, epoch: int) -> tuple[np.ndarray, int]:
        """Give the batches in cutting order, some left out or repeated to a multiple of the world size."""
        cuts = np.arange(count)
        surplus = count % self.world_size
        if surplus == 0:
            return cuts, 0
        bits = self._bits(epoch if self.shuffle else 0, "remainder")
        if self.drop_last:
            if count < self.world_size:
                raise ValueError(
                    f"{self.name}: {count} batches of {self.batch_duration} s are fewer than the "
                    f"{self.world_size} ranks, and drop_last drops what is incomplete; lower "
                    f"{self.name}.batch_duration or set {self.name}.drop_last=false"
                )
            return np.sort(np.argsort(bits.random_raw(count), kind="stable")[surplus:]), 0
        repeats = (bits.random_raw(self.world_size - surplus) % count).astype(np.int64)
        return np.sort(np.concatenate([cuts, repeats])), len(repeats)


def _lower_halves(words: np.ndarray) -> np.ndarray:
    """Give the lower 32 bits of uint64 words as int32, in the words' own memory, which is given up."""
    count = len(words)
    halves = words.view(np.int32)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        halves[start:stop] = words[start:stop].astype(np.uint32).view(np.int32)  # never ahead of what is read
    del halves
    words.resize((count + 1) // 2, refcheck=False)
    return words.view(np.int32)[:count]


def _chunks_of_batches(bounds: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Give (first utterance, last + 1, first batch, last + 1) of runs of about CHUNK utterances."""
    first = 0
    while first < len(bounds) - 1:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + CHUNK, side="right")) - 1)
        yield int(bounds[first]), int(bounds[last]), first, last
        first = last
