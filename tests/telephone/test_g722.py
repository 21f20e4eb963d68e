"""G.722 at 16 kHz through FFmpeg."""

from ctypes import c_int, c_void_p

import numpy as np
import pytest

from nest_ssl.telephone import plc
from nest_ssl.telephone.codecs import codec, g722
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.libraries import load_library
from tests.telephone.conftest import PROMPTS
from tests.telephone.measures import lag_samples, level_db, spectrum_change_db
from tests.telephone.programs import ffmpeg

RAW = "-f s16le -ar 16000 -ac 1"


@pytest.fixture(scope="module")
def wide_speech(speech):
    """The same as int16."""
    return np.rint(speech * 32768).astype(np.int16)


def test_same_bits_and_samples_as_the_ffmpeg_program(wide_speech):
    samples = wide_speech[:32000]
    coded = ffmpeg(samples.tobytes(), RAW, "-c:a g722 -f g722")
    assert g722.encode(samples) == coded[:16000]
    theirs = np.frombuffer(ffmpeg(coded, "-f g722", RAW), np.int16)
    ours = codec("g722").encode_decode(samples, {})
    np.testing.assert_array_equal(ours[:-22], theirs[22:32000])


def test_same_samples_as_spandsp(wide_speech):
    try:
        library = load_library("spandsp")
    except CodecMissing as missing:
        pytest.skip(str(missing))
    samples = wide_speech[:32000]
    coded = np.frombuffer(g722.encode(samples), np.uint8)
    decoded = np.zeros(len(samples), np.int16)
    state = library.function("g722_decode_init", c_void_p, c_void_p, c_int, c_int)(None, 64000, 0)
    decode = library.function("g722_decode", c_int, c_void_p, c_void_p, c_void_p, c_int)
    assert decode(state, decoded.ctypes.data, coded.ctypes.data, len(coded)) == len(samples)
    library.function("g722_decode_free", c_int, c_void_p)(state)
    np.testing.assert_array_equal(g722.decode(coded.tobytes(), 64), decoded)


def test_prompts_of_a_telephone_server_are_coded_again_almost_unchanged():
    stored = (PROMPTS / "en" / "auth-thankyou.g722").read_bytes()
    prompt = g722.decode(stored, 64)
    again = codec("g722").encode_decode(prompt, {})
    error = again.astype(float) - prompt
    assert level_db(prompt) - level_db(error) > 35


@pytest.mark.parametrize(("kbps", "expected"), ((64, 41), (56, 36), (48, 30)))
def test_snr_is_that_of_the_mode(kbps, expected, wide_speech):
    # the first was measured with FFmpeg on other prompts; each bit less of the low band costs 5 to 6 dB
    english = wide_speech[:50000]
    decoded = codec("g722").encode_decode(english, {"kbps": kbps})
    assert level_db(english) - level_db(decoded.astype(float) - english) == pytest.approx(expected, abs=3.0)
    assert abs(lag_samples(english, decoded, 16000)) < 0.1


def test_long_term_spectrum_is_kept_up_to_7_khz(wide_speech):
    decoded = codec("g722").encode_decode(wide_speech, {})
    centres = (100, 300, 1000, 2000, 3000, 5000, 6000)
    assert np.abs(spectrum_change_db(wide_speech, decoded, 16000, centres)).max() < 0.5


@pytest.mark.parametrize("length", (0, 1, 2, 297, 298, 299, 319, 320, 321))
def test_length_is_kept_where_the_delay_needs_another_frame(length):
    samples = np.full(length, 1000, np.int16)
    lost = np.ones(-(-length // 320), bool)
    assert len(codec("g722").encode_decode(samples, {})) == length
    assert len(codec("g722").encode_decode(samples, {}, lost)) == length


def test_lost_frames_are_silent_with_zeros_and_filled_otherwise(wide_speech):
    frames = wide_speech[: len(wide_speech) // 320 * 320].reshape(-1, 320).astype(float)
    loudest = int(np.argmax((frames[20:-1] ** 2).mean(axis=1))) + 20
    lost = np.zeros(-(-len(wide_speech) // 320), bool)
    lost[loudest + 1] = True
    gap = slice((loudest + 1) * 320 - 22, (loudest + 2) * 320 - 22)  # the decoder's frame, without its delay
    zeros = codec("g722").encode_decode(wide_speech, {"concealment": "zeros"}, lost)
    assert not zeros[gap].any()
    assert zeros[gap.start - 4 : gap.start].any()
    assert zeros[gap.stop : gap.stop + 4].any()
    filled = codec("g722").encode_decode(wide_speech, {}, lost)
    assert abs(level_db(filled[gap]) - level_db(wide_speech[gap])) < 9


def test_frames_after_a_loss_are_decoded_in_the_state_before_it(wide_speech):
    samples = wide_speech[: 60 * 320]
    lost = np.zeros(60, bool)
    lost[20:23] = True
    decoded = codec("g722").encode_decode(samples, {"concealment": "zeros"}, lost)
    padded = np.concatenate([samples, np.zeros(320, np.int16)])
    arrived = np.frombuffer(g722.encode(padded), np.uint8).reshape(61, 160)[~np.append(lost, False)]
    expected = g722.decode(arrived.tobytes(), 64)
    # in the decoder's time, frame n of the line is frame n - 3 of what arrived; both 22 samples late
    after = decoded[23 * 320 - 22 :]
    np.testing.assert_array_equal(after, expected[20 * 320 :][: len(after)])


def test_the_version_tells_which_concealment():
    assert codec("g722").version().endswith(f" plc {plc.VERSION}")
