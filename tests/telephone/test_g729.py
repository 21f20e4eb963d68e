"""G.729 with its comfort noise, against FFmpeg's decoder."""

import av
import numpy as np
import pytest

from nest_ssl.telephone.codecs import codec, g729
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.native import whole_frames
from tests.telephone.measures import level_db

SPEECH_BYTES, SID_BYTES = 10, 2  # RFC 3551 section 4.5.6


@pytest.fixture(autouse=True)
def library():
    try:
        codec("g729").check()
    except CodecMissing as error:
        pytest.skip(str(error))


def test_ffmpeg_decodes_the_packets_to_the_same_speech(narrow_speech):
    packets = g729.encode(whole_frames(narrow_speech[:24000], 80), dtx=False)
    assert {len(packet) for packet in packets} == {SPEECH_BYTES}
    context = av.CodecContext.create("g729", "r")
    context.sample_rate, context.layout = 8000, "mono"
    frames = [frame for packet in packets for frame in context.decode(av.Packet(packet))]
    theirs = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    ours = g729.decode(packets, [False] * len(packets))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def test_dtx_describes_pauses_and_makes_comfort_noise(narrow_speech):
    pause = np.random.default_rng(1).normal(0, 10, 16000).astype(np.int16)
    samples = np.concatenate([narrow_speech[:8000], pause, narrow_speech[:8000]])
    packets = g729.encode(whole_frames(samples, 80), dtx=True)
    in_pause = [len(packet) for packet in packets[120:300]]
    assert SID_BYTES in {len(packet) for packet in packets}
    assert np.mean(np.isin(in_pause, (0, SID_BYTES))) > 0.9
    decoded = codec("g729").encode_decode(samples, {"dtx": True})
    assert level_db(decoded[120 * 80 : 290 * 80]) == pytest.approx(level_db(pause), abs=4)
    # speech after the pause is speech again
    again = codec("g729").encode_decode(samples, {"dtx": False})
    assert level_db(decoded[-6000:]) == pytest.approx(level_db(again[-6000:]), abs=1)
