"""Audio files: partial reads, resampling, what is refused."""

import numpy as np
import pytest
import soundfile

from nest_ssl.files.audio import audio_info, read_audio, write_audio


def samples(count: int = 8000) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal(count) * 3000).astype(np.int16)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".FLAC"])
def test_int16_survives_a_round_trip(tmp_path, suffix):
    path = tmp_path / f"späce d{suffix}"
    write_audio(path, samples(), 8000)
    read, rate = read_audio(path)
    assert rate == 8000 and read.dtype == np.float32
    assert np.array_equal(read * 32768, samples())
    info = audio_info(path)
    assert (info.sample_rate, info.num_frames, info.channels, info.duration_s) == (8000, 8000, 1, 1.0)


def test_floats_are_rounded_and_clipped(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([0.0, 1.5, -1.5, 0.6 / 32768, -0.6 / 32768]), 8000)
    assert (read_audio(tmp_path / "a.wav")[0] * 32768).tolist() == [0, 32767, -32768, 1, -1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mp3", samples(), r"as \.flac or \.wav"),
        ("a.wav", samples().reshape(2, -1), "shape"),
        ("a.wav", np.array([0.0, np.nan]), "not finite"),
        ("a.wav", np.zeros(4, np.int32), "int16 or float"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        write_audio(tmp_path / name, content, 8000)
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_read_from_int_offset_times_rate(tmp_path):
    path = tmp_path / "a.flac"
    write_audio(path, samples(), 8000)
    part, _ = read_audio(path, offset_s=0.30009, duration_s=0.2)
    assert np.array_equal(part * 32768, samples()[2400:4000])
    rest, _ = read_audio(path, offset_s=0.9, duration_s=5.0)  # fewer where the file ends
    assert np.array_equal(rest * 32768, samples()[7200:])
    for none in (None, 0.0, -1.0):
        assert len(read_audio(path, duration_s=none)[0]) == 8000
    with pytest.raises(ValueError, match=r"a\.flac: offset 1\.0 s is behind the end"):
        read_audio(path, offset_s=1.0)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_resampling_keeps_a_tone_and_rounds_the_length_up(tmp_path, rate):
    count = rate // 2 + 1
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(count) / rate)
    write_audio(tmp_path / "a.wav", tone, rate)
    read, new_rate = read_audio(tmp_path / "a.wav", 16000)
    assert new_rate == 16000 and read.dtype == np.float32
    assert len(read) == -(-count * 16000 // rate)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(read)) / 16000)
    assert np.abs(read - expected)[500:-500].max() < 1e-3


def test_channels_are_chosen_or_refused(tmp_path):
    both = np.stack([samples(), samples()[::-1]], axis=1)
    path = tmp_path / "st.wav"
    soundfile.write(path, both, 8000, subtype="PCM_16")
    with pytest.raises(ValueError, match=r"st\.wav: the file has 2 channels; set channel_selector"):
        read_audio(path)
    assert np.array_equal(read_audio(path, channel=1)[0] * 32768, both[:, 1])
    assert np.array_equal(read_audio(path, channel="average")[0] * 32768, both.mean(axis=1))
    assert np.array_equal(read_audio(path, channel=[0, 1])[0] * 32768, both.mean(axis=1))
    with pytest.raises(ValueError, match="channel_selector 2 does not fit"):
        read_audio(path, channel=2)


@pytest.mark.parametrize("damage", ["cut", "zeros", "flip", "head", "empty", "text"])
def test_damaged_audio_names_the_file(tmp_path, damage):
    path = tmp_path / "bad.flac"
    write_audio(path, samples(64000), 16000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "cut":
        del content[middle:]
    elif damage == "zeros":
        content[middle : middle + 200] = bytes(200)
    elif damage == "flip":
        content[middle] ^= 0xFF
    elif damage == "head":
        content[:100] = bytes(100)
    else:
        content = bytearray(b"" if damage == "empty" else b"<html>404</html>")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.flac: (the audio is damaged|not readable as audio): \w+"):
        read_audio(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.flac does not exist"):
        read_audio(tmp_path / "no.flac")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        audio_info(tmp_path)


def test_audio_without_samples_is_refused(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(0, np.int16), 8000)
    with pytest.raises(ValueError, match=r"a\.wav: no audio samples"):
        read_audio(tmp_path / "a.wav")
