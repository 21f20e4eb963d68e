"""AMR wideband: the standard's frames, and FFmpeg's way to the same decoder."""

import av
import numpy as np
import pytest

from nest_ssl.telephone.codecs import amrwb, codec
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.native import whole_frames
from tests.telephone.measures import level_db, spectrum_change_db

# 3GPP TS 26.201 and RFC 4867: bytes of a speech frame with the byte of its type, by kbit/s
FRAME_BYTES = dict(zip(amrwb.MODES, (18, 24, 33, 37, 41, 47, 51, 59, 61), strict=True))
SID, SID_BYTES, NO_DATA = 9, 6, 15


@pytest.fixture(autouse=True)
def library():
    try:
        codec("amr_wb").check()
    except CodecMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def wide(speech) -> np.ndarray:
    """Three seconds at 16 kHz, int16."""
    return np.rint(np.clip(speech[:48000] * 32768, -32768, 32767)).astype(np.int16)


@pytest.mark.parametrize(("mode", "kbps"), list(enumerate(FRAME_BYTES)))
def test_every_mode_makes_frames_of_its_type_and_size(mode, kbps, wide):
    packets = amrwb.encode(whole_frames(wide[:16000], 320), kbps, dtx=False)
    assert set(packets[:, 0] >> 3 & 0xF) == {mode}
    assert not packets[:, FRAME_BYTES[kbps] :].any()
    assert packets[:, FRAME_BYTES[kbps] - 1].any()


@pytest.mark.parametrize("decoder", ["libopencore_amrwb", "amrwb"])
def test_ffmpeg_decodes_the_packets_to_the_same_speech(decoder, wide):
    packets = amrwb.encode(whole_frames(wide, 320), 23.85, dtx=False)
    context = av.CodecContext.create(decoder, "r")
    context.sample_rate, context.layout = 16000, "mono"
    sent = [av.Packet(packet[: FRAME_BYTES[23.85]].tobytes()) for packet in packets]
    theirs = np.concatenate([frame.to_ndarray()[0] for packet in sent for frame in context.decode(packet)])
    ours = amrwb.decode(packets, [False] * len(packets))
    if theirs.dtype == np.int16:
        np.testing.assert_array_equal(ours, theirs)
    else:  # FFmpeg's own decoder calculates in floating point
        assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def test_dtx_describes_pauses_and_makes_comfort_noise(wide):
    pause = np.random.default_rng(1).normal(0, 10, 32000).astype(np.int16)
    samples = np.concatenate([wide[:16000], pause])
    types = amrwb.encode(whole_frames(samples, 320), 12.65, dtx=True)[:, 0] >> 3 & 0xF
    assert set(types[70:]) == {SID, NO_DATA}
    decoded = codec("amr_wb").encode_decode(samples, {"dtx": True})
    assert level_db(decoded[70 * 320 :]) == pytest.approx(level_db(pause), abs=4)


def test_speech_above_the_telephone_band_is_kept(wide):
    decoded = codec("amr_wb").encode_decode(wide, {"kbps": 23.85})
    change = spectrum_change_db(wide, decoded, 16000, (300, 1000, 3000, 5000))
    np.testing.assert_allclose(change, 0, atol=2.5)
