"""G.723.1 at 6.3 kbit/s through FFmpeg, its concealment included."""

import numpy as np
import pytest

from nest_ssl.telephone.codecs import codec, g7231
from tests.telephone.measures import lag_samples, level_db, spectrum_change_db
from tests.telephone.programs import ffmpeg

RAW = "-f s16le -ar 8000 -ac 1"
FRAME = 240


def hum(num_frames: int) -> np.ndarray:
    """A voice that holds a note: 130 Hz and its overtones, falling by 6 dB per octave."""
    time = np.arange(num_frames * FRAME) / 8000
    return sum(3000 / n * np.sin(2 * np.pi * 130 * n * time) for n in range(1, 20)).astype(np.int16)


def frame_level_db(decoded: np.ndarray, frame: int) -> float:
    start = frame * FRAME - 60  # the decoder's frame, without the delay
    return level_db(decoded[start : start + FRAME])


def test_same_bits_and_samples_as_the_ffmpeg_program(narrow_speech):
    samples = narrow_speech[: 60 * FRAME]
    coded = ffmpeg(samples.tobytes(), RAW, "-c:a g723_1 -b:a 6300 -f g723_1")
    if len(coded) != 60 * 24:
        pytest.skip(f"this ffmpeg codes 60 frames as {len(coded)} bytes")
    assert g7231.encode(samples) == coded
    theirs = np.frombuffer(ffmpeg(coded, "-f g723_1", RAW), np.int16)
    np.testing.assert_array_equal(codec("g7231").encode_decode(samples, {})[:-60], theirs[60 : 60 * FRAME])


def test_frames_are_24_bytes_of_the_high_rate(narrow_speech):
    coded = np.frombuffer(g7231.encode(narrow_speech[: 20 * FRAME]), np.uint8).reshape(20, 24)
    assert not np.any(coded[:, 0] & 3)


def test_aligned_and_as_good_as_measured(narrow_speech):
    # 15.1 dB was measured with FFmpeg over two minutes of other prompts in English
    english = narrow_speech[:28207]
    decoded = codec("g7231").encode_decode(english, {})
    assert abs(lag_samples(english, decoded, 8000)) < 0.5
    assert level_db(english) - level_db(decoded.astype(float) - english) == pytest.approx(15.1, abs=3.0)
    assert np.abs(spectrum_change_db(english, decoded, 8000, (300, 1000, 2000))).max() < 3


def test_erased_frame_is_none_that_the_encoder_makes(narrow_speech):
    coded = np.frombuffer(g7231.encode(narrow_speech[: 100 * FRAME]), np.uint8).reshape(100, 24).astype(int)
    pitch_code = coded[:, 3] >> 2 | (coded[:, 4] & 1) << 6
    assert pitch_code.max() <= 123
    assert g7231.ERASED[3] >> 2 | (g7231.ERASED[4] & 1) << 6 > 123


def test_erased_frames_go_on_sounding_and_are_mute_from_the_third_on():
    samples = hum(60)
    lost = np.zeros(60, bool)
    lost[30:36] = True
    whole = codec("g7231").encode_decode(samples, {})
    decoded = codec("g7231").encode_decode(samples, {}, lost)
    np.testing.assert_array_equal(decoded[: 30 * FRAME - 60], whole[: 30 * FRAME - 60])
    change = [frame_level_db(decoded, n) - frame_level_db(whole, n) for n in range(30, 45)]
    assert -6 < change[0] < 0
    assert change[0] - 8 < change[1] < change[0] - 2
    assert max(change[2:6]) < -60
    assert max(change[6:]) < 1
    assert change[14] > -6  # and comes back


@pytest.mark.parametrize("burst", (1, 2, 3, 5))
def test_concealment_never_makes_speech_louder(burst, narrow_speech):
    samples = narrow_speech[: 400 * FRAME]
    lost = np.zeros(400, bool)
    for first in range(7, 390, 17):
        lost[first : first + burst] = True
    whole = codec("g7231").encode_decode(samples, {}).astype(float)
    decoded = codec("g7231").encode_decode(samples, {}, lost).astype(float)
    assert level_db(decoded) < level_db(whole)
    assert np.abs(decoded).max() < 1.5 * np.abs(whole).max()


def test_zeros_play_nothing_for_a_lost_frame_and_the_rest_goes_on():
    samples = hum(60)
    lost = np.zeros(60, bool)
    lost[30:32] = True
    decoded = codec("g7231").encode_decode(samples, {"concealment": "zeros"}, lost)
    gap = slice(30 * FRAME - 60, 32 * FRAME - 60)
    assert not decoded[gap].any()
    padded = np.concatenate([samples, np.zeros(FRAME, np.int16)])
    frames = np.frombuffer(g7231.encode(padded), np.uint8).reshape(61, 24)
    expected = g7231.decode(frames[~np.append(lost, False)].tobytes())
    after = decoded[gap.stop :]
    np.testing.assert_array_equal(after, expected[30 * FRAME :][: len(after)])


def test_call_that_loses_everything_is_silent():
    assert not codec("g7231").encode_decode(hum(5), {}, np.ones(5, bool))[: 5 * FRAME - 60].any()


def test_lost_beginning_is_silent_and_the_rest_goes_on():
    lost = np.zeros(40, bool)
    lost[:2] = True
    decoded = codec("g7231").encode_decode(hum(40), {}, lost)
    assert not decoded[: 2 * FRAME - 60].any()
    assert frame_level_db(decoded, 30) > 60


def test_low_rate_is_refused():
    with pytest.raises(ValueError, match=r"g7231: kbps must be one of 6\.3, not 5\.3"):
        codec("g7231").check_parameters({"kbps": 5.3})
