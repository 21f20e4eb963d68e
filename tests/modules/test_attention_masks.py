"""Contexts of attention, against the rule written out for every pair of frames."""

import pytest
import torch

from nest_ssl.modules.attention_masks import attention_mask, out_of_context, padding_mask, parse_contexts

FRAMES = 11


def allowed(i, j, left, right, style):
    """NeMo's rule for one query and one key."""
    if style == "chunked_limited" and right >= 0:
        chunks = i // (right + 1) - j // (right + 1)
        return chunks >= 0 and (left < 0 or chunks <= left // (right + 1))
    return (left < 0 or j >= i - left) and (right < 0 or style != "regular" or j <= i + right)


@pytest.mark.parametrize(
    ("style", "context"),
    [
        ("regular", [3, 2]),
        ("regular", [-1, 2]),
        ("regular", [4, -1]),
        ("regular", [0, 0]),
        ("chunked_limited", [6, 2]),
        ("chunked_limited", [-1, 1]),
        ("chunked_limited", [0, 3]),
        ("chunked_limited", [4, -1]),
    ],
)
def test_context_is_the_rule(style, context):
    blocked = out_of_context(FRAMES, context, style, torch.device("cpu"))
    expected = [[not allowed(i, j, *context, style) for j in range(FRAMES)] for i in range(FRAMES)]
    assert blocked.tolist() == expected


@pytest.mark.parametrize("style", ["regular", "chunked_limited"])
def test_full_context_depends_on_keys_alone(style):
    padding = padding_mask(torch.tensor([11, 0, 4]), FRAMES)
    mask = attention_mask(padding, [-1, -1], style)
    assert mask.shape == (3, 1, FRAMES)
    assert (~mask).sum(dim=(1, 2)).tolist() == [11, 0, 4]


def test_contexts_are_one_pair_or_several():
    assert parse_contexts(None, None, "regular") == ([[-1, -1]], [1.0])
    assert parse_contexts([3, 1], None, "regular") == ([[3, 1]], [1.0])
    assert parse_contexts([[3, 1], [-1, -1]], None, "regular") == ([[3, 1], [-1, -1]], [0.5, 0.5])
    # Shares that add up to 1 but for rounding.
    assert parse_contexts([[0, 1]] * 10, [0.1] * 10, "chunked_limited")[1] == [0.1] * 10


@pytest.mark.parametrize(
    ("size", "probs", "style", "message"),
    [
        ([3], None, "regular", "att_context_size"),
        ([[3, 1], 4], None, "regular", "att_context_size: 4 is not a pair"),
        ([5, 2], None, "chunked_limited", "multiple of the chunk of 3 frames"),
        ([6, -1], None, "chunked_limited", "no right limit"),
        ([[6, 2], [3, 2]], [0.5], "regular", "att_context_probs"),
        ([[6, 2], [3, 2]], [0.5, 0.6], "regular", "att_context_probs"),
        (None, None, "chunked_limited_with_rc", "att_context_style: .*NeMo 3.0"),
        (None, None, "window", "att_context_style: 'window'; use regular or chunked_limited"),
    ],
)
def test_bad_contexts_are_refused_by_key(size, probs, style, message):
    with pytest.raises(ValueError, match=message):
        parse_contexts(size, probs, style)
