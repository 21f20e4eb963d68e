"""Audio inside a page: it decodes back, it is short, and what is gone is said."""

import base64
import io

import numpy as np
import pytest
import soundfile

from nest_ssl.report.audio_clips import ClipBox, data_uri


def tone(seconds: float, rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate)


def decoded(uri: str) -> tuple[np.ndarray, int]:
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:audio/flac"
    return soundfile.read(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_clip_decodes_to_what_the_file_holds(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1.25, rate), rate, subtype="PCM_16")
    clip = ClipBox().clip(tmp_path / "a.wav")
    samples, found = decoded(clip.uri)
    assert (found, len(samples), clip.duration_s, clip.note) == (rate, 1.25 * rate, 1.25, "")
    np.testing.assert_array_equal(samples, soundfile.read(tmp_path / "a.wav")[0])


def test_a_higher_rate_is_resampled_with_its_duration_kept(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.5, 44100), 44100)
    samples, rate = decoded(ClipBox().clip(tmp_path / "a.wav").uri)
    assert rate == 16000
    assert len(samples) == 8000


def test_channels_are_averaged(tmp_path):
    left = tone(0.1, 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left], axis=1), 8000)
    samples, _ = decoded(ClipBox().clip(tmp_path / "a.wav").uri)
    assert np.abs(samples).max() < 1e-3
    assert ClipBox().clip(tmp_path / "a.wav").note == "2 channels mixed"


def test_a_long_file_is_cut_and_says_so(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(3.0, 8000), 8000)
    clip = ClipBox(longest_s=2.0).clip(tmp_path / "a.wav")
    assert len(decoded(clip.uri)[0]) == 16000
    assert clip.note == "the first 2 s of 3.0 s"


def test_a_part_of_a_file_is_that_part(tmp_path):
    whole = tone(3.0, 8000) * np.linspace(0, 1, 24000)
    soundfile.write(tmp_path / "a.wav", whole, 8000)
    clip = ClipBox().clip(tmp_path / "a.wav", 1.0, 0.5)
    samples, _ = decoded(clip.uri)
    np.testing.assert_allclose(samples, whole[8000:12000], atol=1e-4)
    assert clip.note == ""


def test_a_file_that_is_gone_or_damaged_has_no_player_and_a_reason(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    gone, bad = (ClipBox().clip(tmp_path / name) for name in ("gone.wav", "bad.wav"))
    assert gone.uri == bad.uri == ""
    assert "gone" in gone.note
    assert "cannot be read" in bad.note


def test_clips_end_where_the_page_has_enough(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, 8000), 8000)
    size = len(ClipBox().clip(tmp_path / "a.wav").uri)
    box = ClipBox(most_bytes=2 * size)
    clips = [box.clip(tmp_path / "a.wav") for _ in range(3)]
    assert [bool(clip.uri) for clip in clips] == [True, True, False]
    assert str(tmp_path / "a.wav") in clips[2].note


def test_samples_beyond_full_scale_are_clipped():
    samples, _ = decoded(data_uri(np.array([2.0, -2.0, 0.0]), 8000))
    np.testing.assert_allclose(samples, [1.0, -1.0, 0.0], atol=1e-4)
