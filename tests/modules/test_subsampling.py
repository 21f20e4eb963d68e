"""Sub-sampling and reduction, against length rules and slow plain versions."""

import math

import pytest
import torch

from nest_ssl.modules.reduction import SubsamplingReductionModule
from nest_ssl.modules.stacking import StackingSubsampling
from nest_ssl.modules.subsampling import ConvSubsampling


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


def plain_convolutions(module, x):
    """The stack on one item without padding, layer by layer."""
    x = x.transpose(1, 2) if module.out is None else x[:, None]
    x = module.conv(x).transpose(1, 2).flatten(2)
    return x if module.out is None else module.out(x)


@pytest.mark.parametrize(
    ("kind", "causal"),
    [
        ("dw_striding", False),
        ("dw_striding", True),
        ("striding", False),
        ("striding", True),
        ("vggnet", False),
        ("striding_conv1d", False),
        ("striding_conv1d", True),
        ("dw_striding_conv1d", False),
    ],
)
@pytest.mark.parametrize("length", [1, 2, 9, 21])
def test_padding_does_not_reach_valid_frames(kind, causal, length):
    torch.manual_seed(0)
    module = ConvSubsampling(kind, 4, 10, 16, 6, is_causal=causal)
    x = torch.randn(3, 24, 10)
    together, lengths = module(x, torch.tensor([24, length, 24]))
    alone = plain_convolutions(module, x[1:2, :length])
    frames = lengths[1]
    assert lengths[0] == together.shape[1]
    assert alone.shape == (1, frames, 16)
    torch.testing.assert_close(together[1, :frames], alone[0])


def test_causal_frames_do_not_see_later_ones():
    module = ConvSubsampling("dw_striding", 4, 10, 16, 6, is_causal=True)
    x = torch.randn(1, 24, 10)
    later = x.clone()
    later[:, 9:] = 0.0
    results = [module(y, torch.tensor([24]))[0] for y in (x, later)]
    torch.testing.assert_close(results[0][:, :3], results[1][:, :3])
    assert results[0].shape[1] == 7  # NeMo's: one more than 24 / 4


@pytest.mark.parametrize("pieces", [-1, 2, 4, 8])
def test_pieces_of_a_batch_give_the_same(pieces):
    whole = ConvSubsampling("dw_striding", 4, 10, 16, 6)
    parts = ConvSubsampling("dw_striding", 4, 10, 16, 6, chunking_factor=pieces)
    parts.load_state_dict(whole.state_dict())
    x, lengths = torch.randn(5, 24, 10), torch.tensor([24, 3, 20, 9, 24])
    torch.testing.assert_close(parts(x, lengths), whole(x, lengths))


@pytest.mark.parametrize("causal", [False, True])
def test_channels_last_gives_what_the_layers_give(causal):
    """Outputs, and gradients of the input and all weights; hooked layers are called one after another."""
    torch.manual_seed(0)
    module = ConvSubsampling("dw_striding", 8, 20, 16, 6, is_causal=causal).double()
    lengths = torch.tensor([50, 21, 1])
    results = []
    calls = []
    for hooked in (False, True):
        if hooked:
            module.conv[2].register_forward_hook(lambda *arguments: calls.append(arguments))
        x = torch.randn(3, 50, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        y, _ = module(x.requires_grad_(), lengths)
        inputs = [x, *module.parameters()]
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), inputs)])
        assert len(calls) == hooked
    for ours, layers in zip(*results, strict=True):
        torch.testing.assert_close(ours, layers)


def test_the_input_is_left_alone():
    x = torch.randn(2, 24, 10)
    before = x.clone()
    ConvSubsampling("dw_striding", 4, 10, 16, 6)(x, torch.tensor([24, 9]))
    assert torch.equal(x, before)


@pytest.mark.parametrize(("factor", "length", "expected"), [(4, 10, 3), (3, 9, 3), (7, 3, 1)])
def test_stacking_lays_frames_end_to_end(factor, length, expected):
    module = StackingSubsampling(factor, 2, 5, norm=True)
    x = torch.randn(1, length, 2)
    y, lengths = module(x, torch.tensor([length]))
    padded = torch.cat((x, torch.zeros(1, expected * factor - length, 2)), dim=1)
    stacks = module.pre_norm(padded).view(1, expected, factor * 2)
    torch.testing.assert_close(y, module.proj_out(stacks))
    assert lengths.tolist() == [expected]


def test_pooling_keeps_the_maximum():
    x = torch.randn(2, 7, 4)
    y, lengths = SubsamplingReductionModule("pooling", 4, 2)(x, torch.tensor([7, 4]))
    torch.testing.assert_close(y, x[:, :6].view(2, 3, 2, 4).amax(dim=2))
    assert lengths.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvSubsampling("dw_striding", 6, 10, 16, 6), "subsampling_factor: 6"),
        (lambda: ConvSubsampling("pooling", 4, 10, 16, 6), "subsampling: 'pooling'"),
        (
            lambda: ConvSubsampling("striding", 4, 10, 16, 6, chunking_factor=3),
            "subsampling_conv_chunking_factor: 3",
        ),
        (lambda: SubsamplingReductionModule("mean", 4, 2), "reduction: 'mean'"),
        (lambda: SubsamplingReductionModule("striding", 4, 3), "reduction_factor: 3"),
    ],
)
def test_bad_options_are_refused_by_key(make, message):
    with pytest.raises(ValueError, match=message):
        make()
