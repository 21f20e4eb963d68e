"""Convolutional decoders: shapes, probabilities, refusals."""

import pytest
import torch

from nest_ssl.modules.conv_asr import ConvASRDecoder, ConvASRDecoderReconstruction

FRAMES = torch.randn(2, 6, 11, generator=torch.Generator().manual_seed(0))


def test_classes_and_a_blank_sum_to_one():
    for blank in (True, False):
        log_probs = ConvASRDecoder(feat_in=6, num_classes=5, add_blank=blank)(encoder_output=FRAMES)
        assert log_probs.shape == (2, 11, 5 + blank)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 11))


def test_a_vocabulary_gives_the_number_of_classes():
    assert ConvASRDecoder(feat_in=6, num_classes=-1, vocabulary=["a", "b"]).num_classes_with_blank == 3


def test_temperature_flattens():
    decoder = ConvASRDecoder(feat_in=6, num_classes=5)
    sharp = decoder(encoder_output=FRAMES).max()
    decoder.temperature = 10.0
    assert decoder(encoder_output=FRAMES).max() < sharp


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({}, 11),
        ({"non_stride_layers": 2, "kernel_size": 3}, 11),
        ({"stride_layers": 1, "kernel_size": 5}, 22),
        ({"stride_layers": 1, "kernel_size": 5, "stride_transpose": False}, 6),
    ],
)
def test_reconstruction_keeps_doubles_or_halves_the_frames(options, frames):
    decoder = ConvASRDecoderReconstruction(feat_in=6, feat_out=7, feat_hidden=8, **options)
    assert decoder(encoder_output=FRAMES).shape == (2, frames, 7)


def test_reconstruction_as_probabilities():
    decoder = ConvASRDecoderReconstruction(feat_in=6, feat_out=7, feat_hidden=8, apply_softmax=True)
    torch.testing.assert_close(decoder(encoder_output=FRAMES).exp().sum(-1), torch.ones(2, 11))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4, "stride_layers": 1}, "kernel_size: 4"),
        ({"activation": "mish"}, "activation: 'mish'"),
        ({"init_mode": "zeros"}, "init_mode: 'zeros'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConvASRDecoderReconstruction(feat_in=6, feat_out=7, feat_hidden=8, **options)
    with pytest.raises(ValueError, match="num_classes: 3, but the vocabulary has 1"):
        ConvASRDecoder(feat_in=6, num_classes=3, vocabulary=["a"])
