"""Random numbers that depend on the utterance alone: not on order, worker, shard or host."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from nest_ssl.files.rows import split_position

# Part of every seed. Raise it when a change makes the same seed draw a different channel.
SCHEMA = 2

NUM_BUCKETS = 100


def generator(seed: int, utterance_id: str, copy: int, stage: str) -> np.random.Generator:
    """Give the random stream of one stage of one utterance.

    A Philox generator keyed by (seed, utterance id, copy, SCHEMA); each stage starts at its own place of the
    counter, so that a stage added or skipped does not shift what the others draw.
    """
    return Streams(seed, utterance_id, copy).stage(stage)


class Streams:
    """The random streams of one copy of one utterance, one per stage: those of `generator`, made faster.

    One generator is set to the place of one stage after the other, so finish with a stage before asking for
    the next.
    """

    def __init__(self, seed: int, utterance_id: str, copy: int) -> None:
        words = f"{seed}|{utterance_id}|{copy}|{SCHEMA}"
        self._bits = np.random.Philox(key=int.from_bytes(_digest(words, 16), "little"))
        self._generator = np.random.Generator(self._bits)
        self._start = self._bits.state

    def stage(self, name: str) -> np.random.Generator:
        """Give the generator at the start of the stream of that stage."""
        self._start["state"]["counter"] = _first_counter(name)
        self._bits.state = self._start
        return self._generator


def key_bucket(key: str, split_seed: int = 0) -> int:
    """Give the hundredth, 0 to 99, in which a prompt key lies when a corpus is split by it.

    The hash is that of `python -m nest_ssl.bin.manifest --split-by key --seed SPLIT_SEED`: with whole
    percents for dev and test, keys of one bucket fall to one split.
    """
    return split_position(key, split_seed) * NUM_BUCKETS >> 64


@lru_cache(maxsize=256)
def _first_counter(stage: str) -> np.ndarray:
    """Give the four words of the counter at which a stage starts, the lowest first."""
    counter = np.zeros(4, np.uint64)
    counter[3] = int.from_bytes(_digest(stage, 8), "little")
    return counter


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
