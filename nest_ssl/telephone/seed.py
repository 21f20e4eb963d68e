"""Random numbers that depend on the utterance alone: not on order, worker, shard or host."""

from __future__ import annotations

import hashlib
import threading
from functools import lru_cache
from typing import Any

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
    bits: Any = np.random.Philox(key=0)
    bits.state = _state(_key(seed, utterance_id, copy), stage)
    return np.random.Generator(bits)


class Streams:
    """The random streams of one copy of one utterance, one per stage: those of `generator`, made faster.

    One generator of the thread is set to the place of one stage after the other, so finish with a stage
    before asking for the next.
    """

    def __init__(self, seed: int, utterance_id: str, copy: int) -> None:
        self._key = _key(seed, utterance_id, copy)

    def stage(self, name: str) -> np.random.Generator:
        """Give the generator at the start of the stream of that stage."""
        _OF_THREAD.bits.state = _state(self._key, name)
        return _OF_THREAD.generator


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.bits: Any = np.random.Philox(key=0)
        self.generator = np.random.Generator(self.bits)


_OF_THREAD = _OfThread()


def key_bucket(key: str, split_seed: int = 0) -> int:
    """Give the hundredth, 0 to 99, in which a prompt key lies when a corpus is split by it.

    The hash is that of `python -m nest_ssl.bin.manifest --split-by key --seed SPLIT_SEED`: with whole
    percents for dev and test, keys of one bucket fall to one split.
    """
    return split_position(key, split_seed) * NUM_BUCKETS >> 64


def _key(seed: int, utterance_id: str, copy: int) -> np.ndarray:
    """Give the two words of the key, the lower first."""
    words = hashlib.blake2b(
        f"{seed}|{utterance_id}|{copy}|{SCHEMA}".encode("utf-8", "surrogatepass"), digest_size=16
    )
    return np.frombuffer(words.digest(), "<u8").astype(np.uint64)


def _state(key: np.ndarray, stage: str) -> dict[str, Any]:
    """Give the state of a Philox generator with this key that has drawn nothing since the stage began."""
    return {
        "bit_generator": "Philox",
        "state": {"counter": _first_counter(stage), "key": key},
        "buffer": _NOTHING,
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }


_NOTHING = np.zeros(4, np.uint64)


@lru_cache(maxsize=256)
def _first_counter(stage: str) -> np.ndarray:
    """Give the four words of the counter at which a stage starts, the lowest first."""
    counter = np.zeros(4, np.uint64)
    counter[3] = int.from_bytes(hashlib.blake2b(stage.encode(), digest_size=8).digest(), "little")
    return counter
