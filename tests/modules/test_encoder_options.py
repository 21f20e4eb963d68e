"""What each option of the encoder does, and how a wrong one is refused."""

import random

import pytest
import torch

from nest_ssl.modules.conformer_encoder import ConformerEncoder
from nest_ssl.modules.conformer_modules import conv_norm
from nest_ssl.modules.stochastic_depth import layer_drop_probs


def encoder(**options):
    torch.manual_seed(0)
    plain = {"feat_in": 10, "n_layers": 3, "d_model": 16, "n_heads": 2, "conv_kernel_size": 5}
    plain |= {"subsampling": "dw_striding", "subsampling_factor": 2, "subsampling_conv_channels": 4}
    plain |= {"dropout": 0.0, "dropout_pre_encoder": 0.0, "dropout_emb": 0.0}
    return ConformerEncoder(**{**plain, **options}).eval()


def run(module, frames=40):
    torch.manual_seed(1)
    return module(torch.randn(2, 10, frames), torch.tensor([frames, frames - 9]))


def test_training_draws_contexts_and_evaluation_takes_the_first():
    contexts = [[2, 1], [-1, -1], [6, 0]]
    several = encoder(
        att_context_size=contexts, att_context_probs=[0.2, 0.3, 0.5], conv_norm_type="layer_norm"
    )
    single = {
        str(context): run(encoder(att_context_size=context, conv_norm_type="layer_norm"))[0]
        for context in contexts
    }
    torch.testing.assert_close(run(several)[0], single["[2, 1]"])
    several.set_default_att_context_size([6, 0])
    torch.testing.assert_close(run(several)[0], single["[6, 0]"])
    several.train()
    seen = set()
    for seed in range(12):
        random.seed(seed)
        context = random.choices(contexts, weights=[0.2, 0.3, 0.5])[0]
        random.seed(seed)
        torch.testing.assert_close(run(several)[0], single[str(context)])
        seen.add(str(context))
    assert len(seen) == 3
    with pytest.raises(ValueError, match="was not trained"):
        several.set_default_att_context_size([9, 9])


def test_a_causal_encoder_sees_no_later_frame():
    module = encoder(
        causal_downsampling=True,
        att_context_size=[-1, 0],
        conv_context_size="causal",
        conv_norm_type="layer_norm",
    )
    features = torch.randn(1, 10, 40)
    changed = features.clone()
    changed[:, :, 25:] += 1.0
    before, after = (module(x)[0] for x in (features, changed))
    torch.testing.assert_close(before[..., :13], after[..., :13])
    assert not torch.allclose(before[..., 13:14], after[..., 13:14])


def test_convolution_sees_the_frames_of_its_context():
    convolution = encoder(conv_context_size=[1, 3], conv_norm_type="layer_norm").layers[0].conv
    x = torch.randn(1, 12, 16)
    changed = x.clone()
    changed[:, 6] += 1.0
    difference = (convolution(x) - convolution(changed)).abs().amax(dim=(0, 2))
    assert (difference > 1e-6).nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", ["group_norm4", "groupnorm4"])
def test_both_spellings_of_a_group_norm(kind):
    norm = conv_norm(kind, 16)
    assert isinstance(norm, torch.nn.GroupNorm)
    assert norm.num_groups == 4


def test_tied_biases_are_one_parameter():
    module = encoder(untie_biases=False)
    assert all(layer.self_attn.pos_bias_u is module.layers[0].self_attn.pos_bias_u for layer in module.layers)
    assert sum("pos_bias" in name for name, _ in module.named_parameters()) == 2
    assert sum("pos_bias" in name for name in module.state_dict()) == 6


def test_layers_are_dropped_as_often_as_asked():
    assert layer_drop_probs(4, 0.3, "linear", 1) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert layer_drop_probs(4, 0.3, "uniform", 2) == pytest.approx([0.0, 0.0, 0.3, 0.3])
    assert layer_drop_probs(2, 0.3, "linear", 2) == [0.0, 0.0]


def test_a_dropped_layer_hands_on_its_input_and_a_kept_one_is_scaled():
    options = {"n_layers": 2, "conv_norm_type": "layer_norm"}
    module = encoder(**options, stochastic_depth_drop_prob=0.5, stochastic_depth_mode="uniform").train()
    outputs = {}
    for index, layer in enumerate(module.layers):
        layer.register_forward_hook(lambda *args, index=index: outputs.update({index: args[2]}))
    torch.manual_seed(1)
    features = torch.randn(2, 10, 40)
    seen = set()
    for seed in range(8):
        torch.manual_seed(seed)
        dropped = bool(torch.rand(1) < 0.5)
        torch.manual_seed(seed)
        result = module(features)[0].transpose(1, 2)
        kept = (outputs[1] - outputs[0]) / 0.5 + outputs[0]
        torch.testing.assert_close(result, outputs[0] if dropped else kept)
        seen.add(dropped)
    assert seen == {True, False}


@pytest.mark.parametrize(("reduction", "position"), [("pooling", 0), ("striding", 1), ("pooling", -1)])
def test_reduction_halves_what_follows(reduction, position):
    module = encoder(reduction=reduction, reduction_position=position, reduction_factor=2)
    frames = []
    for layer in module.layers:
        layer.register_forward_hook(lambda *args: frames.append(args[2].shape[1]))
    encoded, length = run(module)
    assert encoded.shape[2] == 10
    assert length.tolist() == [10, 8]
    shortened = 3 if position == -1 else position + 1
    assert frames == [20] * shortened + [10] * (3 - shortened)


