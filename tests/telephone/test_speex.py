"""Speex narrowband: its rates, its look-ahead, its pauses, and FFmpeg's decoder."""

import struct

import av
import numpy as np
import pytest

from nest_ssl.telephone.codecs import codec, speex
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.codecs.native import whole_frames
from tests.telephone.measures import level_db


@pytest.fixture(autouse=True)
def library():
    try:
        codec("speex_nb").check()
    except CodecMissing as error:
        pytest.skip(str(error))


def test_the_delay_taken_out_is_the_librarys_own():
    assert speex.lookahead() == codec("speex_nb").delay_samples


# Speex manual, table 9.2: bits per frame of the narrowband modes
@pytest.mark.parametrize(
    ("kbps", "bits"),
    [(3.95, 79), (5.95, 119), (8.0, 160), (11.0, 220), (15.0, 300), (18.2, 364), (24.6, 492)],
)
def test_every_rate_makes_frames_of_its_size(kbps, bits, narrow_speech):
    packets = speex.encode(whole_frames(narrow_speech[:8000], 160), kbps, dtx=False)
    assert {len(packet) for packet in packets} == {-(-bits // 8)}


def test_ffmpeg_decodes_the_packets_to_the_same_speech(narrow_speech):
    packets = speex.encode(whole_frames(narrow_speech[:24000], 160), 15.0, dtx=False)
    context = av.CodecContext.create("speex", "r")
    # the header of Ogg Speex: 8000 Hz, narrowband, one channel, frames of 160, one in a packet
    numbers = (1, 80, 8000, 0, 4, 1, -1, 160, 0, 1, 0, 0, 0)
    context.extradata = struct.pack("<8s20s13i", b"Speex   ", b"1.2", *numbers)
    context.sample_rate, context.layout = 8000, "mono"
    frames = [frame for packet in packets for frame in context.decode(av.Packet(packet))]
    theirs = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    ours = speex.decode(packets, [False] * len(packets))
    likeness = [np.corrcoef(ours[200:20000], theirs[200 + k : 20000 + k])[0, 1] for k in range(-100, 101)]
    assert max(likeness) > 0.9  # FFmpeg has no perceptual enhancement


def test_dtx_sends_next_to_nothing_in_a_pause(narrow_speech):
    pause = np.random.default_rng(1).normal(0, 10, 16000).astype(np.int16)
    samples = np.concatenate([narrow_speech[:8000], pause])
    sizes = [len(packet) for packet in speex.encode(whole_frames(samples, 160), 15.0, dtx=True)]
    assert np.mean(np.array(sizes[70:]) == 1) > 0.8
    decoded = codec("speex_nb").encode_decode(samples, {"dtx": True})
    assert level_db(decoded[70 * 160 :]) == pytest.approx(level_db(pause), abs=6)
