"""Batch norm over valid frames: that of the frames laid end to end, without the padding."""

import pytest
import torch
from torch import nn

from nest_ssl.modules.masked_batch_norm import ValidFramesBatchNorm1d, use_valid_frames

PAD_MASK = torch.arange(9)[None] >= torch.tensor([9, 4])[:, None]


def inputs():
    x = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    return x, (~PAD_MASK).flatten()


def test_statistics_outputs_and_gradients_are_those_of_the_valid_frames_alone():
    ours, plain = ValidFramesBatchNorm1d(3).train(), nn.BatchNorm1d(3).train()
    for norm in (ours, plain):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
    x, valid = inputs()
    ours.pad_mask = PAD_MASK
    frames = ours(x).transpose(1, 2).flatten(0, 1)[valid]
    expected = plain(x.transpose(1, 2).flatten(0, 1)[valid])
    torch.testing.assert_close(frames, expected)
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(ours, key), getattr(plain, key))
    target = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((y * target).sum(), x, retain_graph=True)[0] for y in (frames, expected)]
    torch.testing.assert_close(*gradients)


def test_evaluation_and_calls_without_mask_are_the_plain_norm():
    ours, plain = ValidFramesBatchNorm1d(3), nn.BatchNorm1d(3)
    x, _ = inputs()
    torch.testing.assert_close(ours(x), plain(x))
    ours.eval(), plain.eval()
    ours.pad_mask = PAD_MASK
    torch.testing.assert_close(ours(x), plain(x))


def test_an_encoder_without_batch_norm_is_refused():
    with pytest.raises(ValueError, match="conv_norm_type"):
        use_valid_frames(nn.Sequential(nn.LayerNorm(3)))
