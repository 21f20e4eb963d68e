"""Codecs through PyAV and soundfile with any length, any samples and any loss."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.telephone.codecs import codec

LINE = ("g726", "g7231", "g722")
RECORDERS = ("ima_adpcm", "vox_adpcm", "gsm_wav49", "mp3")
KINDS = ("zeros", "highest", "lowest", "square", "noise", "click")


def make_samples(kind: str, length: int, seed: int) -> np.ndarray:
    samples = np.zeros(length, np.int16)
    if kind == "highest":
        samples[:] = 32767
    elif kind == "lowest":
        samples[:] = -32768
    elif kind == "square":
        samples[:] = np.where(np.arange(length) // (1 + seed % 40) % 2, -32768, 32767)
    elif kind == "noise":
        samples[:] = np.random.default_rng(seed).integers(-32768, 32768, length)
    elif kind == "click" and length:
        samples[seed % length] = -32768
    return samples


@st.composite
def calls(draw, names):
    """A codec, drawn parameters of it, samples, and lost frames."""
    name = draw(st.sampled_from(names))
    parameters = {}
    for parameter, values in codec(name).choices.items():
        if draw(st.booleans()):
            parameters[parameter] = draw(st.sampled_from(values))
    length = draw(st.integers(0, 1000))
    samples = make_samples(draw(st.sampled_from(KINDS)), length, draw(st.integers(0, 999)))
    num_frames = -(-length // codec(name).frame_samples)
    lost = draw(st.none() | st.lists(st.booleans(), min_size=num_frames, max_size=num_frames))
    return name, parameters, samples, lost if lost is None else np.array(lost, bool)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(calls(LINE))
def test_line_codec_keeps_length_and_input_and_repeats_itself(call):
    name, parameters, samples, lost = call
    before = samples.copy()
    decoded = codec(name).encode_decode(samples, parameters, lost)
    assert decoded.dtype == np.int16
    assert decoded.shape == samples.shape
    np.testing.assert_array_equal(samples, before)
    np.testing.assert_array_equal(codec(name).encode_decode(samples, parameters, lost), decoded)
    if lost is not None and lost.all() and parameters.get("concealment") == "zeros":
        delay = round(codec(name).delay_samples)
        assert not decoded[: max(len(lost) * codec(name).frame_samples - delay, 0)].any()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(calls(RECORDERS))
def test_recorder_codec_keeps_length_and_input_and_repeats_itself(call):
    name, parameters, samples, _ = call
    before = samples.copy()
    decoded = codec(name).encode_decode(samples, parameters)
    assert decoded.dtype == np.int16
    assert decoded.shape == samples.shape
    np.testing.assert_array_equal(samples, before)
    np.testing.assert_array_equal(codec(name).encode_decode(samples, parameters), decoded)


@pytest.mark.parametrize("name", LINE + RECORDERS)
def test_threads_give_the_same_as_one_after_the_other(name):
    pieces = [make_samples("noise", 800 + 7 * seed, seed) // 4 for seed in range(6)]
    expected = [codec(name).encode_decode(piece, {}) for piece in pieces]
    with ThreadPoolExecutor(6) as pool:
        decoded = list(pool.map(lambda piece: codec(name).encode_decode(piece, {}), pieces * 2))
    for ours, one_by_one in zip(decoded, expected * 2, strict=True):
        np.testing.assert_array_equal(ours, one_by_one)


@pytest.mark.parametrize("name", LINE + RECORDERS)
def test_what_is_said_before_changes_nothing(name):
    loud, quiet = make_samples("noise", 960, 1), make_samples("noise", 960, 2) // 64
    alone = codec(name).encode_decode(quiet, {})
    codec(name).encode_decode(loud, {})
    np.testing.assert_array_equal(codec(name).encode_decode(quiet, {}), alone)


@pytest.mark.parametrize("name", LINE + RECORDERS)
def test_read_only_and_strided_input_is_taken(name):
    samples = make_samples("noise", 1600, 3)
    expected = codec(name).encode_decode(samples[::2].copy(), {})
    samples.flags.writeable = False
    np.testing.assert_array_equal(codec(name).encode_decode(samples[::2], {}), expected)


@pytest.mark.parametrize("name", LINE + RECORDERS)
def test_silence_stays_quiet(name):
    decoded = codec(name).encode_decode(np.zeros(2000, np.int16), {})
    assert np.abs(decoded.astype(int)).max() < 40


@pytest.mark.parametrize("name", LINE + RECORDERS)
@pytest.mark.parametrize("samples", (np.zeros(160, np.float32), np.zeros((160, 2), np.int16)))
def test_other_than_one_channel_of_int16_is_refused(name, samples):
    with pytest.raises(ValueError, match=r"int16 \(T,\), not"):
        codec(name).encode_decode(samples, {})


@pytest.mark.parametrize("name", LINE)
def test_loss_of_another_length_is_refused(name):
    with pytest.raises(ValueError, match="lost"):
        codec(name).encode_decode(np.zeros(960, np.int16), {}, np.zeros(2, bool))


@pytest.mark.parametrize("name", LINE + RECORDERS)
def test_codec_is_here_and_says_what_it_is(name):
    codec(name).check()
    codec(name).check_parameters({key: values[0] for key, values in codec(name).choices.items()})
    assert any(digit in codec(name).version() for digit in "0123456789")
    assert codec(name).route()
    with pytest.raises(ValueError, match=f"{name}: 'speed'"):
        codec(name).check_parameters({"speed": 3})
