"""Which frames may attend to which: padding, limited context, chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

STYLES = ("regular", "chunked_limited")


def padding_mask(length: Tensor, frames: int) -> Tensor:
    """(B, frames) bool, True at the padding of items of `length` (B,) frames."""
    return torch.arange(frames, device=length.device)[None, :] >= length[:, None]


def attention_mask(padding: Tensor, context: Sequence[int], style: str) -> Tensor:
    """True where frame i must not see frame j: (B, 1, T) if that depends on j alone, else (B, T, T).

    `padding` (B, T) bool, True at padding; `context` [left, right] frames, -1 for all.  Rows of padded
    frames are not blanked: what they attend to is for the attention to discard.  Every frame may see itself.
    """
    keys = padding[:, None, :]
    blocked = out_of_context(padding.shape[1], context, style, padding.device)
    return keys if blocked is None else keys | blocked


def out_of_context(frames: int, context: Sequence[int], style: str, device: torch.device) -> Tensor | None:
    """(frames, frames) bool, True where j is out of the context of i; None without a limit.

    "regular": j from i - left to i + right.  "chunked_limited": the chunk of right + 1 frames that i is
    in, and the left // (right + 1) chunks before it; with an unlimited right side only the left limit holds.
    """
    left, right = context
    chunked = style == "chunked_limited" and right >= 0
    if left < 0 and right < 0:
        return None
    index = torch.arange(frames, device=device)
    if chunked:
        index = index // (right + 1)
        left, right = (left // (right + 1) if left >= 0 else -1), 0
    elif style == "chunked_limited":
        right = -1
    distance = index[:, None] - index[None, :]
    blocked = torch.zeros_like(distance, dtype=torch.bool)
    if left >= 0:
        blocked = blocked | (distance > left)
    if right >= 0:
        blocked = blocked | (distance < -right)
    return blocked


def parse_contexts(
    size: Sequence[Any] | None, probs: Sequence[float] | None, style: str
) -> tuple[list[list[int]], list[float]]:
    """The contexts of `att_context_size`, one pair or a list of pairs, and the share of each in training.

    ValueError with the key for what is no pair, for chunks that the left context does not divide into, and
    for shares that are no distribution.
    """
    if style not in STYLES:
        later = "; it came with NeMo 3.0 and is not built" if style == "chunked_limited_with_rc" else ""
        raise ValueError(f"att_context_style: {style!r}{later}; use {' or '.join(STYLES)}")
    pairs = list(size) if size else [[-1, -1]]
    if isinstance(pairs[0], int):
        pairs = [pairs]
    contexts = [_pair(pair) for pair in pairs]
    for left, right in contexts:
        if style == "chunked_limited" and right < 0 and len(contexts) == 1:
            raise ValueError(
                f"att_context_size: {[left, right]} has no right limit, which chunked_limited needs; "
                "a chunk is the right context and one frame"
            )
        if style == "chunked_limited" and right >= 0 and left > 0 and left % (right + 1):
            raise ValueError(
                f"att_context_size: {[left, right]}; for chunked_limited the left context must be a multiple "
                f"of the chunk of {right + 1} frames"
            )
    if not probs:
        return contexts, [1.0 / len(contexts)] * len(contexts)
    if len(probs) != len(contexts) or abs(sum(probs) - 1.0) > 1e-6 or min(probs) < 0:
        raise ValueError(
            f"att_context_probs: {list(probs)}; give one share for each of the {len(contexts)} contexts of "
            "att_context_size, with a sum of 1"
        )
    return contexts, [float(share) for share in probs]


def _pair(value: Any) -> list[int]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"att_context_size: {value} is not a pair [left, right] of frames")
    return [int(side) for side in value]
