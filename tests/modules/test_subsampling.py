"""Sub-sampling and reduction, against length rules and slow plain versions."""

import math

import pytest
import torch

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
