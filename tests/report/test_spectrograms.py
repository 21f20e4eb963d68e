"""Spectrograms of known signals, and the channel of an utterance in words."""

import base64
import io
import json
import re

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from nest_ssl.report.audio_clips import ClipBox
from nest_ssl.report.spectrograms import (
    RANGE_DB,
    channel_facts,
    channel_sides,
    choose_example,
    spectrogram_db,
    spectrogram_figure,
)


def tone(hz: float, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(("hz", "rate"), [(1000.0, 8000), (1000.0, 16000), (5000.0, 16000)])
def test_a_tone_is_loudest_at_its_frequency(hz, rate):
    level, frequencies = spectrogram_db(tone(hz, rate=rate), rate)
    middle = level[:, level.shape[1] // 2]
    assert abs(frequencies[middle.argmax()] - hz) <= frequencies[1]
    assert level.max() == 0


def test_frames_are_ten_milliseconds_apart():
    samples = np.zeros(16000)
    samples[8000] = 1.0  # a click at 0.5 s
    level, _ = spectrogram_db(samples, 16000)
    loud = np.flatnonzero(level.max(axis=0) > -RANGE_DB)
    assert 48 <= loud.min() <= loud.max() <= 50  # frames that begin at most 25 ms before it


def test_half_the_power_is_3_db_below():
    quiet = tone(1000.0) / np.sqrt(2)
    level, _ = spectrogram_db(np.concatenate([tone(1000.0), quiet]), 16000)
    assert level[:, 150].max() == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("length", [1, 100, 16000])
def test_silence_and_short_signals_have_a_spectrogram(length):
    level, _ = spectrogram_db(np.zeros(length), 16000)
    assert (level == -RANGE_DB).all()
    assert level.shape[1] >= 1


def test_the_picture_has_low_frequencies_at_the_bottom():
    svg = spectrogram_figure(tone(1000.0), 16000, 8000.0, 1.0, "alt")
    content = re.search(r'href="data:image/png;base64,([^"]+)"', svg)[1]
    picture = imread(io.BytesIO(base64.b64decode(content)))[..., :3].sum(axis=(1, 2))
    place = 1 - picture.argmax() / (len(picture) - 1)
    assert place == pytest.approx(1000 / 8000, abs=0.01)


def test_a_narrow_band_leaves_the_rest_of_a_shared_axis_empty():
    assert "nothing above 4 kHz" in spectrogram_figure(tone(1000.0, rate=8000), 8000, 8000.0, 1.0, "alt")
    assert "nothing above" not in spectrogram_figure(tone(1000.0), 16000, 8000.0, 1.0, "alt")


CHANNEL = {
    "preset": "mobile",
    "noise": {"kind": "babble", "snr_db": 12.3456},
    "echo": None,
    "level_dbov": -26.26,
    "legs": [{"codec": "amr_nb", "parameters": {"kbps": 6.7}, "loss": {"concealment": "codec"}}],
}
CHANNEL["legs"][0] |= {"frames": 37, "lost_frames": 2}


def test_a_channel_is_told_in_words():
    assert channel_facts(CHANNEL) == [
        ("Preset", "mobile"),
        ("Noise around the speaker", "babble, SNR 12.3 dB"),
        ("Speech level", "-26.3 dBov"),
        ("Codec", "amr_nb, kbps 6.7, 2 of 37 frames lost (concealment: codec)"),
    ]


def test_a_channel_of_another_shape_is_no_error():
    assert channel_facts({"noise": {"kind": "hum"}, "legs": ["x"]}) == [
        ("Noise around the speaker", "hum, SNR ? dB")
    ]


@pytest.fixture
def manifests(tmp_path):
    """SOURCE.jsonl and SIMULATED.jsonl of three utterances; the second has the most impairments."""
    (tmp_path / "audio").mkdir()
    for name in "abc":
        soundfile.write(tmp_path / "audio" / f"{name}.wav", tone(500.0, 3.0), 16000)
        soundfile.write(tmp_path / "audio" / f"{name}8.wav", tone(500.0, 3.0, 8000), 8000)
    source = [{"id": name, "audio_filepath": f"audio/{name}.wav", "duration": 3.0} for name in "abc"]
    channels = {"a": {"preset": "plain"}, "b": CHANNEL, "c": {"preset": "plain"}}
    simulated = [
        {"id": f"{name}#0", "source_id": name, "audio_filepath": f"audio/{name}8.wav", "duration": 3.0}
        | {"channel": channel}
        for name, channel in channels.items()
    ]
    paths = tmp_path / "source.jsonl", tmp_path / "simulated.jsonl"
    for path, rows in zip(paths, (source, simulated), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def test_the_example_is_the_most_impaired_one_with_its_source(manifests):
    before, after = choose_example(*manifests)
    assert (before["id"], after["id"]) == ("b", "b#0")
    assert before["audio_filepath"] == str(manifests[0].parent.resolve() / "audio" / "b.wav")


def test_manifests_that_do_not_belong_together_are_an_error(manifests):
    with pytest.raises(ValueError, match="source_id"):
        choose_example(manifests[1], manifests[0])


def test_both_sides_have_a_picture_and_a_player(manifests):
    before, after = channel_sides(choose_example(*manifests), ClipBox())
    assert before.title == "Before the channel, 16 kHz"
    assert after.title == "After the channel, 8 kHz"
    assert "nothing above 4 kHz" in after.picture
    assert before.clip.duration_s == after.clip.duration_s == 3.0


def test_audio_that_is_gone_leaves_a_note(manifests, tmp_path):
    before, after = choose_example(*manifests)
    sides = channel_sides((before, {**after, "audio_filepath": str(tmp_path / "gone.wav")}), ClipBox())
    assert sides[0].picture
    assert sides[1].picture == ""
    assert "gone" in sides[1].clip.note


def test_a_segment_of_a_recording_is_shown_alone(tmp_path):
    path = tmp_path / "recording.wav"
    soundfile.write(path, np.concatenate([tone(500.0, 3.0), tone(3000.0, 1.0), tone(500.0, 3.0)]), 16000)
    row = {"audio_filepath": str(path), "offset": 3.0, "duration": 1.0}
    whole = {"audio_filepath": str(path)}
    segment, recording = channel_sides((row, whole), ClipBox())
    assert "spectrogram of 1.0 s" in segment.picture and "spectrogram of 7.0 s" in recording.picture
    heard, _ = soundfile.read(io.BytesIO(base64.b64decode(segment.clip.uri.partition(",")[2])))
    assert len(heard) == 16000 and abs(np.fft.rfft(heard)).argmax() == 3000