def test_outputs_of_layers():
    module = encoder(feat_out=6, reduction="pooling", reduction_position=1, reduction_factor=2)
    hooked = []
    for layer in module.layers:
        layer.register_forward_hook(lambda *args: hooked.append(args[2]))
    encoded, length = run(module)
    first, _, last = hooked
    torch.manual_seed(1)
    outputs = module.layer_outputs(torch.randn(2, 10, 40), torch.tensor([40, 31]), layers=[0, 2])
    assert list(outputs) == [0, 2]
    torch.testing.assert_close(outputs[0][0], module.out_proj(first).transpose(1, 2))
    torch.testing.assert_close(outputs[2][0], module.out_proj(last).transpose(1, 2))
    torch.testing.assert_close(outputs[2][0], encoded)
    assert outputs[0][1].tolist() == [20, 16]
    assert torch.equal(outputs[2][1], length)
    with pytest.raises(ValueError, match="layer 3: the encoder has"):
        module.layer_outputs(torch.randn(1, 10, 40), layers=[3])


def test_attention_may_be_exchanged_and_changed_back():
    module = encoder(use_bias=False)
    full = run(module)
    module.change_attention_model("rel_pos_local_attn", [20, 20])
    assert module.self_attention_model == "rel_pos_local_attn"
    torch.testing.assert_close(run(module), full, atol=1e-5, rtol=1e-4)
    module.change_attention_model("rel_pos", [-1, -1])
    torch.testing.assert_close(run(module), full)


@pytest.mark.parametrize("kind", ["rel_pos", "abs_pos"])
@pytest.mark.parametrize("backends", [[], ["MATH"]])
def test_fused_kernels_give_the_same(kind, backends):
    options = {"self_attention_model": kind, "att_context_size": [6, 2]}
    fused = encoder(**options, use_pytorch_sdpa=True, use_pytorch_sdpa_backends=backends)
    torch.testing.assert_close(run(fused), run(encoder(**options)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["rel_pos", "abs_pos", "rel_pos_local_attn"])
def test_an_item_of_length_zero_leaves_gradients_finite(kind):
    context = [2, 2] if kind == "rel_pos_local_attn" else None
    module = encoder(self_attention_model=kind, att_context_size=context).train()
    module(torch.randn(2, 10, 40), torch.tensor([40, 0]))[0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"self_attention_model": "flash"}, "self_attention_model: 'flash'; use rel_pos"),
        ({"self_attention_model": "rel_pos_local_attn"}, r"att_context_size: \[-1, -1\]; rel_pos_local_attn"),
        ({"att_context_style": "chunked_limited_with_rc"}, "att_context_style: .*NeMo 3.0"),
        ({"att_chunk_context_size": [[70], [1], [0]]}, "att_chunk_context_size: it came with NeMo 3.0"),
        ({"conv_context_style": "dcc"}, "conv_context_style: 'dcc' came with NeMo 3.0"),
        ({"conv_norm_type": "rms_norm"}, "conv_norm_type: 'rms_norm'"),
        ({"conv_norm_type": "group_norm"}, "conv_norm_type: 'group_norm'"),
        ({"conv_norm_type": "group_norm5"}, "conv_norm_type: 'group_norm5'; the groups must divide"),
        ({"conv_context_size": [1, 1]}, r"conv_context_size: \[1, 1\]; .* sum of 4"),
        ({"conv_kernel_size": 4}, "conv_kernel_size: 4 is even"),
        ({"d_model": 15}, "d_model: 15 is odd"),
        ({"n_heads": 3}, "n_heads: 3 does not divide"),
        ({"stochastic_depth_drop_prob": 1.0}, "stochastic_depth_drop_prob: 1.0"),
        ({"stochastic_depth_start_layer": 4}, "stochastic_depth_start_layer: 4"),
        ({"stochastic_depth_mode": "cosine"}, "stochastic_depth_mode: 'cosine'"),
        ({"reduction": "pooling", "reduction_factor": 2}, "reduction_position: None"),
        (
            {"use_pytorch_sdpa": True, "use_pytorch_sdpa_backends": ["FASTEST"]},
            "use_pytorch_sdpa_backends: 'FASTEST'",
        ),
    ],
)
def test_bad_options_are_refused_by_key(options, message):
    with pytest.raises(ValueError, match=message):
        encoder(**options)


def test_input_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"takes \(B, 10, T\), not \(1, 40, 10\)"):
        encoder()(torch.randn(1, 40, 10))
    with pytest.raises(ValueError, match=r"takes \(B, T, 16\), not \(1, 16, 40\)"):
        encoder()(torch.randn(1, 16, 40), bypass_pre_encode=True)


@pytest.mark.parametrize("context", [None, [6, 2]])
def test_the_encoder_is_one_graph_for_the_compiler(context):
    module = encoder(att_context_size=context, n_layers=1)
    features, length = torch.randn(2, 10, 40), torch.tensor([40, 31])
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(features, length), module(features, length))
