"""Random numbers that depend on the utterance alone: not on order, worker, shard or host."""

from __future__ import annotations

import hashlib

import numpy as np

from nest_ssl.files.rows import split_position

# Part of every seed. Raise it when a change makes the same seed draw a different channel.
SCHEMA = 1

NUM_BUCKETS = 100


def generator(seed: int, utterance_id: str, copy: int, stage: str) -> np.random.Generator:
    """Give the random stream of one stage of one utterance.

    A Philox generator keyed by (seed, utterance id, copy, SCHEMA); each stage starts at its own place of the
    counter, so that a stage added or skipped does not shift what the others draw.
    """
    words = f"{seed}|{utterance_id}|{copy}|{SCHEMA}"
    key = int.from_bytes(_digest(words, 16), "little")
    counter = int.from_bytes(_digest(stage, 8), "little") << 192
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def key_bucket(key: str, split_seed: int = 0) -> int:
    """Give the hundredth, 0 to 99, in which a prompt key lies when a corpus is split by it.

    The hash is that of `python -m nest_ssl.bin.manifest --split-by key --seed SPLIT_SEED`: with whole
    percents for dev and test, keys of one bucket fall to one split.
    """
    return split_position(key, split_seed) * NUM_BUCKETS >> 64


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
