"""The front end: lengths, padding, normalisation, precision and refusals."""

import random

import pytest
import torch

from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.mel_filterbank import slaney_mel_filterbank


def front_end(**options):
    options = {"window_size": 0.025, "n_fft": 512, "features": 80, "dither": 0.0, **options}
    return AudioToMelSpectrogramPreprocessor(**options).eval()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_features_do_not_depend_on_the_rest_of_the_batch():
    signal, lengths = noise(2, 24000), torch.tensor([24000, 11111])
    together, frames = front_end()(input_signal=signal, length=lengths)
    alone, alone_frames = front_end()(input_signal=signal[1:, :11111], length=lengths[1:])
    assert frames[1] == alone_frames[0] == 11111 // 160
    torch.testing.assert_close(together[1, :, : frames[1]], alone[0, :, : frames[1]])
    assert (together[1, :, frames[1] :] == 0).all()


def test_per_feature_normalisation_over_valid_frames():
    features, frames = front_end()(input_signal=noise(1, 20000), length=torch.tensor([16000]))
    valid = features[0, :, : frames[0]]
    torch.testing.assert_close(valid.mean(1), torch.zeros(80), atol=1e-5, rtol=0)
    torch.testing.assert_close(valid.std(1), torch.ones(80), atol=1e-4, rtol=0)


def test_fixed_normalisation():
    fixed = {"fixed_mean": [1.0] * 80, "fixed_std": [2.0] * 80}
    signal, length = noise(1, 16000), torch.tensor([16000])
    plain, frames = front_end(normalize=None)(input_signal=signal, length=length)
    scaled, _ = front_end(normalize=fixed)(input_signal=signal, length=length)
    torch.testing.assert_close(scaled[..., : frames[0]], ((plain - 1.0) / 2.0)[..., : frames[0]])


@pytest.mark.parametrize("samples", [0, 1, 160, 400])
def test_very_short_items_stay_finite(samples):
    features, frames = front_end()(input_signal=noise(2, 16000), length=torch.tensor([16000, samples]))
    assert frames.tolist() == [100, samples // 160]
    assert torch.isfinite(features).all()


def test_silence_stays_finite():
    features, _ = front_end()(input_signal=torch.zeros(1, 16000), length=torch.tensor([16000]))
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("other_form", [None, False])  # NeMo's YAMLs write false
def test_sizes_may_be_given_in_samples(other_form):
    signal, length = noise(1, 16000), torch.tensor([16000])
    seconds, _ = front_end(window_size=0.025, window_stride=0.01)(input_signal=signal, length=length)
    other = {"window_size": other_form, "window_stride": other_form}
    samples = front_end(**other, n_window_size=400, n_window_stride=160)
    torch.testing.assert_close(seconds, samples(input_signal=signal, length=length)[0])


def test_half_precision_model_gets_half_features_from_a_float32_computation():
    signal, length = noise(1, 16000), torch.tensor([16000])
    expected, _ = front_end()(input_signal=signal, length=length)
    features, _ = front_end().to(torch.bfloat16)(input_signal=signal, length=length)
    assert features.dtype == torch.bfloat16
    assert (features.float() - expected).abs().mean() < 0.01  # the filters too are rounded to bfloat16


def test_autocast_changes_nothing():
    signal, length = noise(1, 16000), torch.tensor([16000])
    expected, _ = front_end()(input_signal=signal, length=length)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = front_end()(input_signal=signal, length=length)
    assert torch.equal(features, expected)


def test_dither_is_for_training_only_and_in_place():
    signal = torch.zeros(1, 16000)
    module = front_end(dither=0.1)
    module(input_signal=signal, length=torch.tensor([16000]))
    assert not signal.any()
    module.train()(input_signal=signal, length=torch.tensor([16000]))
    assert signal.std() == pytest.approx(0.1, rel=0.05)


def test_no_gradient_reaches_the_waveform():
    signal = noise(1, 16000).requires_grad_()
    features, _ = front_end()(input_signal=signal, length=torch.tensor([16000]))
    assert not features.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "kaiser"}, "window: 'kaiser'"),
        ({"normalize": "cmvn"}, "normalize: 'cmvn'"),
        ({"normalize": {"fixed_mean": [0.0]}}, "fixed_std"),
        ({"pad_to": "max"}, "pad_to: 'max'"),
        ({"n_fft": 256}, "n_fft: 256"),
        ({"log_zero_guard_type": "floor"}, "log_zero_guard_type: 'floor'"),
        ({"log_zero_guard_value": "small"}, "log_zero_guard_value: 'small'"),
        ({"nb_augmentation_prob": 1.5}, "nb_augmentation_prob: 1.5"),
        ({"mel_norm": 1.0}, "mel_norm: 1.0"),
        ({"highfreq": 9000}, "highfreq 9000"),
        ({"n_window_size": 400}, "window_size: 0.025 s and n_window_size: 400"),
        ({"window_stride": 0.0}, "window_stride: 0.0"),
        ({"window_size": False}, "window_size: False gives 0 samples"),
    ],
)
def test_options_that_do_not_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        front_end(**options)


