"""Cuts in spectrograms: their sizes, places, and what stays."""

import random

import pytest
import torch

from nest_ssl.modules.spectrogram_augmentation import (
    MaskedPatchAugmentation,
    SpectrogramAugmentation,
    stripes,
)


def ones(*frames, bands=40):
    return torch.ones(len(frames), bands, max(frames)), torch.tensor(frames)


def test_nothing_to_cut_gives_the_input():
    spec, length = ones(50)
    assert SpectrogramAugmentation()(input_spec=spec, length=length) is spec


def test_stripes_of_time_lie_within_the_items_and_take_all_bands():
    spec, length = ones(200, 60)
    cut = SpectrogramAugmentation(time_masks=3, time_width=10, mask_value=-1.0)(
        input_spec=spec, length=length
    )
    frames = cut[:, 0] == -1.0
    assert frames.any(dim=1).all()
    assert frames.sum(dim=1).max() <= 3 * 9
    assert not frames[1, 60:].any()
    assert torch.equal((cut == -1.0).all(dim=1), frames)
    assert (spec == 1.0).all()


def test_a_share_of_time_is_one_of_the_item():
    length = torch.tensor([[1000.0], [100.0]])
    widths = [stripes(1, length * 0.05, length, 1000).sum(dim=1) for _ in range(200)]
    longest = torch.stack(widths).amax(dim=0)
    assert 40 <= longest[0] < 50
    assert 3 <= longest[1] < 5


def test_stripes_of_frequency_take_all_frames():
    spec, length = ones(50, 20)
    cut = SpectrogramAugmentation(freq_masks=2, freq_width=8)(input_spec=spec, length=length)
    bands = cut[:, :, 0] == 0.0
    assert bands.any()
    assert torch.equal((cut == 0.0).all(dim=2), bands)


def test_rectangles_come_from_the_generator_given():
    spec, length = ones(50)
    options = {"rect_masks": 2, "rect_time": 10, "rect_freq": 12}
    cuts = [
        SpectrogramAugmentation(**options, rng=random.Random(4))(input_spec=spec, length=length)
        for _ in range(2)
    ]
    assert torch.equal(*cuts)
    assert (cuts[0] == 0.0).any()
    assert (spec == 1.0).all()


@pytest.mark.parametrize(("asked", "patches"), [(3, 3), (100, 6), (0.5, 4), (0.0, 0), (0.01, 1)])
def test_every_item_loses_as_many_whole_patches(asked, patches):
    spec, length = ones(200, 105)  # the shorter has 6 patches of 16; half of its 105 frames are 4 of them
    masked = MaskedPatchAugmentation(patch_size=16, mask_patches=asked)(input_spec=spec, length=length)
    by_patch = (masked[:, 0, :192] == 0.0).view(2, 12, 16)
    assert torch.equal(by_patch.all(dim=2), by_patch.any(dim=2))
    assert by_patch.all(dim=2).sum(dim=1).tolist() == [patches, patches]
    assert not (masked[1, :, 96:] == 0.0).any()


def test_patches_follow_pythons_generator():
    spec, length = ones(200, 150)
    module, results = MaskedPatchAugmentation(patch_size=16, mask_patches=3), []
    for seed in (1, 1, 2):
        random.seed(seed)
        results.append(module(input_spec=spec, length=length))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (SpectrogramAugmentation, {"time_width": 1.5}, "time_width: 1.5"),
        (SpectrogramAugmentation, {"freq_masks": 1, "use_vectorized_spec_augment": False}, "use_vectorized"),
        (MaskedPatchAugmentation, {"mask_patches": -1}, "mask_patches: -1"),
        (MaskedPatchAugmentation, {"patch_size": 0}, "patch_size: 0"),
    ],
)
def test_impossible_options_are_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        module(**options)
