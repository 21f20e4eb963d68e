"""What headers promise: cut files are refused, and files that were written into pipes are read whole."""

import io
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.files.containers import mp3_frames

SECONDS = 3
KINDS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "ALAW"),
    ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"),
    ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "ULAW"), ("AU", "PCM_16"), ("AU", "ULAW"),
    ("CAF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


def speech_like(seconds: float = SECONDS) -> np.ndarray:
    """float64 (T,) at 8 kHz: tones that come and go, with pauses."""
    time = np.arange(int(8000 * seconds)) / 8000
    voice = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 20)) / 8
    noise = np.random.default_rng(5).normal(0, 0.003, len(time))
    return voice * (np.sin(2 * np.pi * 1.3 * time) > -0.2) + noise


def written(container: str, subtype: str, samples: np.ndarray) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, 8000, format=container, subtype=subtype)
    return stream.getvalue()


def by_ffmpeg(options: str, container: str) -> bytes:
    """What ffmpeg writes into a pipe, where it cannot go back to fill in the header."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")
    command = [program, "-v", "error", "-i", "pipe:0", *options.split(), "-f", container, "pipe:1"]
    return subprocess.run(
        command, input=written("WAV", "PCM_16", speech_like()), capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("share", [0.99, 0.5])
@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_a_cut_file_is_refused_and_its_beginning_read(tmp_path, container, subtype, share):
    content = written(container, subtype, speech_like())
    path = tmp_path / "x.bin.wav"
    path.write_bytes(content)
    whole = read_audio(path)[0]
    assert len(whole) >= 8000 * SECONDS
    assert audio_info(path).missing_frames == 0
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="damaged"):
        read_audio(path)
    if subtype not in ("VORBIS", "OPUS", "MPEG_LAYER_III"):  # whose cut end makes libsndfile see no length
        np.testing.assert_array_equal(read_audio(path, duration_s=0.4)[0], whole[:3200])


@pytest.mark.parametrize("share", [0.99, 0.5])
@pytest.mark.parametrize(("container", "subtype"), [kind for kind in KINDS if kind[0] not in ("FLAC", "OGG")])
def test_what_is_missing_is_counted(tmp_path, container, subtype, share):
    content = written(container, subtype, speech_like())
    (tmp_path / "x").write_bytes(content)
    whole = audio_info(tmp_path / "x").num_frames
    (tmp_path / "x").write_bytes(content[: int(share * len(content))])
    info = audio_info(tmp_path / "x")
    about = whole if container == "MP3" else info.num_frames + info.missing_frames
    assert about == pytest.approx(whole, abs=2048)  # a block of the codings that have one
    assert info.missing_frames == pytest.approx((1 - share) * whole, abs=0.02 * whole + 1400)
    assert info.missing_frames > 0


@pytest.mark.parametrize(
    ("options", "container", "spare"),
    [
        ("-c:a pcm_s16le", "wav", 0),
        ("-c:a pcm_alaw", "wav", 0),
        ("-c:a pcm_s16be", "aiff", 0),
        ("-c:a pcm_mulaw", "au", 0),
        ("-c:a pcm_s16le", "w64", 0),
        ("-c:a pcm_s16le", "caf", 0),
        ("-c:a flac", "flac", 0),
        ("-c:a libvorbis", "ogg", 0),
        ("-c:a libopus", "opus", 0),
        ("-c:a libmp3lame -q:a 5", "mp3", 2000),  # variable bit rate, its length not known
        ("-c:a libmp3lame -b:a 24k", "mp3", 2000),
    ],
)
def test_what_was_written_into_a_pipe_is_read_whole(tmp_path, options, container, spare):
    (tmp_path / "x").write_bytes(by_ffmpeg(options, container))
    info = audio_info(tmp_path / "x")
    samples = read_audio(tmp_path / "x")[0]
    assert info.missing_frames == 0
    assert 8000 * SECONDS <= len(samples) <= 8000 * SECONDS + spare
    assert abs(info.num_frames - len(samples)) <= spare
    if "pcm_s16" in options or container == "flac":
        np.testing.assert_allclose(samples, speech_like(), atol=2e-4)
    np.testing.assert_allclose(read_audio(tmp_path / "x", None, 1.0, 0.5)[0], samples[8000:12000], atol=1e-6)


def test_a_cut_flac_of_unknown_length_is_refused(tmp_path):
    content = by_ffmpeg("-c:a flac", "flac")
    (tmp_path / "x.flac").write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(ValueError, match=r"x\.flac: the audio is damaged"):
        read_audio(tmp_path / "x.flac")


@pytest.mark.parametrize("blocks", [1, 2, 5, 6])
def test_gsm_in_a_wav_ends_where_its_blocks_end(tmp_path, blocks):
    soundfile.write(tmp_path / "x.wav", speech_like(blocks * 0.04), 8000, subtype="GSM610")
    assert audio_info(tmp_path / "x.wav").num_frames == 320 * blocks
    assert len(read_audio(tmp_path / "x.wav")[0]) == 320 * blocks


def test_an_au_file_without_a_header_is_refused(tmp_path):
    (tmp_path / "x.au").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"x\.au: not readable as audio: it has no header"):
        read_audio(tmp_path / "x.au")


@pytest.mark.parametrize("rate", [1, 4_000_000_000])
def test_impossible_sample_rates_are_refused(tmp_path, rate):
    content = bytearray(written("WAV", "PCM_16", speech_like(0.1)))
    content[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.wav: "):
        read_audio(tmp_path / "x.wav", 16000)


def test_floats_far_beyond_full_scale_are_refused(tmp_path):
    samples = speech_like(0.1)
    samples[17] = 1e30
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"x\.wav: the audio is damaged: it has samples up to 1e\+30"):
        read_audio(tmp_path / "x.wav")


def test_integers_that_were_never_divided_are_let_through(tmp_path):
    soundfile.write(tmp_path / "x.wav", 32768 * speech_like(0.1), 8000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "x.wav")[0]).max() > 1000


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\1\0" + bytes(128)])
def test_mp3_frames_are_counted_by_their_headers(tag):
    content = written("MP3", "MPEG_LAYER_III", speech_like())
    frames = mp3_frames(io.BytesIO(tag + content + b"TAG" + bytes(125)))
    assert frames.frame == 576  # MPEG 2.5, layer 3
    assert frames.num_samples == frames.stated
    assert 8000 * SECONDS <= frames.num_samples <= 8000 * SECONDS + 3 * 576
    assert frames.missing == 0
    assert mp3_frames(io.BytesIO(tag + content[:-1])).missing == 1


def test_a_walk_through_chunks_of_nothing_ends(tmp_path):
    content = b"RIFF" + bytes(4) + b"WAVE" + bytes(1 << 21)
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.wav: not readable as audio: it has more than 10000 chunks"):
        audio_info(tmp_path / "x.wav")
