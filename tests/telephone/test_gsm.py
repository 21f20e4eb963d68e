"""GSM 06.10 by both routes, against sox, ffmpeg and the WAV49 container, and GSM 06.11 in its parameters."""

import io
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from nest_ssl.telephone.codecs import codec, gsm, gsm_concealment
from nest_ssl.telephone.codecs.base import CodecMissing
from tests.telephone.measures import level_db, segmental_snr_db, spectrum_change_db
from tests.telephone.programs import ffmpeg

SOX = shutil.which("sox")


@pytest.fixture(scope="module")
def packets(narrow_speech) -> np.ndarray:
    """Five seconds of speech as (250, 33) uint8."""
    return gsm._encode_libsndfile(narrow_speech[:40000])


def without_libgsm(monkeypatch) -> None:
    def missing(name):
        raise CodecMissing(name)

    monkeypatch.setattr(gsm, "load_library", missing)


def parameters_of(packet: np.ndarray) -> dict:
    """Read a packet bit by bit, as GSM 06.10 table 1.1 lays it out behind libgsm's 4 bits of signature."""
    bits = "".join(f"{byte:08b}" for byte in packet)
    position = 4

    def take(width: int) -> int:
        nonlocal position
        position += width
        return int(bits[position - width : position], 2)

    ratios = [take(width) for width in (6, 6, 5, 5, 4, 4, 3, 3)]
    blocks = [
        {
            "lag": take(7),
            "gain": take(2),
            "grid": take(2),
            "amplitude": take(6),
            "pulses": [take(3) for _ in range(13)],
        }
        for _ in range(4)
    ]
    return {"signature": int(bits[:4], 2), "ratios": ratios, "blocks": blocks}


