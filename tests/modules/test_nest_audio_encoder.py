"""A NEST encoder and its front end behind the interface of Fun-ASR's."""

import pickle

import pytest
import torch

from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.conformer_encoder import ConformerEncoder
from nest_ssl.modules.mel_frontend import MelFrontend
from nest_ssl.modules.nest_audio_encoder import NestAudioEncoder

MEL = {
    "sample_rate": 16000,
    "window_size": 0.025,
    "window_stride": 0.01,
    "features": 20,
    "n_fft": 512,
    "dither": 1e-5,
}
SMALL = {"n_layers": 2, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4, "conv_kernel_size": 5}


def small(**options) -> NestAudioEncoder:
    torch.manual_seed(0)
    return NestAudioEncoder(20, **{**SMALL, "subsampling": "dw_striding", "subsampling_factor": 8, **options})


def test_state_and_output_are_those_of_the_conformer():
    encoder = small().eval()
    plain = ConformerEncoder(20, **SMALL, subsampling="dw_striding", subsampling_factor=8).eval()
    plain.load_state_dict(encoder.state_dict())
    x, lengths = torch.randn(2, 50, 20), torch.tensor([50, 33])
    out, out_lengths = encoder(x, lengths)
    expected, expected_lengths = plain(x.transpose(1, 2), lengths)
    assert torch.equal(out, expected.transpose(1, 2))
    assert out_lengths.tolist() == expected_lengths.tolist() == encoder.frames_of(lengths).tolist()
    assert (encoder.output_size(), encoder.frame_factor, out_lengths.dtype) == (16, 8, torch.int32)


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling_factor": 4},
        {"subsampling": "stacking"},
        {"subsampling": "striding", "subsampling_factor": 2},
        {"subsampling": None, "subsampling_factor": 1},
        {"subsampling_factor": 2, "reduction": "pooling", "reduction_position": 0, "reduction_factor": 2},
        {"subsampling_factor": 2, "reduction": "striding", "reduction_position": -1, "reduction_factor": 4},
    ],
)
@pytest.mark.parametrize("frames", [9, 16, 33])
def test_frames_of_is_the_length_of_an_utterance_alone(options, frames):
    encoder = small(**options).eval()
    _, lengths = encoder(torch.randn(1, frames, 20), torch.tensor([frames]))
    assert lengths.tolist() == encoder.frames_of(torch.tensor([frames])).tolist()


def test_recomputed_layers_give_the_same_gradients_and_statistics():
    found = []
    for recompute in (False, True):
        encoder = small(batch_norm="valid").train()
        encoder.gradient_checkpointing = recompute
        torch.manual_seed(1)
        encoder(torch.randn(2, 40, 20), torch.tensor([40, 25]))[0].square().mean().backward()
        gradients = {name: p.grad for name, p in encoder.named_parameters()}
        found.append((gradients, {name: b.clone() for name, b in encoder.named_buffers()}))
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(
                other[name], one[name], rtol=1e-4, atol=1e-6, msg=lambda t, n=name: f"{n}: {t}"
            )
    assert all(int(b) == 1 for n, b in found[1][1].items() if n.endswith("num_batches_tracked"))


def test_exchanged_axes_and_other_widths_are_named():
    with pytest.raises(ValueError, match="time and features are exchanged"):
        small()(torch.randn(2, 20, 50), torch.tensor([50, 50]))
    with pytest.raises(ValueError, match="feat_in: 80, but the front end gives 20"):
        small(feat_in=80)


def test_the_front_end_gives_the_frames_of_the_preprocessor_without_padding():
    frontend = MelFrontend(**MEL)
    preprocessor = AudioToMelSpectrogramPreprocessor(**MEL).eval()
    waves = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (4000, 7777)]
    for wave in waves:
        features = frontend.features(wave)
        expected, frames = preprocessor(wave[None], torch.tensor([len(wave)]))
        assert len(features) == int(frames) == frontend.frames_of(len(wave))
        torch.testing.assert_close(features, expected[0, :, : int(frames)].T)
    batch, lengths = frontend(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), [4000, 7777])
    assert lengths.tolist() == [25, 48]
    assert torch.equal(batch[1, :48], frontend.features(waves[1]))
    assert (frontend.frame_s, frontend.output_size(), frontend.fs, frontend.lfr_n) == (0.01, 20, 16000, 1)


def test_a_pickled_front_end_dithers_from_the_generator_alone():
    frontend, wave = pickle.loads(pickle.dumps(MelFrontend(**{**MEL, "dither": 0.01}))), torch.zeros(4000)
    assert torch.equal(frontend.features(wave), frontend.features(wave))
    one, other = (frontend.features(wave, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.equal(one, other)
