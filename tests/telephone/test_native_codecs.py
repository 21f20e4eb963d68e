"""What all codecs in shared libraries keep: length, alignment, input, the same bits whatever runs beside."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from nest_ssl.telephone.codecs import CODECS, codec
from nest_ssl.telephone.codecs.base import CodecMissing
from tests.telephone.measures import lag_samples, level_db

NATIVE = ("gsm_fr", "amr_nb", "gsm_efr", "opus_nb", "g729", "amr_wb", "speex_nb")
WITHOUT_SYSTEM_LIBRARIES = ("gsm_fr", "amr_nb", "gsm_efr", "opus_nb")


def settings_of(name: str) -> list[tuple[str, dict]]:
    """Every mode of the codec once, with and without DTX at its default mode."""
    choices = CODECS[name].choices
    modes = [{"kbps": kbps} for kbps in choices.get("kbps", ())] or [{}]
    if name == "opus_nb":
        modes = [
            {"kbps": 6},
            {"kbps": 12.5},
            {"kbps": 24, "fec": True},
            {"complexity": 0},
            {"complexity": 10},
        ]
    return [(name, mode) for mode in modes] + ([(name, {"dtx": True})] if "dtx" in choices else [])


ALL_SETTINGS = [setting for name in NATIVE for setting in settings_of(name)]


def here(name: str):
    """The codec, or a skipped test."""
    try:
        CODECS[name].check()
    except CodecMissing as error:
        pytest.skip(str(error))
    return codec(name)


@pytest.fixture(scope="module")
def signals(speech, narrow_speech) -> dict[int, np.ndarray]:
    """Five seconds of speech by sample rate."""
    wide = np.rint(np.clip(speech * 32768, -32768, 32767)).astype(np.int16)
    return {8000: narrow_speech[:40000], 16000: wide[:80000]}


@pytest.mark.parametrize("name", WITHOUT_SYSTEM_LIBRARIES)
def test_codecs_of_the_default_mix_need_no_system_library(name):
    CODECS[name].check()
    assert CODECS[name].route()
    assert CODECS[name].version()


@pytest.mark.parametrize("setting", ALL_SETTINGS, ids=str)
def test_speech_stays_where_it_was(setting, signals):
    name, parameters = setting
    samples = signals[here(name).sample_rate]
    decoded = codec(name).encode_decode(samples, parameters)
    assert abs(lag_samples(samples, decoded, codec(name).sample_rate)) < 1.0
    assert level_db(decoded) == pytest.approx(level_db(samples), abs=2.0)


@pytest.mark.parametrize("length", [0, 1, 79, 159, 160, 161, 319, 320, 321])
@pytest.mark.parametrize("name", NATIVE)
def test_length_is_kept(name, length):
    samples = np.full(length, 1000, np.int16)
    kept = samples.copy()
    frames = -(-length // here(name).frame_samples)
    for lost in (None, np.zeros(frames, bool), np.ones(frames, bool)):
        decoded = codec(name).encode_decode(samples, {}, lost)
        assert decoded.dtype == np.int16
        assert len(decoded) == length
    np.testing.assert_array_equal(samples, kept)


@pytest.mark.parametrize("name", NATIVE)
def test_a_read_only_strided_view_is_coded_as_its_values(name, signals):
    """The library reads an address: neighbours in memory must not get in, nor may it write there."""
    samples = signals[here(name).sample_rate][:8000]
    sparse = np.repeat(samples, 3)
    sparse.flags.writeable = False
    decoded = codec(name).encode_decode(sparse[::3], {})
    np.testing.assert_array_equal(decoded, codec(name).encode_decode(samples, {}))


@pytest.mark.parametrize("setting", ALL_SETTINGS[::3], ids=str)
def test_same_bits_in_every_call_and_thread(setting, signals):
    name, parameters = setting
    rate = here(name).sample_rate
    samples = signals[rate][:rate]
    lost = np.zeros(-(-len(samples) // codec(name).frame_samples), bool)
    lost[5::9] = True
    expected = codec(name).encode_decode(samples, parameters, lost)
    other = signals[rate][rate:]
    with ThreadPoolExecutor(4) as threads:
        run = partial(codec(name).encode_decode, parameters=parameters)
        futures = [(threads.submit(run, samples, lost=lost), threads.submit(run, other)) for _ in range(4)]
        for future, _ in futures:
            np.testing.assert_array_equal(future.result(), expected)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.parametrize("name", WITHOUT_SYSTEM_LIBRARIES)
def test_a_library_loaded_before_a_fork_gives_the_same_bits_after_it(name, signals):
    samples = signals[8000][:8000]
    expected = codec(name).encode_decode(samples, {})
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(codec(name).encode_decode, (samples, {})), expected)


@pytest.mark.parametrize("name", NATIVE)
def test_extreme_signals_stay_within_sixteen_bits(name):
    here(name)
    square = np.where(np.arange(4000) // 20 % 2, 32767, -32768).astype(np.int16)
    decoded = codec(name).encode_decode(square, {})
    # a wrap-around would turn the sign at the crests; codecs shift the phase of low harmonics a little
    likeness = [np.corrcoef(decoded[2000:3900], square[2000 + k : 3900 + k])[0, 1] for k in range(-15, 16)]
    assert max(likeness) > 0.7
    assert level_db(codec(name).encode_decode(np.zeros(4000, np.int16), {})) < 25


@pytest.mark.parametrize("name", NATIVE)
def test_lost_frames_are_concealed_from_what_came_before(name, signals):
    rate, frame = here(name).sample_rate, CODECS[name].frame_samples
    samples = signals[rate]
    lost, loud = loud_frames_lost(samples, frame)
    clean = codec(name).encode_decode(samples, {})
    concealed = frames_of(codec(name).encode_decode(samples, {}, lost), frame)[loud]
    assert np.all(np.abs(concealed).max(axis=1) > 0)
    lowest_db = (
        -25 if name == "amr_wb" else -8
    )  # opencore's wideband decoder mutes hard from the first frame on
    assert lowest_db < level_db(concealed) - level_db(frames_of(clean, frame)[loud]) < 2


@pytest.mark.parametrize("name", NATIVE)
def test_a_receiver_without_concealment_plays_zeros(name, signals):
    rate, frame = here(name).sample_rate, CODECS[name].frame_samples
    samples = signals[rate]
    lost, loud = loud_frames_lost(samples, frame)
    decoded = codec(name).encode_decode(samples, {"concealment": "zeros"}, lost)
    delay = round(codec(name).delay_samples)
    for index in loud[1:]:
        start = index * frame - delay  # the delay is cut off, and with it the frames move
        assert not decoded[start : start + frame].any()
    assert level_db(decoded) > level_db(samples) - 3


@pytest.mark.parametrize("name", NATIVE)
def test_a_long_loss_ends_in_silence_and_speech_comes_back(name, signals):
    rate, frame = here(name).sample_rate, CODECS[name].frame_samples
    samples = signals[rate]
    lost, loud = loud_frames_lost(samples, frame)
    lost[:] = False
    start = int(loud[3])
    end = start + int(0.8 * rate / frame)
    lost[start:end] = True
    decoded = codec(name).encode_decode(samples, {}, lost)
    muted = frames_of(decoded, frame)[start + int(0.36 * rate / frame) : end - 1]
    # dB re one LSB; full scale is 90. The silence frame of GSM is a faint noise, and G.729 fades slowly.
    assert level_db(muted) < (35 if name == "g729" else 25)
    clean = codec(name).encode_decode(samples, {})
    after = (end + int(0.3 * rate / frame)) * frame
    assert level_db(decoded[after:]) == pytest.approx(level_db(clean[after:]), abs=1.5)
    np.testing.assert_array_equal(decoded[: (start - 1) * frame], clean[: (start - 1) * frame])


@pytest.mark.parametrize("name", NATIVE)
def test_no_loss_is_the_same_as_no_mask(name, signals):
    rate = here(name).sample_rate
    samples = signals[rate][:rate]
    none_lost = np.zeros(-(-len(samples) // codec(name).frame_samples), bool)
    expected = codec(name).encode_decode(samples, {})
    np.testing.assert_array_equal(codec(name).encode_decode(samples, {}, none_lost), expected)
    np.testing.assert_array_equal(
        codec(name).encode_decode(samples, {"concealment": "zeros"}, none_lost), expected
    )


@pytest.mark.parametrize("name", NATIVE)
def test_a_mask_of_another_length_is_refused(name):
    frames = 1000 // here(name).frame_samples + 1
    with pytest.raises(ValueError, match=f"{frames + 1} flags for {frames} frames"):
        codec(name).encode_decode(np.zeros(1000, np.int16), {}, np.zeros(frames + 1, bool))


@pytest.mark.parametrize("samples", [np.zeros(400, np.float32), np.zeros((400, 2), np.int16)], ids=str)
def test_samples_that_are_not_int16_of_one_channel_are_refused(samples):
    with pytest.raises(ValueError, match=r"takes int16 \(T,\), not"):
        codec("amr_nb").encode_decode(samples, {})


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("amr_nb", {"kbps": 12}, "kbps must be one of 12.2, 10.2, 7.95, 7.4, 6.7, 5.9, 5.15, 4.75, not 12"),
        ("amr_nb", {"dtx": 1}, "dtx must be one of False, True, not 1"),
        ("amr_nb", {"mode": 7}, "'mode' .* is no parameter; known are kbps, dtx, concealment"),
        ("gsm_efr", {"kbps": 4.75}, "'kbps' .* is no parameter"),
        ("gsm_fr", {"concealment": "none"}, "concealment must be one of 'codec', 'zeros', not 'none'"),
        ("opus_nb", {"kbps": 5.9}, "kbps must be a number from 6 to 24, not 5.9"),
        ("opus_nb", {"kbps": "16"}, "kbps must be a number from 6 to 24, not '16'"),
        ("opus_nb", {"kbps": float("nan")}, "kbps must be a number from 6 to 24, not nan"),
        ("opus_nb", {"complexity": 11}, "complexity must be one of 5, 0, 1"),
        ("opus_nb", {"expected_loss_percent": True}, "expected_loss_percent must be a number from 0 to 100"),
        ("amr_wb", {"kbps": 12.2}, "kbps must be one of 12.65, 6.6"),
        ("speex_nb", {"kbps": 2.15}, "kbps must be one of 15.0"),
        ("g729", {"kbps": 8}, "'kbps' .* is no parameter"),
    ],
)
def test_wrong_parameters_are_refused_with_the_allowed_ones(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        CODECS[name].check_parameters(parameters)


def frames_of(samples: np.ndarray, frame: int) -> np.ndarray:
    """(N, frame), whole ones only."""
    return samples[: len(samples) // frame * frame].reshape(-1, frame)


def loud_frames_lost(samples: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask with single frames of voiced speech lost, and their numbers."""
    energy = (frames_of(samples, frame).astype(float) ** 2).mean(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 0.05)
    loud = loud[(loud > 10) & (loud < len(energy) * 0.7)][::9]
    lost = np.zeros(-(-len(samples) // frame), bool)
    lost[loud] = True
    return lost, loud
