"""AMR narrowband against FFmpeg's way to the same library, the system's build, and the standard's frames."""

import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from nest_ssl.telephone.codecs import amrnb, codec, libraries
from nest_ssl.telephone.codecs.native import whole_frames
from tests.telephone.measures import level_db, segmental_snr_db, spectrum_change_db
from tests.telephone.programs import ffmpeg, piped

# 3GPP TS 26.101 and RFC 4867: bytes of a speech frame with the byte of its type, by kbit/s
FRAME_BYTES = {4.75: 13, 5.15: 14, 5.9: 16, 6.7: 18, 7.4: 20, 7.95: 21, 10.2: 27, 12.2: 32}
SID, NO_DATA = 8, 15


def frame_types(packets: np.ndarray) -> np.ndarray:
    return packets[:, 0] >> 3 & 0xF


def through_ffmpeg(samples: np.ndarray, kbps: float) -> np.ndarray:
    """Encode and decode int16 (N * 160,) in FFmpeg's libopencore_amrnb."""
    encoder = av.CodecContext.create("libopencore_amrnb", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 8000, "mono", "s16"
    encoder.bit_rate, encoder.time_base = round(kbps * 1000), Fraction(1, 8000)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
    packets = []
    for start in range(0, len(samples), 160):
        piece = av.AudioFrame.from_ndarray(samples[None, start : start + 160], format="s16", layout="mono")
        piece.sample_rate, piece.pts = 8000, start
        packets += encoder.encode(piece)
    decoder = av.CodecContext.create("libopencore_amrnb", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    return np.concatenate([out.to_ndarray()[0] for packet in packets for out in decoder.decode(packet)])


@pytest.mark.parametrize("kbps", FRAME_BYTES)
def test_same_bits_as_through_ffmpeg(kbps, narrow_speech):
    samples = narrow_speech[: 160 * 100]
    expected = through_ffmpeg(samples, kbps)
    decoded = codec("amr_nb").encode_decode(samples, {"kbps": kbps})
    common = len(samples) - 160  # the last frame of ours sees zeros after the end
    np.testing.assert_array_equal(decoded[:common], expected[40 : 40 + common])


@pytest.mark.parametrize("kbps", FRAME_BYTES)
@pytest.mark.parametrize("dtx", [False, True])
def test_same_bits_as_the_build_of_the_system(kbps, dtx, narrow_speech, monkeypatch):
    samples = narrow_speech[:12000]
    wheel = codec("amr_nb").encode_decode(samples, {"kbps": kbps, "dtx": dtx})
    monkeypatch.setenv(libraries.ORDER_VARIABLE, "system")
    if libraries.load_library("opencore-amrnb").source != "system":
        pytest.skip("the system has no libopencore-amrnb")
    system = codec("amr_nb").encode_decode(samples, {"kbps": kbps, "dtx": dtx})
    np.testing.assert_array_equal(system, wheel)


@pytest.mark.parametrize("kbps", FRAME_BYTES)
def test_lost_frames_are_concealed_as_by_the_build_of_the_system(kbps, narrow_speech, monkeypatch):
    samples = narrow_speech[:12000]
    lost = np.random.default_rng(3).random(75) < 0.2
    wheel = codec("amr_nb").encode_decode(samples, {"kbps": kbps}, lost)
    monkeypatch.setenv(libraries.ORDER_VARIABLE, "system")
    if libraries.load_library("opencore-amrnb").source != "system":
        pytest.skip("the system has no libopencore-amrnb")
    np.testing.assert_array_equal(codec("amr_nb").encode_decode(samples, {"kbps": kbps}, lost), wheel)


@pytest.mark.parametrize(("mode", "kbps"), list(enumerate(FRAME_BYTES)))
def test_same_bits_as_sox_which_suppresses_silence(mode, kbps, narrow_speech):
    samples = narrow_speech[: 160 * 100]
    raw = ["-t", "raw", "-r", "8000", "-e", "signed", "-b", "16", "-c", "1"]
    try:
        coded = piped(
            samples.astype("<i2").tobytes(), "sox", "-D", *raw, "-", "-t", "amr-nb", "-C", f"{mode}", "-"
        )
        decoded = np.frombuffer(piped(coded, "sox", "-D", "-t", "amr-nb", "-", *raw, "-"), "<i2")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this sox has no amr-nb: {error.stderr.decode()}")
    ours = codec("amr_nb").encode_decode(samples, {"kbps": kbps, "dtx": True})
    common = len(samples) - 160  # the last frame of ours sees zeros after the end
    np.testing.assert_array_equal(ours[:common], decoded[40 : 40 + common])


def test_ffmpegs_own_decoder_hears_the_same(narrow_speech):
    samples = narrow_speech[: 160 * 100]
    for kbps, size in FRAME_BYTES.items():
        packets = amrnb.encode(whole_frames(samples, 160), kbps, dtx=False)[:, :size]
        theirs = np.frombuffer(ffmpeg(b"#!AMR\n" + packets.tobytes(), "-c:a amrnb -f amr", "-f s16le"), "<i2")
        ours = codec("amr_nb").encode_decode(samples, {"kbps": kbps})
        # FFmpeg's decoder computes in floats and the standard's in 16 bits, so that they drift a little
        assert segmental_snr_db(ours[:15800], theirs[40:15840]) > 20


@pytest.mark.parametrize(("mode", "kbps"), list(enumerate(FRAME_BYTES)))
def test_every_mode_makes_frames_of_its_type_and_size(mode, kbps, narrow_speech):
    packets = amrnb.encode(whole_frames(narrow_speech[:16000], 160), kbps, dtx=False)
    assert set(frame_types(packets)) == {mode}
    assert not packets[:, FRAME_BYTES[kbps] :].any()
    assert packets[:, FRAME_BYTES[kbps] - 1].any()


def test_dtx_describes_pauses_and_makes_comfort_noise(narrow_speech):
    pause = np.random.default_rng(1).normal(0, 10, 16000).astype(np.int16)
    samples = np.concatenate([narrow_speech[:8000], pause, narrow_speech[:8000]])
    types = frame_types(amrnb.encode(whole_frames(samples, 160), 12.2, dtx=True))
    assert {SID, NO_DATA} <= set(types)
    in_pause = types[70:150]
    assert np.mean(np.isin(in_pause, (SID, NO_DATA))) > 0.9
    assert np.mean(in_pause == SID) == pytest.approx(1 / 8, abs=0.05)  # TS 26.093: an update every 8th frame
    without, with_dtx = (codec("amr_nb").encode_decode(samples, {"dtx": dtx}) for dtx in (False, True))
    noise = slice(70 * 160, 150 * 160)
    assert (with_dtx[noise] != without[noise]).mean() > 0.5
    assert level_db(with_dtx[noise]) == pytest.approx(level_db(pause), abs=4)


def test_a_frame_lost_in_a_pause_goes_on_as_comfort_noise(narrow_speech):
    pause = np.random.default_rng(1).normal(0, 10, 16000).astype(np.int16)
    samples = np.concatenate([narrow_speech[:8000], pause])
    lost = np.zeros(150, bool)
    lost[90::5] = True
    decoded = codec("amr_nb").encode_decode(samples, {"dtx": True}, lost)
    assert level_db(decoded[90 * 160 :]) == pytest.approx(level_db(pause), abs=5)


def test_spectrum_and_error_are_those_measured_with_other_speech(narrow_speech):
    decoded = codec("amr_nb").encode_decode(narrow_speech, {})
    change = spectrum_change_db(narrow_speech, decoded, 8000, (100, 300, 1000, 2000, 3000))
    np.testing.assert_allclose(change, (-2.0, -0.1, -0.7, -1.3, -1.9), atol=1.0)
    assert segmental_snr_db(narrow_speech, decoded) == pytest.approx(1.3, abs=1.5)


def test_a_higher_mode_is_nearer_to_the_speech(narrow_speech):
    decoded = (codec("amr_nb").encode_decode(narrow_speech, {"kbps": kbps}) for kbps in (4.75, 7.4, 12.2))
    errors = [segmental_snr_db(narrow_speech, samples) for samples in decoded]
    assert errors == sorted(errors)


def test_enhanced_full_rate_is_the_highest_mode(narrow_speech):
    samples = narrow_speech[:8000]
    expected = codec("amr_nb").encode_decode(samples, {"kbps": 12.2})
    np.testing.assert_array_equal(codec("gsm_efr").encode_decode(samples, {}), expected)
