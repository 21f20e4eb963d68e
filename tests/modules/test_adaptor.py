"""The adaptor and the CTC head, against plain versions."""

import math

import pytest
import torch

from nest_ssl.modules.adaptor import MultiHeadedAttention, Transformer
from nest_ssl.modules.ctc_head import CTC


def small(**options) -> Transformer:
    torch.manual_seed(0)
    sizes = {"encoder_dim": 6, "llm_dim": 16, "ffn_dim": 10, "n_layer": 2, "attention_heads": 4}
    return Transformer(**{**sizes, "downsample_rate": 1, **options}).eval()


@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_frames_side_by_side_are_padded_with_zeros(rate, frames):
    adaptor = small(downsample_rate=rate, n_layer=0)
    x = torch.randn(1, frames, 6)
    out, lengths = adaptor(x, torch.tensor([frames]))
    count = math.ceil(frames / rate)
    padded = torch.cat([x[0], torch.zeros(count * rate - frames, 6)])
    rows = [torch.cat(list(padded[i * rate : (i + 1) * rate])) for i in range(count)]
    expected = adaptor.linear2(adaptor.linear1(torch.stack(rows)).relu())
    torch.testing.assert_close(out[0], expected)
    assert lengths.tolist() == [count] == adaptor.frames_of(torch.tensor([frames])).tolist()
    assert adaptor.blocks is None


def test_attention_is_that_of_the_plain_version():
    torch.manual_seed(1)
    layer, x = MultiHeadedAttention(2, 8, 0.0), torch.randn(5, 8)
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        q, k, v = (f(x)[:, part] for f in (layer.linear_q, layer.linear_k, layer.linear_v))
        heads.append(((q @ k.T) / 2.0).softmax(1) @ v)
    expected = layer.linear_out(torch.cat(heads, 1))
    torch.testing.assert_close(layer(x[None], torch.ones(1, 5, dtype=torch.bool))[0], expected)


@pytest.mark.parametrize("rate", [1, 2])
def test_padding_is_not_seen(rate):
    adaptor = small(downsample_rate=rate)
    x, lengths = torch.randn(2, 8, 6), torch.tensor([8, 4], dtype=torch.int32)
    out, out_lengths = adaptor(x, lengths)
    alone, _ = adaptor(x[1:, :4], lengths[1:])
    torch.testing.assert_close(out[1, : out_lengths[1]], alone[0], rtol=1e-4, atol=1e-5)
    assert out_lengths.dtype == torch.int32


def test_recomputed_blocks_give_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        adaptor = small(dropout_rate=0.2).train()
        adaptor.gradient_checkpointing = recompute
        torch.manual_seed(2)
        adaptor(torch.randn(1, 5, 6), torch.tensor([5]))[0].square().mean().backward()
        gradients.append([p.grad for p in adaptor.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one)


def test_what_cannot_be_met_is_named():
    with pytest.raises(ValueError, match="llm_dim: 16 is no multiple of attention_heads: 3"):
        small(attention_heads=3)
    with pytest.raises(ValueError, match="downsample_rate: 0"):
        small(downsample_rate=0)
    with pytest.raises(ValueError, match="blank_id: 7 is none of the 7 units"):
        CTC(7, 4, blank_id=7)


def test_the_ctc_head_gives_probabilities():
    torch.manual_seed(0)
    head, x = CTC(7, 4, blank_id=6), torch.randn(2, 3, 4)
    torch.testing.assert_close(head.log_softmax(x).exp(), head.softmax(x))
    torch.testing.assert_close(head.softmax(x).sum(2), torch.ones(2, 3))
    assert torch.equal(head.argmax(x), head.softmax(x).argmax(2))