def test_filters_are_triangles_of_unit_area():
    filters = slaney_mel_filterbank(16000, 4096, 20)
    torch.testing.assert_close(filters.sum(1) * 16000 / 4096, torch.ones(20), rtol=0.02, atol=0)
    peaks = slaney_mel_filterbank(16000, 4096, 20, norm=None).amax(1)
    torch.testing.assert_close(peaks, torch.ones(20), rtol=0.05, atol=0)


FRAMES = 25  # of half a second or more: padding left out


class TestNarrowBand:
    """The features of a signal of which nothing is left from nb_max_freq on."""

    def features(self, signal, **options):
        module = front_end(normalize=None, **options)
        return module.train()(input_signal=signal, length=torch.tensor([signal.shape[1]] * len(signal)))[0][
            ..., :FRAMES
        ]

    def test_all_above_the_frequency_is_gone(self):
        signal = torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
        plain, cut = self.features(signal), self.features(signal, nb_augmentation_prob=1.0)
        floor = torch.tensor(2**-24).log()
        centres = front_end().featurizer.fb[0]
        above = (centres[:, :128] == 0).all(dim=1)  # bins of 31.25 Hz: 4 kHz is bin 128
        below = (centres[:, 128:] == 0).all(dim=1)
        assert above.any()
        torch.testing.assert_close(cut[:, above], floor.expand_as(cut[:, above]))
        torch.testing.assert_close(cut[:, below], plain[:, below])

    def test_items_are_drawn_one_by_one_and_only_in_training(self):
        signal = torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))
        plain = self.features(signal)
        random.seed(1)
        pairs = zip(self.features(signal, nb_augmentation_prob=0.5), plain, strict=True)
        cut = [not torch.equal(*pair) for pair in pairs]
        random.seed(1)
        assert cut == [random.random() < 0.5 for _ in range(4)]
        assert set(cut) == {True, False}
        module = front_end(normalize=None, nb_augmentation_prob=1.0)
        features, _ = module(input_signal=signal, length=torch.tensor([8000] * 4))
        torch.testing.assert_close(features[..., :FRAMES], plain)

    def test_no_effect_where_the_band_is_narrow_already(self):
        signal = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
        options = {"sample_rate": 8000, "n_fft": 256}
        plain = self.features(signal, **options)
        assert torch.equal(self.features(signal, nb_augmentation_prob=1.0, **options), plain)


def test_torchaudio_front_end_is_this_one():
    signal, length = torch.randn(1, 8000), torch.tensor([8000])
    results = [
        front_end(use_torchaudio=value)(input_signal=signal, length=length)[0] for value in (True, False)
    ]
    assert torch.equal(*results)
