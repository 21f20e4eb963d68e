"""G.726 through FFmpeg, and through spandsp where it is there."""

import numpy as np
import pytest

from nest_ssl.telephone import plc
from nest_ssl.telephone.codecs import codec, g726
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.libraries import load_library
from tests.telephone import g726_plain
from tests.telephone.measures import lag_samples, level_db, segmental_snr_db, spectrum_change_db
from tests.telephone.programs import ffmpeg

RATES = (16, 24, 32, 40)
ENGLISH = 28207  # samples of narrow_speech
RAW = "-f s16le -ar 8000 -ac 1"


@pytest.fixture(autouse=True)
def _by_default(monkeypatch):
    """FFmpeg's coder, whatever the environment says."""
    monkeypatch.delenv("NEST_CODEC_LIBRARIES", raising=False)


@pytest.fixture
def spandsp(monkeypatch):
    """G.726 by the system's spandsp."""
    try:
        load_library("spandsp")
    except CodecMissing as missing:
        pytest.skip(str(missing))
    monkeypatch.setenv("NEST_CODEC_LIBRARIES", "system")


@pytest.mark.parametrize("kbps", RATES)
def test_same_bits_and_samples_as_the_ffmpeg_program(kbps, narrow_speech):
    samples = narrow_speech[:16000]
    coded = ffmpeg(samples.tobytes(), RAW, f"-c:a g726 -b:a {kbps}k -f g726")
    assert g726.encode(samples, kbps) == coded[: len(samples) * kbps // 64]
    decoded = ffmpeg(coded, f"-f g726 -code_size {kbps // 8} -sample_rate 8000", RAW)
    theirs = np.frombuffer(decoded, np.int16)[: len(samples)]
    ours = codec("g726").encode_decode(samples, {"kbps": kbps})
    # theirs turn over at full scale where ours are limited
    same = ours == theirs
    assert np.all(same | (np.abs(ours.astype(int)) >= 32767))
    assert same.mean() > 0.999


@pytest.mark.parametrize("kbps", RATES)
def test_spandsp_decodes_as_the_recommendation_says(kbps, narrow_speech, spandsp):
    samples = narrow_speech[8000:16000]
    coded = g726.encode(samples, kbps)
    np.testing.assert_array_equal(g726.decode(coded, kbps, samples), g726_plain.decode(coded, kbps))


@pytest.mark.parametrize("kbps", (16, 24, 32))
def test_ffmpeg_decodes_low_noise_as_the_recommendation_says(kbps):
    samples = np.random.default_rng(1).normal(0, 20, 4000).astype(np.int16)
    coded = g726.encode(samples, kbps)
    np.testing.assert_array_equal(g726.decode(coded, kbps, samples), g726_plain.decode(coded, kbps))


@pytest.mark.parametrize("kbps", RATES)
def test_ffmpeg_and_spandsp_are_equally_good(kbps, narrow_speech, spandsp, monkeypatch):
    exact = codec("g726").encode_decode(narrow_speech, {"kbps": kbps})
    monkeypatch.delenv("NEST_CODEC_LIBRARIES")
    decoded = codec("g726").encode_decode(narrow_speech, {"kbps": kbps})
    assert not np.array_equal(decoded, exact)
    expected = segmental_snr_db(narrow_speech, exact)
    assert segmental_snr_db(narrow_speech, decoded) == pytest.approx(expected, abs=0.5)


def test_the_version_tells_the_two_apart(spandsp, monkeypatch):
    assert codec("g726").version().startswith("libspandsp")
    assert "spandsp" in codec("g726").route()
    monkeypatch.delenv("NEST_CODEC_LIBRARIES")
    assert codec("g726").version().startswith("libavcodec")


@pytest.mark.parametrize(("kbps", "expected"), ((16, 18.9), (24, 24.3), (32, 29.6), (40, 34.3)))
def test_snr_is_that_of_the_bit_rate(kbps, expected, narrow_speech):
    # measured with FFmpeg over two minutes of other prompts in English
    english = narrow_speech[:ENGLISH]
    decoded = codec("g726").encode_decode(english, {"kbps": kbps})
    error = decoded.astype(float) - english
    assert level_db(english) - level_db(error) == pytest.approx(expected, abs=2.5)
    assert abs(lag_samples(english, decoded, 8000)) < 0.1


def test_32_kbps_keeps_the_long_term_spectrum(narrow_speech):
    decoded = codec("g726").encode_decode(narrow_speech, {})
    assert np.abs(spectrum_change_db(narrow_speech, decoded, 8000, (100, 300, 1000, 2000, 3000))).max() < 0.2
    english = segmental_snr_db(narrow_speech[:ENGLISH], decoded[:ENGLISH])
    assert english == pytest.approx(32.7, abs=3.0)


@pytest.mark.parametrize("kbps", RATES)
def test_full_scale_is_limited_and_does_not_turn_over(kbps):
    time = np.arange(8000)
    for samples in (
        np.rint(32767 * np.sin(2 * np.pi * 440 / 8000 * time)),
        np.where(time // 16 % 2, -32768, 32767),
        np.full(8000, 32767),
        np.full(8000, -32768),
    ):
        samples = samples.astype(np.int16)
        decoded = codec("g726").encode_decode(samples, {"kbps": kbps})
        loud = np.abs(decoded.astype(int)) > 16384
        assert loud[100:].mean() > 0.5
        assert not np.any(loud & (np.abs(samples.astype(int)) > 16384) & ((decoded < 0) != (samples < 0)))


def test_a_jump_from_silence_to_full_scale_is_no_turn_over():
    samples = np.full(160, -32768, np.int16)
    decoded = codec("g726").encode_decode(samples, {"kbps": 32})
    assert -100 <= decoded[0] <= 100  # the step size has yet to grow


def test_decoder_goes_on_with_what_arrives(narrow_speech):
    samples = narrow_speech[: 100 * 160]
    lost = np.zeros(100, bool)
    lost[[40, 41, 77]] = True
    decoded = codec("g726").encode_decode(samples, {"concealment": "zeros"}, lost)
    coded = np.frombuffer(g726.encode(samples, 32), np.uint8).reshape(100, 80)
    expected = np.zeros((100, 160), np.int16)
    near = samples.reshape(100, 160)[~lost].reshape(-1)
    expected[~lost] = g726.decode(coded[~lost].tobytes(), 32, near).reshape(-1, 160)
    np.testing.assert_array_equal(decoded, expected.reshape(-1))


def test_concealed_gap_sounds_like_what_was_before(narrow_speech):
    frames = narrow_speech[: len(narrow_speech) // 160 * 160].reshape(-1, 160).astype(float)
    loudest = int(np.argmax((frames[:-1] ** 2).mean(axis=1)[20:])) + 20
    lost = np.zeros(-(-len(narrow_speech) // 160), bool)
    lost[loudest + 1] = True
    gap = slice((loudest + 1) * 160, (loudest + 2) * 160)
    concealed = codec("g726").encode_decode(narrow_speech, {}, lost)
    assert abs(level_db(concealed[gap]) - level_db(narrow_speech[gap])) < 9
    zeros = codec("g726").encode_decode(narrow_speech, {"concealment": "zeros"}, lost)
    assert not zeros[gap].any()


def test_missing_encoder_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr(g726.G726, "encoder", "no_such_encoder")
    with pytest.raises(CodecMissing, match=r"g726: .*no encoder 'no_such_encoder'; .*pip install"):
        codec("g726").check()


def test_unknown_bit_rate_is_refused():
    with pytest.raises(ValueError, match="g726: kbps must be one of 32, 24, 40, 16, not 64"):
        codec("g726").check_parameters({"kbps": 64})


def test_the_version_tells_which_concealment():
    assert codec("g726").version().endswith(f" plc {plc.VERSION}")
