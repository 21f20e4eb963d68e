"""Audio among the tokens of a language model: how many tokens it takes, and where its frames go."""

from __future__ import annotations

import torch
from torch import Tensor


def placeholder_count(frames: Tensor) -> Tensor:
    """frames (B,) of the encoder -> tokens (B,) that stand for them at FunASR's low frame rate.

    Three halvings, each rounded up; as the adaptor's attention sees all frames, the first ones are enough.
    """
    return (frames + 7) // 8


def placed(tokens: Tensor, audio: Tensor, lengths: Tensor, starts: Tensor, counts: Tensor) -> Tensor:
    """Put the adaptor's frames over the embeddings of placeholders.

    tokens (B, L, H); audio (S, T, H), a row per turn with audio, in order; lengths (S,) its valid frames;
    starts, counts (B, turns): first position and number of placeholders, no audio where the start is below
    1.  Where `audio` has fewer frames than placeholders, the valid ones are put and the other placeholders
    stay as they are, as in FunASR; its only frame (T 1) stands for all of them.  Raises ValueError if rows
    and turns do not agree, or a turn does not fit.
    """
    begins, wanted, valid = starts.tolist(), counts.tolist(), lengths.tolist()
    items: list[int] = []
    positions: list[int] = []
    rows: list[int] = []
    frames: list[int] = []
    row = 0
    for item, turns in enumerate(zip(begins, wanted, strict=True)):
        for begin, count in zip(*turns, strict=True):
            if begin <= 0:
                continue
            if row == len(audio):
                raise ValueError(f"the batch has {row} rows of speech, and more turns with audio (fbank_beg)")
            number = max(0, count) if count <= audio.shape[1] or audio.shape[1] == 1 else valid[row]
            if begin + number > tokens.shape[1]:
                raise ValueError(
                    f"item {item}: {number} frames of audio from position {begin} on do not fit into "
                    f"{tokens.shape[1]} tokens (fbank_beg, fake_token_len)"
                )
            items += [item] * number
            positions += range(begin, begin + number)
            rows += [row] * number
            frames += range(number) if audio.shape[1] > 1 else [0] * number
            row += 1
    index = torch.tensor([items, positions, rows, frames], dtype=torch.int64).to(tokens.device)
    return tokens.index_put((index[0], index[1]), audio[index[2], index[3]].to(tokens.dtype))
