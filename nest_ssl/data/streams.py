"""Random streams named by what they are for, so that no draw depends on workers, resumes or earlier draws."""

from __future__ import annotations

import hashlib
import random

import numpy as np


def utterance_random(seed: int, epoch: int, utterance_id: str) -> np.random.RandomState:
    """Give the stream of one utterance in one epoch; a RandomState has the draws that NeMo makes."""
    return np.random.RandomState(np.random.Philox(key=_key("utterance", seed, epoch, utterance_id)))


def batch_random(seed: int, epoch: int, batch: int, rank: int) -> random.Random:
    """Give the stream of one batch of one rank in one epoch, for augmentation across the batch."""
    return random.Random(_key("batch", seed, epoch, batch, rank))


def order_bits(seed: int, epoch: int, purpose: str) -> np.random.Philox:
    """Give the raw bits that order one epoch; their random_raw is the same in every numpy version."""
    return np.random.Philox(key=_key("order", seed, epoch, purpose))


def _key(*facts: object) -> int:
    """A 128-bit key from facts that may be of any length."""
    text = "\x1f".join(str(fact) for fact in facts)
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big"
    )
