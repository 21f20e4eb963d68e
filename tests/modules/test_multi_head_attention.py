"""Attention and positions, against their definitions."""

import math

import pytest
import torch

from nest_ssl.modules.attention_masks import padding_mask
from nest_ssl.modules.multi_head_attention import RelPositionMultiHeadAttention, rel_shift
from nest_ssl.modules.positional_encoding import RelPositionalEncoding, sinusoids


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_rel_shift_picks_the_score_of_each_distance(frames):
    scores = torch.randn(2, 3, frames, 2 * frames - 1, requires_grad=True)
    shifted = rel_shift(scores)
    for i in range(frames):
        for j in range(frames):
            column = frames - 1 - (i - j)  # distances run from frames - 1 downwards
            assert torch.equal(shifted[:, :, i, j], scores[:, :, i, column])
    weights = torch.randn_like(shifted)
    (shifted * weights).sum().backward()
    assert scores.grad.abs().sum() == pytest.approx(weights.abs().sum().item(), rel=1e-5)


def test_rel_shift_of_a_transposed_tensor():
    scores = torch.randn(2, 5, 3, 9).transpose(1, 2)
    assert torch.equal(rel_shift(scores), rel_shift(scores.contiguous()))


@pytest.mark.parametrize("sdpa", [False, True])
def test_attention_is_its_definition(sdpa):
    torch.manual_seed(0)
    heads, width, frames = 2, 3, 4
    module = RelPositionMultiHeadAttention(
        heads, heads * width, dropout_rate=0.0, use_pytorch_sdpa=sdpa
    ).eval()
    torch.nn.init.normal_(module.pos_bias_u)
    torch.nn.init.normal_(module.pos_bias_v)
    x, positions = torch.randn(1, frames, 6), sinusoids(frames - 1, -frames, -1, 6, torch.device("cpu"))
    padding = padding_mask(torch.tensor([3]), frames)
    result = module(x, x, x, mask=padding[:, None], pos_emb=positions, pad_mask=padding)

    q, k, v = (
        layer(x)[0].view(frames, heads, width)
        for layer in (module.linear_q, module.linear_k, module.linear_v)
    )
    p = module.linear_pos(positions)[0].view(-1, heads, width)
    context = torch.zeros(frames, heads, width)
    for h in range(heads):
        for i in range(3):
            scores = torch.stack(
                [
                    (q[i, h] + module.pos_bias_u[h]) @ k[j, h]
                    + (q[i, h] + module.pos_bias_v[h]) @ p[frames - 1 - (i - j), h]
                    for j in range(3)
                ]
            )
            context[i, h] = (scores / math.sqrt(width)).softmax(0) @ v[:3, h]
    torch.testing.assert_close(result[0], module.linear_out(context.view(frames, -1)), atol=1e-6, rtol=1e-5)


def test_positions_are_centred_on_zero():
    _, positions = RelPositionalEncoding(4, 0.0, max_len=50, xscale=None)(torch.zeros(1, 3, 4))
    assert positions.shape == (1, 5, 4)
    torch.testing.assert_close(positions[0, 2], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(positions[0, 0, 0], torch.tensor(2.0).sin())
    torch.testing.assert_close(positions[0, 4, 1], torch.tensor(-2.0).cos())
