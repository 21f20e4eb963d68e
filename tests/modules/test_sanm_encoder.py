"""SenseVoiceEncoderSmall: against a plain layer, its input, padding, lengths, recomputation."""

import math

import pytest
import torch

from nest_ssl.modules.sanm_encoder import (
    EncoderLayerSANM,
    MultiHeadedAttentionSANM,
    SenseVoiceEncoderSmall,
    SinusoidalPositionEncoder,
)


def small(seed: int = 0, **options) -> SenseVoiceEncoderSmall:
    torch.manual_seed(seed)
    sizes = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 3, "tp_blocks": 2}
    return SenseVoiceEncoderSmall(20, **{**sizes, **options})


def plain_attention(
    layer: MultiHeadedAttentionSANM, x: torch.Tensor, kernel: int, shift: int
) -> torch.Tensor:
    """One utterance (T, D) without padding, frame by frame."""
    q, k, v = layer.linear_q_k_v(x).chunk(3, dim=1)
    heads = []
    for head in range(layer.heads):
        width = q.shape[1] // layer.heads
        part = slice(head * width, (head + 1) * width)
        scores = (q[:, part] @ k[:, part].T) / math.sqrt(width)
        heads.append(scores.softmax(1) @ v[:, part])
    left = (kernel - 1) // 2 + max(0, shift)
    memory = v.clone()
    for frame in range(len(v)):
        for tap in range(kernel):
            other = frame - left + tap
            if 0 <= other < len(v):
                memory[frame] += layer.fsmn_block.weight[:, 0, tap] * v[other]
    return layer.linear_out(torch.cat(heads, 1)) + memory


@pytest.mark.parametrize(("kernel", "shift"), [(11, 0), (5, 1), (4, 0), (3, 2), (3, -1)])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_attention_and_memory_are_those_of_the_plain_version(kernel, shift, frames):
    torch.manual_seed(1)
    layer = MultiHeadedAttentionSANM(2, 12, 8, 0.0, kernel, shift)
    x = torch.randn(frames, 12)
    found = layer(x[None], torch.ones(1, frames, dtype=torch.bool))[0]
    torch.testing.assert_close(found, plain_attention(layer, x, kernel, shift), rtol=1e-5, atol=1e-5)


def test_a_layer_that_changes_the_width_has_no_residual_there():
    torch.manual_seed(2)
    layer = EncoderLayerSANM(12, 8, 10, MultiHeadedAttentionSANM(2, 12, 8, 0.0, 3, 0), 0.0)
    x, valid = torch.randn(1, 5, 12), torch.ones(1, 5, dtype=torch.bool)
    attended = layer.self_attn(layer.norm1(x), valid)
    torch.testing.assert_close(layer(x, valid), attended + layer.feed_forward(layer.norm2(attended)))


def test_positions_count_from_one_with_all_sines_first():
    width, frames = 6, 4
    found = SinusoidalPositionEncoder()(torch.zeros(1, frames, width))[0]
    for frame in range(frames):
        for i in range(width // 2):
            angle = (frame + 1) * math.exp(-i * math.log(1e4) / (width / 2 - 1))
            assert found[frame, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[frame, width // 2 + i].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_input_is_left_alone_and_padding_is_not_seen():
    encoder = small().eval()
    x, lengths = torch.randn(3, 11, 20), torch.tensor([11, 7, 1])
    before = x.clone()
    out, out_lengths = encoder(x, lengths)
    assert torch.equal(x, before)
    assert out.shape == (3, 11, 16)
    assert (out_lengths.tolist(), out_lengths.dtype) == ([11, 7, 1], torch.int32)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = encoder(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(out[row, :length], alone[0], rtol=1e-4, atol=1e-5)


def test_there_is_no_longest_utterance():
    encoder = small(num_blocks=1, tp_blocks=0, output_size=4, attention_heads=1, linear_units=4).eval()
    with torch.no_grad():
        out, _ = encoder(torch.randn(1, 6001, 20), torch.tensor([6001]))
    assert out.shape == (1, 6001, 4)
    assert out.isfinite().all()


def test_recomputed_layers_give_the_same_gradients_with_dropout():
    gradients = []
    for recompute in (False, True):
        encoder = small(attention_dropout_rate=0.1).train()
        encoder.gradient_checkpointing = recompute
        torch.manual_seed(3)
        out, _ = encoder(torch.randn(2, 9, 20), torch.tensor([9, 5]))
        out.square().mean().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda t, n=name: f"{n}: {t}")


def test_exchanged_axes_and_odd_widths_are_named():
    encoder = small()
    with pytest.raises(ValueError, match=r"\(2, 20, 17\).*\(B, T, 20\); time and features are exchanged"):
        encoder(torch.randn(2, 20, 17), torch.tensor([17, 17]))
    with pytest.raises(ValueError, match=r"\(2, 17, 21\)"):
        encoder(torch.randn(2, 17, 21), torch.tensor([17, 17]))
    with pytest.raises(ValueError, match="input_size: 21"):
        SenseVoiceEncoderSmall(21)
    with pytest.raises(ValueError, match="output_size: 16 is no multiple of attention_heads: 3"):
        small(attention_heads=3)
