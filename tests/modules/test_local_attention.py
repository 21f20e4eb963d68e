"""Local attention against its definition, frame by frame."""

import pytest
import torch

from nest_ssl.modules.attention_masks import padding_mask
from nest_ssl.modules.local_attention import (
    RelPositionMultiHeadAttentionLongformer,
    band_context,
    band_scores,
)
from nest_ssl.modules.multi_head_attention import RelPositionMultiHeadAttention
from nest_ssl.modules.positional_encoding import sinusoids

HEADS, WIDTH = 2, 8


def attention(context, **options):
    torch.manual_seed(0)
    module = RelPositionMultiHeadAttentionLongformer(HEADS, WIDTH, 0.0, context, **options).double().eval()
    torch.nn.init.normal_(module.pos_bias_u)
    torch.nn.init.normal_(module.pos_bias_v)
    return module


def positions(first, last):
    return sinusoids(first, last - 1, -1, WIDTH, torch.device("cpu")).double()


def test_bands_are_products_by_distance():
    w, q, k = 3, torch.randn(1, 1, 12, 4), torch.randn(1, 1, 12, 4)
    band, full = band_scores(q, k, w)[0, 0], (q @ k.transpose(2, 3))[0, 0]
    probs = torch.randn(1, 1, 12, 2 * w + 1)
    context = torch.zeros(12, 4)
    for i in range(12):
        for distance in range(-w, w + 1):
            j = i + distance
            inside = 0 <= j < 12
            expected = full[i, j] if inside else torch.tensor(0.0)
            torch.testing.assert_close(band[i, distance + w], expected)
            if inside:
                context[i] += probs[0, 0, i, distance + w] * k[0, 0, j]
    torch.testing.assert_close(band_context(probs, k, w)[0, 0], context)


@pytest.mark.parametrize("frames", [1, 5, 8, 13])
@pytest.mark.parametrize("window", [1, 3])
def test_a_window_is_full_attention_with_a_limit(frames, window):
    local = attention([window, window])
    full = RelPositionMultiHeadAttention(HEADS, WIDTH, 0.0).double().eval()
    full.load_state_dict(local.state_dict())
    x = torch.randn(2, frames, WIDTH, dtype=torch.float64)
    padding = padding_mask(torch.tensor([frames, max(1, frames - 4)]), frames)
    index = torch.arange(frames)
    far = (index[:, None] - index[None, :]).abs() > window
    result = local(x, x, x, None, positions(window, -window), padding)
    wanted = full(x, x, x, padding[:, None] | far, positions(frames - 1, 1 - frames), padding)
    torch.testing.assert_close(result, wanted)


def test_a_global_frame_sees_all_and_is_seen_by_all():
    module = attention([2, 2], global_tokens=1)
    x = torch.randn(1, 12, WIDTH, dtype=torch.float64)
    padding = torch.zeros(1, 12, dtype=torch.bool)

    def changed(frame):
        """Frames whose result depends on this one."""
        other = x.clone()
        other[:, frame] += 1.0
        pos_emb = positions(2, -2)
        before, after = (module(y, y, y, None, pos_emb, padding) for y in (x, other))
        return {i for i in range(12) if not torch.allclose(before[0, i], after[0, i])}

    assert changed(0) == set(range(12))
    assert changed(8) == {0, 6, 7, 8, 9, 10}


def test_separate_projections_are_used_by_global_frames_alone():
    module = attention([2, 2], global_tokens=1, global_attn_separate=True)
    x = torch.randn(1, 12, WIDTH, dtype=torch.float64)
    before = module(x, x, x, None, positions(2, -2))
    torch.nn.init.zeros_(module.global_v.weight)
    after = module(x, x, x, None, positions(2, -2))
    assert not torch.allclose(before[0, 0], after[0, 0])
    torch.testing.assert_close(before[0, 1:], after[0, 1:])
