"""WavFrontend and its Kaldi features, against torchaudio's and plain loops."""

import pickle

import pytest
import torch

from nest_ssl.modules.kaldi_fbank import WINDOWS
from nest_ssl.modules.wav_frontend import WavFrontend, read_cmvn, stack


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("fs", "mels", "snip"), [(16000, 80, True), (8000, 23, False)])
def test_energies_are_those_of_torchaudio(window, fs, mels, snip):
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    samples = noise(3001)
    expected = kaldi.fbank(
        samples[None] * 32768,
        num_mel_bins=mels,
        frame_length=25,
        frame_shift=10,
        dither=0.0,
        energy_floor=0.0,
        window_type=window,
        sample_frequency=fs,
        snip_edges=snip,
    )
    frontend = WavFrontend(fs=fs, n_mels=mels, window=window, snip_edges=snip)
    found = frontend.features(samples)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)
    assert len(found) == frontend.frames_of(len(samples))


@pytest.mark.parametrize("samples", [2, 159, 160, 161, 303, 399, 400, 401, 1360, 1361, 16000])
@pytest.mark.parametrize("snip", [True, False])
def test_frames_of_is_the_number_of_frames(samples, snip):
    frontend = WavFrontend(n_mels=8, lfr_m=7, lfr_n=6, snip_edges=snip)
    if not snip and samples < 80:
        return  # Kaldi has no frame there
    assert len(frontend.features(noise(samples))) == frontend.frames_of(samples)


@pytest.mark.parametrize(
    ("frames", "count", "step"), [(1, 7, 6), (13, 7, 6), (12, 5, 3), (9, 3, 1), (4, 1, 1)]
)
def test_stacking_repeats_the_first_and_the_last_frame(frames, count, step):
    x = torch.arange(2.0 * frames).view(frames, 2)
    rows = []
    for middle in range(0, frames, step):
        taken = [min(max(middle - (count - 1) // 2 + j, 0), frames - 1) for j in range(count)]
        rows.append(torch.cat([x[i] for i in taken]))
    assert torch.equal(stack(x, count, step), torch.stack(rows))


def test_dither_is_drawn_from_the_generator_alone():
    frontend = WavFrontend(n_mels=20)
    samples = noise(2000)
    quiet = frontend.features(samples)
    before = torch.get_rng_state()
    first, second = (frontend.features(samples, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(frontend.features(samples), quiet)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < (first - quiet).abs().mean() < 1


def test_augmentation_sees_energies_before_they_are_stacked():
    seen = []

    def blank(energies):
        seen.append(energies.shape)
        return torch.zeros_like(energies)

    features = WavFrontend(n_mels=10, lfr_m=7, lfr_n=6).features(noise(4000), augment=blank)
    assert seen == [(23, 10)]
    assert features.shape == (4, 70)
    assert not features.any()


def test_a_pickled_front_end_gives_the_same():
    frontend = WavFrontend(n_mels=10, lfr_m=3, lfr_n=2)
    copied = pickle.loads(pickle.dumps(frontend))
    assert torch.equal(copied.features(noise(3000)), frontend.features(noise(3000)))
    assert (copied.output_size(), copied.frame_s) == (30, 0.02)


def cmvn_text(width: int) -> str:
    row = " ".join(["-1.5"] + ["0.5"] * (width - 1))
    return (
        f"<Nnet>\n<Splice> {width} {width}\n[ 0 ]\n<AddShift> {width} {width}\n<LearnRateCoef> 0 [ {row} ]\n"
        f"<Rescale> {width} {width}\n<LearnRateCoef> 0 [ {' '.join(['2'] * width)} ]\n</Nnet>\n"
    )


def test_cmvn_is_shift_and_scale_behind_the_stacking(tmp_path):
    (tmp_path / "am.mvn").write_text(cmvn_text(30))
    options = {"n_mels": 10, "lfr_m": 3, "lfr_n": 2}
    plain = WavFrontend(**options).features(noise(3000))
    expected = (plain + torch.tensor([-1.5] + [0.5] * 29)) * 2
    found = WavFrontend(**options, cmvn_file=tmp_path / "am.mvn").features(noise(3000))
    torch.testing.assert_close(found, expected)


def test_what_cannot_be_met_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="cmvn_file"):
        WavFrontend(cmvn_file=tmp_path / "none")
    (tmp_path / "am.mvn").write_text(cmvn_text(30))
    with pytest.raises(ValueError, match="30 values, features have 80"):
        WavFrontend(cmvn_file=tmp_path / "am.mvn")
    (tmp_path / "am.mvn").write_text("<Nnet>")
    with pytest.raises(ValueError, match="AddShift"):
        read_cmvn(tmp_path / "am.mvn", 30)
    with pytest.raises(ValueError, match="window: 'hann' is not one of"):
        WavFrontend(window="hann")
    with pytest.raises(ValueError, match="lfr_n: 0"):
        WavFrontend(lfr_n=0)
    with pytest.raises(ValueError, match="two or more"):
        WavFrontend().features(torch.zeros(1))