@pytest.mark.parametrize("length", [0, 1, 159, 160, 161, 8001])
def test_both_routes_give_the_same_bits(length, narrow_speech, monkeypatch):
    samples = narrow_speech[:length]
    if "libgsm" not in codec("gsm_fr").route():
        pytest.skip("the system has no libgsm")
    lost = np.zeros(-(-length // 160), bool)
    lost[3:8] = True
    native = codec("gsm_fr").encode_decode(samples, {}, lost)
    version = codec("gsm_fr").version()
    without_libgsm(monkeypatch)
    assert "libsndfile" in codec("gsm_fr").route()
    np.testing.assert_array_equal(codec("gsm_fr").encode_decode(samples, {}, lost), native)
    assert codec("gsm_fr").version() == version


def test_a_libgsm_of_other_arithmetic_is_not_used(monkeypatch):
    def other(library, pcm):
        return gsm._encode_libsndfile(pcm) ^ np.uint8(1)

    monkeypatch.setattr(gsm, "_encode_libgsm", other)
    gsm._agrees.cache_clear()
    try:
        assert "libsndfile" in codec("gsm_fr").route()
    finally:
        gsm._agrees.cache_clear()


def test_same_bits_as_the_wav49_container(narrow_speech, tmp_path):
    samples = narrow_speech[:40000]
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="GSM610")
    contained = soundfile.read(tmp_path / "x.wav", dtype="int16")[0]
    whole_blocks = len(samples) // 320 * 320  # WAV49 packs two frames
    decoded = codec("gsm_fr").encode_decode(samples, {})
    np.testing.assert_array_equal(decoded[:whole_blocks], contained[:whole_blocks])


@pytest.mark.skipif(SOX is None, reason="sox is not installed")
def test_same_bits_as_sox(narrow_speech, packets, tmp_path):
    raw = ["-t", "raw", "-r", "8000", "-e", "signed", "-b", "16", "-c", "1"]
    coded, decoded = tmp_path / "x.gsm", tmp_path / "x.raw"
    (tmp_path / "in.raw").write_bytes(narrow_speech[:40000].astype("<i2").tobytes())
    made = subprocess.run(
        [SOX, "-D", *raw, tmp_path / "in.raw", "-t", "gsm", coded],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"this sox does not write gsm: {made.stderr}")
    assert coded.read_bytes() == packets.tobytes()
    subprocess.run([SOX, "-D", "-t", "gsm", coded, *raw, decoded], check=True)
    ours = codec("gsm_fr").encode_decode(narrow_speech[:40000], {})
    np.testing.assert_array_equal(ours, np.frombuffer(decoded.read_bytes(), "<i2"))
    np.testing.assert_array_equal(gsm.decode_gsm(io.BytesIO(coded.read_bytes())), ours)


@pytest.mark.parametrize("decoder", ["gsm", "libgsm"])
def test_same_bits_as_ffmpeg(narrow_speech, packets, decoder):
    # its encoder is libgsm; of its decoders the one named gsm is FFmpeg's own writing
    samples = narrow_speech[:40000]
    try:
        coded = ffmpeg(samples.astype("<i2").tobytes(), "-f s16le -ar 8000 -ac 1", "-c:a libgsm -f gsm")
        decoded = ffmpeg(packets.tobytes(), f"-c:a {decoder} -f gsm", "-f s16le")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this ffmpeg has no libgsm: {error.stderr.decode()}")
    assert coded == packets.tobytes()
    ours = codec("gsm_fr").encode_decode(samples, {})
    np.testing.assert_array_equal(ours, np.frombuffer(decoded, "<i2"))


def test_spectrum_and_error_are_those_measured_with_other_speech(narrow_speech):
    decoded = codec("gsm_fr").encode_decode(narrow_speech, {})
    change = spectrum_change_db(narrow_speech, decoded, 8000, (300, 1000, 2000, 3000))
    np.testing.assert_allclose(change, (-0.1, -0.5, -2.4, -2.6), atol=1.0)
    assert segmental_snr_db(narrow_speech, decoded) == pytest.approx(14.9, abs=3)


def test_the_silence_frame_is_that_of_the_standard():
    silence = parameters_of(np.frombuffer(gsm_concealment.silence_frame(), np.uint8))
    block = {
        "lag": 40,
        "gain": 0,
        "grid": 1,
        "amplitude": 0,
        "pulses": [3, 4, 3, 4, 4, 3, 3, 3, 3, 4, 4, 3, 3],
    }
    assert silence == {"signature": 13, "ratios": [42, 39, 21, 10, 9, 4, 3, 2], "blocks": 4 * [block]}


def test_the_first_lost_frame_repeats_the_last_good_one(packets):
    lost = [False] * len(packets)
    lost[50] = lost[80] = True
    filled = gsm_concealment.conceal(packets, lost)
    np.testing.assert_array_equal(filled[[50, 80]], packets[[49, 79]])
    arrived = ~np.array(lost)
    np.testing.assert_array_equal(filled[arrived], packets[arrived])


def test_further_lost_frames_fade_by_four_steps_until_the_silence_frame(packets):
    amplitudes = [max(block["amplitude"] for block in parameters_of(packet)["blocks"]) for packet in packets]
    last = int(np.argmax(amplitudes[:200]))
    loudest = amplitudes[last]
    lost = [last < frame <= last + 30 for frame in range(len(packets))]
    filled = [parameters_of(packet) for packet in gsm_concealment.conceal(packets, lost)]
    good = filled[last]
    assert filled[last + 1] == good
    grids = set()
    for number in range(1, -(-loudest // 4) + 1):
        assert filled[last + 1 + number]["ratios"] == good["ratios"]
        for block, kept in zip(filled[last + 1 + number]["blocks"], good["blocks"], strict=True):
            assert block["amplitude"] == max(kept["amplitude"] - 4 * number, 0)
            assert {key: block[key] for key in ("lag", "gain", "pulses")} == {
                key: kept[key] for key in ("lag", "gain", "pulses")
            }
            grids.add(block["grid"])
    assert grids == {0, 1, 2, 3}
    silence = parameters_of(np.frombuffer(gsm_concealment.silence_frame(), np.uint8))
    assert all(frame == silence for frame in filled[last + 1 + -(-loudest // 4) + 1 : last + 31])


def test_the_loudest_frame_is_silent_after_320_ms(packets):
    loudest = packets[:2].copy()
    loudest[0] = 0xFF  # every parameter at its highest: amplitude 63
    loudest[0, 0] = 0xDF
    filled = gsm_concealment.conceal(np.repeat(loudest[:1], 20, axis=0), [False] + [True] * 19)
    silence = np.frombuffer(gsm_concealment.silence_frame(), np.uint8)
    # the repetition, 16 fading frames of 20 ms, then silence
    assert not (filled[:18] == silence).all(axis=1).any()
    assert (filled[18:] == silence).all()


def test_what_is_lost_before_the_first_good_frame_is_silence(packets):
    lost = [True, True, True] + [False] * (len(packets) - 3)
    filled = gsm_concealment.conceal(packets, lost)
    assert all(packet.tobytes() == gsm_concealment.silence_frame() for packet in filled[:3])
    assert level_db(gsm.decode_packets(filled[:3])) < 30


def test_all_frames_lost_without_concealment_gives_zeros(narrow_speech):
    samples = narrow_speech[:1000]
    decoded = codec("gsm_fr").encode_decode(samples, {"concealment": "zeros"}, np.ones(7, bool))
    assert not decoded.any()
