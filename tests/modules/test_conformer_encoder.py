"""The encoder and its parts, against definitions and slow plain versions."""

import math

import pytest
import torch

from nest_ssl.modules.conformer_encoder import ConformerEncoder, attention_masks
from nest_ssl.modules.multi_head_attention import (
    RelPositionalEncoding,
    RelPositionMultiHeadAttention,
    rel_shift,
    sinusoids,
)
from nest_ssl.modules.subsampling import ConvSubsampling


def encoder(**options):
    torch.manual_seed(0)
    plain = {
        "feat_in": 80,
        "n_layers": 2,
        "d_model": 16,
        "n_heads": 2,
        "conv_kernel_size": 5,
        "dropout_emb": 0.0,
    }
    plain |= {"subsampling": "dw_striding", "subsampling_factor": 8, "subsampling_conv_channels": 4}
    return ConformerEncoder(**{**plain, **options}).eval()


@pytest.mark.parametrize("sdpa", [False, True])
def test_valid_frames_do_not_depend_on_padding(sdpa):
    module, features = encoder(use_pytorch_sdpa=sdpa), torch.randn(2, 80, 160)
    together, lengths = module(audio_signal=features, length=torch.tensor([160, 90]))
    alone, alone_lengths = module(audio_signal=features[1:, :, :90], length=torch.tensor([90]))
    assert lengths.tolist() == [20, 12]
    assert alone_lengths.tolist() == [12]
    torch.testing.assert_close(together[1, :, :12], alone[0, :, :12], atol=1e-5, rtol=1e-4)


def test_padding_beyond_the_length_is_not_seen():
    module, features = encoder(), torch.randn(1, 80, 96)
    changed = features.clone()
    changed[:, :, 50:] = 1e4
    length = torch.tensor([50])
    for first, second in zip(module(features, length), module(changed, length), strict=True):
        torch.testing.assert_close(first[..., :7], second[..., :7])


def test_fused_attention_gives_the_same():
    plain, fused = encoder(), encoder(use_pytorch_sdpa=True)
    fused.load_state_dict(plain.state_dict())
    features, length = torch.randn(2, 80, 160), torch.tensor([160, 90])
    torch.testing.assert_close(plain(features, length), fused(features, length), atol=1e-5, rtol=1e-4)


def test_without_lengths_all_frames_count():
    module, features = encoder(), torch.randn(1, 80, 96)
    torch.testing.assert_close(module(features), module(features, torch.tensor([96])))


def test_sub_sampled_frames_may_be_given():
    module, features, length = encoder(), torch.randn(2, 80, 160), torch.tensor([160, 90])
    frames, frame_lengths = module.pre_encode(features.transpose(1, 2), length)
    results = module(audio_signal=frames, length=frame_lengths, bypass_pre_encode=True)
    torch.testing.assert_close(results, module(features, length))


def test_long_inputs_grow_the_position_table():
    short, long = encoder(pos_emb_max_len=4), encoder(pos_emb_max_len=5000)
    features, length = torch.randn(1, 80, 160), torch.tensor([160])
    torch.testing.assert_close(short(features, length), long(features, length))


def test_table_made_without_gradients_serves_training():
    module, features, length = encoder(pos_emb_max_len=4), torch.randn(1, 80, 160), torch.tensor([160])
    with torch.inference_mode():
        module(features, length)
    module.train()(features, length)[0].sum().backward()


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 100, 101, 159])
def test_sub_sampled_lengths(length):
    module = ConvSubsampling("dw_striding", 8, 80, 16, 4)
    expected = length
    for _ in range(3):
        expected = math.floor((expected + 2 - 3) / 2 + 1)
    x, lengths = module(torch.randn(1, length, 80), torch.tensor([length]))
    assert lengths.tolist() == [expected]
    assert x.shape == (1, expected, 16)


def test_frames_beyond_the_length_are_the_projections_bias():
    module = ConvSubsampling("dw_striding", 4, 80, 16, 4)
    x, lengths = module(torch.randn(1, 64, 80), torch.tensor([20]))
    torch.testing.assert_close(x[0, lengths[0] :], module.out.bias.expand(16 - lengths[0], 16))


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
    x, positions = torch.randn(1, frames, 6), sinusoids(frames, 6, torch.device("cpu"))
    _, mask = attention_masks(torch.tensor([3]), frames)
    result = module(x, x, x, mask=mask, pos_emb=positions)

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


def test_position_table_is_neither_saved_nor_registered():
    module = encoder()
    module(torch.randn(1, 80, 96), torch.tensor([96]))
    assert not [key for key in module.state_dict() if key.startswith("pos_enc")]
    assert not list(module.pos_enc.buffers())


def test_float16_autocast_computes_attention_in_bfloat16():
    seen = []
    module = encoder()
    module.layers[0].self_attn.linear_q.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    with torch.autocast("cpu", dtype=torch.float16):
        output, _ = module(torch.randn(1, 80, 96), torch.tensor([96]))
    assert seen == [torch.bfloat16]
    assert torch.isfinite(output).all()
