"""The encoder and its parts, against definitions and slow plain versions."""

import pytest
import torch

from nest_ssl.modules.conformer_encoder import ConformerEncoder


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
