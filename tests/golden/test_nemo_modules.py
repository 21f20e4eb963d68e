"""Front end, quantiser, masking and augmentation against NeMo, option by option."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest
import torch

from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.ssl_modules.augmentation import MultiSpeakerNoiseAugmentation
from nest_ssl.modules.ssl_modules.masking import RandomBlockMasking
from nest_ssl.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer
from tests.golden.cases import SAMPLE, read_tensors

MEL = (
    *(
        "default",
        "f128",
        "no_norm",
        "all_features",
        "hamming",
        "pad0",
        "padval",
        "nolog",
        "mag1",
        "exact_pad",
    ),
    *("nopreemph", "clamp", "tiny", "eps", "range", "win20", "nfftnone", "melnormnone"),
)
MASKED = [f"c{case}_T{frames}" for case in range(7) for frames in (464, 1568, 128)]
AUGMENTED = ["default", "always_noise", "always_speech", "multi", "prob0", "full"]


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text()), read_tensors(folder / f"{name}.safetensors")


def quantizer_of(case, number, tensors):
    options = (
        "feat_in",
        "code_dim",
        "num_classes",
        "num_books",
        "combine_time_steps",
        "squeeze_single",
        "dist_fn",
    )
    quantizer = RandomProjectionVectorQuantizer(**{key: case[key] for key in options})
    quantizer.proj.weight.data = tensors[f"{number}.proj"]
    quantizer.codebooks.data = tensors[f"{number}.codebooks"]
    return quantizer


def check_quantizer(folder, number):
    cases, tensors = read(folder, "quantizer")
    quantizer = quantizer_of(cases[number], number, tensors)
    codes, tokens = quantizer(input_signal=tensors[f"{number}.x"])
    assert torch.equal(tokens, tensors[f"{number}.xid"])
    assert torch.equal(codes, tensors[f"{number}.xq"])


def check_mask(folder, key, sampler="nemo2"):
    cases, tensors = read(folder, {"nemo2": "masking", "nemo3": "masking_nemo3"}[sampler])
    case = next(case for case in cases["cases"] if case["key"] == key)
    masking = RandomBlockMasking(feat_in=4, sampler=sampler, **case["cfg"])
    torch.manual_seed(case["seed"])
    _, mask = masking(
        input_feats=torch.zeros(len(case["lengths"]), 4, case["T"]),
        input_lengths=torch.tensor(case["lengths"]),
    )
    assert torch.equal(mask[:, 0].to(torch.uint8), tensors[key])


def check_augmentation(folder, name, number):
    cases, tensors = read(folder, "batch_augment")
    case = [case for case in cases["cases"] if case["name"] == name][number]
    random.seed(case["python_random_seed"])
    batch = augmented_batch(tensors)
    MultiSpeakerNoiseAugmentation(**case["cfg"])(batch)
    key = f"{name}.{number}"
    torch.testing.assert_close(batch.noise, tensors[f"{key}.noise"], rtol=0.0, atol=1e-6)
    assert torch.equal(batch.noise_len, tensors[f"{key}.noise_len"])
    assert torch.equal(batch.noisy_audio, tensors["audio"] + batch.noise)
    assert torch.equal(batch.noisy_audio_len, tensors["audio_len"])


def augmented_batch(tensors):
    return SimpleNamespace(
        **{key: tensors[key].clone() for key in ("audio", "audio_len", "noise", "noise_len")}
    )


@pytest.mark.parametrize("name", MEL)
def test_mel_option(goldens, name):
    cases, tensors = read(goldens / "nemo", "mel")
    preprocessor = AudioToMelSpectrogramPreprocessor(**cases[name]["args"]).eval()
    features, frames = preprocessor(input_signal=tensors["input"].clone(), length=tensors["length"])
    assert list(features.shape) == cases[name]["shape"]
    assert torch.equal(frames, tensors[f"{name}.len"])
    torch.testing.assert_close(
        features[:, :: cases[name]["feature_stride"]], tensors[f"{name}.out"], rtol=1e-6, atol=1e-5
    )


def test_mel_dither_in_training(goldens):
    cases, tensors = read(goldens / "nemo", "mel")
    preprocessor = AudioToMelSpectrogramPreprocessor(**{**cases["default"]["args"], "dither": 1e-5}).train()
    torch.manual_seed(cases["dither_train"]["seed"])
    signal = tensors["input"].clone()
    features, _ = preprocessor(input_signal=signal, length=tensors["length"])
    torch.testing.assert_close(features[:, ::4], tensors["dither_train.out"], rtol=0.0, atol=1e-5)
    assert not torch.equal(signal, tensors["input"])


def test_mel_buffers(goldens):
    _, tensors = read(goldens / "nemo", "mel")
    featurizer = AudioToMelSpectrogramPreprocessor(window_size=0.025, n_fft=512, features=80).featurizer
    assert torch.equal(featurizer.fb, tensors["fb"])
    assert torch.equal(featurizer.window, tensors["window"])


def test_mel_frame_counts(goldens):
    cases, _ = read(goldens / "nemo", "mel")
    featurizer = AudioToMelSpectrogramPreprocessor(window_size=0.025, n_fft=512, features=80).featurizer
    samples = torch.tensor([int(count) for count in cases["seq_len"]])
    assert featurizer.get_seq_len(samples).tolist() == list(cases["seq_len"].values())


@pytest.mark.parametrize("number", ["0", "1", "2", "3", "4"])
def test_quantizer_tokens_and_codes(goldens, number):
    check_quantizer(goldens / "nemo", number)


@pytest.mark.parametrize("number", ["0", "1", "2", "4"])
def test_quantizer_starts_as_nemos(goldens, number):
    cases, tensors = read(goldens / "nemo", "quantizer")
    case = cases[number]
    torch.manual_seed(case["seed"])
    options = ("feat_in", "code_dim", "num_classes", "num_books", "combine_time_steps")
    quantizer = RandomProjectionVectorQuantizer(**{key: case[key] for key in options})
    assert torch.equal(quantizer.proj.weight, tensors[f"{number}.proj"])
    assert torch.equal(quantizer.codebooks, tensors[f"{number}.codebooks"])


@pytest.mark.parametrize("sampler", ["nemo2", "nemo3"])
@pytest.mark.parametrize("key", MASKED)
def test_seeded_mask(goldens, key, sampler):
    check_mask(goldens / "nemo", key, sampler)


@pytest.mark.parametrize("key", ["c0_T464", "c2_T464", "c5_T464"])
def test_mask_statistics(goldens, key):
    cases, _ = read(goldens / "nemo", "masking")
    case = next(case for case in cases["cases"] if case["key"] == key)
    masking = RandomBlockMasking(feat_in=1, **case["cfg"])
    torch.manual_seed(1)
    lengths = torch.tensor(case["lengths"])
    draws = torch.stack(
        [masking.sample_mask(case["lengths"], case["T"]).sum(1) / lengths for _ in range(200)]
    )
    error = draws.std(0) / 200**0.5 * 2**0.5  # of the difference of two means of 200 draws
    difference = (draws.mean(0) - torch.tensor(case["ratio_mean"])).abs()
    assert (difference <= 4 * error + 1e-6).all(), (difference, error)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", AUGMENTED)
def test_seeded_augmentation(goldens, name, number):
    check_augmentation(goldens / "nemo", name, number)


@pytest.mark.parametrize("name", ["default", "multi"])
def test_augmentation_statistics(goldens, name):
    cases, tensors = read(goldens / "nemo", "batch_augment")
    expected = cases["stats"][name]
    augmentor = MultiSpeakerNoiseAugmentation(**next(c["cfg"] for c in cases["cases"] if c["name"] == name))
    rng, levels, shares, items = random.Random(0), [], [], 0
    for _ in range(100):
        batch = augmentor(augmented_batch(tensors), rng)
        for item, length in enumerate(tensors["audio_len"].tolist()):
            items += 1
            if torch.equal(batch.noise[item], tensors["noise"][item]):
                continue
            noise = batch.noise[item, :length]
            levels.append(float(10 * torch.log10(batch.audio[item].square().sum() / noise.square().sum())))
            shares.append(float((noise != 0).float().mean()))
    levels, shares = torch.tensor(levels), torch.tensor(shares)
    error = 4 * (2 / len(levels)) ** 0.5  # four standard errors of a difference of two such means
    assert len(levels) / items == pytest.approx(expected["frac_augmented"], abs=0.5 * error)
    assert float(levels.mean()) == pytest.approx(expected["snr_db"]["mean"], abs=float(levels.std()) * error)
    assert levels.min() >= -5.01
    assert levels.max() <= 20.01
    assert float(shares.mean()) == pytest.approx(
        expected["nonzero_frac"]["mean"], abs=float(shares.std()) * error + 1e-3
    )


def test_sample_quantizer():
    for number in ("2", "4"):
        check_quantizer(SAMPLE, number)


@pytest.mark.parametrize("sampler", ["nemo2", "nemo3"])
def test_sample_masks(sampler):
    for key in MASKED:
        check_mask(SAMPLE, key, sampler)


@pytest.mark.parametrize("name", ["default", "multi"])
def test_sample_augmentation(name):
    check_augmentation(SAMPLE, name, 0)
