"""Recordings as sources of noise: what is read, what is kept, how folders are listed."""

import os

import numpy as np
import pytest
import soundfile

from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.files.rows import row_identity
from nest_ssl.telephone import recordings
from nest_ssl.telephone.recordings import Recordings, list_recordings, open_recordings

RATE = 8000


def ramp(path, seconds: float, rate: int = RATE) -> np.ndarray:
    """Write noise of a known kind and give it, float32."""
    samples = np.random.default_rng(round(seconds * 1000)).uniform(-0.5, 0.5, round(seconds * rate))
    soundfile.write(path, samples, rate)
    return soundfile.read(path, dtype="float32")[0]


@pytest.fixture
def sounds(tmp_path):
    """A folder: a long recording, a short one, one of another rate, and files that are none."""
    (tmp_path / "street").mkdir()
    ramp(tmp_path / "street" / "long.wav", 20.0)
    ramp(tmp_path / "short.wav", 2.0)
    ramp(tmp_path / "street" / "wide.flac", 3.0, 16000)
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    (tmp_path / ".hidden.wav").write_bytes(b"")
    return tmp_path


@pytest.fixture
def asked(monkeypatch) -> list:
    """The seconds that are read of files, one entry per read."""
    found, plain = [], recordings.read_audio

    def noting(path, rate, offset, duration, channel):
        samples, rate = plain(path, rate, offset, duration, channel)
        found.append(len(samples) / rate)
        return samples, rate

    monkeypatch.setattr(recordings, "read_audio", noting)
    return found


def whole(source: Recordings, row: int, name: str, start: float, length: int, rate: int = RATE) -> np.ndarray:
    total = np.zeros(length, np.float32)
    source.excerpt(row, name, start, length, rate).add_to(total, 1.0)
    return total


def test_a_folder_is_listed_in_order_with_durations_and_what_was_left_out(sounds):
    listing = sounds / "lists" / "street.jsonl"
    index, left_out = open_recordings(sounds, listing)
    rows = [row for _, row in read_rows(listing)]
    assert [(row["id"], row["duration"]) for row in rows] == [
        ("short.wav", 2.0), ("street/long.wav", 20.0), ("street/wide.flac", 3.0)
    ]  # fmt: skip
    assert len(index) == 3
    assert len(left_out) == 2
    assert left_out[0] == "README.txt: no audio by its suffix"
    assert f"{sounds / 'broken.wav'}: not readable as audio" in left_out[1]


def test_an_unchanged_listing_is_not_written_again(sounds, tmp_path_factory):
    listing = tmp_path_factory.mktemp("lists") / "noise.jsonl"
    list_recordings(sounds, listing)
    os.utime(listing, (1, 1))
    list_recordings(sounds, listing)
    assert listing.stat().st_mtime == 1
    ramp(sounds / "zz.wav", 1.0)
    list_recordings(sounds, listing)
    assert listing.stat().st_mtime != 1


def test_links_to_folders_are_followed_once(sounds):
    (sounds / "street" / "loop").symlink_to(sounds, target_is_directory=True)
    listing = sounds / "noise.list"
    list_recordings(sounds, listing)
    assert len(list(read_rows(listing))) == 3


def test_a_click_is_no_recording_of_noise(tmp_path):
    soundfile.write(tmp_path / "click.wav", np.full(5, 0.1), 8000)
    soundfile.write(tmp_path / "noise.wav", np.full(1000, 0.1), 8000)
    index, left_out = open_recordings(tmp_path, tmp_path / "list.jsonl")
    assert [index.row(i)["id"] for i in range(len(index))] == ["noise.wav"]
    assert left_out == ["click.wav: lasts 0.6 ms, repeated it would be a tone"]


def test_sources_without_recordings_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no recordings"):
        open_recordings(tmp_path / "empty", tmp_path / "list.jsonl")
    (tmp_path / "empty" / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"holds no recordings \(a.txt: no audio"):
        open_recordings(tmp_path / "empty", tmp_path / "list.jsonl")
    with pytest.raises(FileNotFoundError):
        open_recordings(tmp_path / "nowhere.jsonl", tmp_path / "list.jsonl")


def test_of_a_long_recording_only_what_is_needed_is_read(sounds, asked):
    index, _ = open_recordings(sounds, sounds / "list.jsonl")
    source = Recordings(index, long_bytes=1000)
    samples = soundfile.read(sounds / "street" / "long.wav", dtype="float32")[0]
    for start in (0.0, 0.37, 1.0):
        found = whole(source, 1, "street/long.wav", start, 2 * RATE)
        begin = int(start * (20.0 - 2.0 - recordings.SPARE_S) * RATE)
        assert np.array_equal(found, samples[begin : begin + 2 * RATE])
    assert max(asked) < 2.1


def test_long_recordings_that_fit_in_memory_are_read_once_and_give_the_same(sounds, asked):
    index, _ = open_recordings(sounds, sounds / "list.jsonl")
    kept, read = Recordings(index), Recordings(index, long_bytes=1000)
    for _ in range(11):  # of 2 s, of a recording of 20 s
        whole(kept, 1, "street/long.wav", 0.5, 2 * RATE)
    for rate in (RATE, 2 * RATE):
        for start in (0.0, 0.37, 0.999999, 1.0):
            pieces = [whole(source, 1, "street/long.wav", start, 2 * RATE, rate) for source in (kept, read)]
            np.testing.assert_array_equal(*pieces)
    assert sum(seconds is None or seconds > 10 for seconds in asked) == 1


def test_a_manifest_without_durations_makes_no_one_read_all(sounds, asked, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "bare.jsonl"
    row = {"audio_filepath": str(sounds / "street" / "long.wav")}
    write_rows(path, [row])
    source = Recordings(ManifestIndex.open(path))
    samples = soundfile.read(row["audio_filepath"], dtype="float32")[0]
    begin = int(0.5 * (20.0 - 1.0 - recordings.SPARE_S) * RATE)
    found = whole(source, 0, row_identity(row), 0.5, RATE)
    assert np.array_equal(found, samples[begin : begin + RATE])
    assert max(asked) < 1.1


def test_a_short_recording_goes_round_from_its_start(sounds, asked):
    index, _ = open_recordings(sounds, sounds / "list.jsonl")
    source = Recordings(index)
    samples = soundfile.read(sounds / "short.wav", dtype="float32")[0]
    found = whole(source, 0, "short.wav", 0.25, 5 * RATE)
    expected = np.resize(np.roll(samples, -len(samples) // 4), 5 * RATE)
    assert np.abs(found - expected).max() < 3e-5  # it is kept in 16 bits
    whole(source, 0, "short.wav", 0.9, 3 * RATE)
    assert len(asked) == 1
    assert source.excerpt(0, "short.wav", 0.0, 100, RATE).rms == pytest.approx(
        np.sqrt(np.mean(samples**2)), rel=1e-3
    )


def test_the_middle_of_a_long_recording_may_stand_for_it(sounds, asked):
    index, _ = open_recordings(sounds, sounds / "list.jsonl")
    source = Recordings(index, longest_s=4.0)
    samples = soundfile.read(sounds / "street" / "long.wav", dtype="float32")[0]
    found = whole(source, 1, "street/long.wav", 0.25, 5 * RATE)
    expected = np.resize(np.roll(samples[8 * RATE : 12 * RATE], -RATE), 5 * RATE)
    assert np.abs(found - expected).max() < 3e-5
    whole(source, 1, "street/long.wav", 0.9, RATE)
    assert asked == [4.0]


def test_what_is_kept_has_a_bound(sounds, asked):
    index, _ = open_recordings(sounds, sounds / "list.jsonl")
    source = Recordings(index, kept_bytes=60_000)  # 2 s take 32 kB, 3 s 48 kB
    first = whole(source, 0, "short.wav", 0.5, RATE)
    whole(source, 2, "street/wide.flac", 0.5, RATE)
    assert len(asked) == 2
    assert np.array_equal(whole(source, 0, "short.wav", 0.5, RATE), first)
    assert len(asked) == 3
    assert sum(kept.samples.nbytes for kept in source._kept.values()) <= 60_000


def test_segments_keep_within_their_offset_and_duration(sounds, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "segments.jsonl"
    audio = str(sounds / "street" / "long.wav")
    rows = [{"audio_filepath": audio, "offset": 4.0, "duration": 1.0, "id": "a"}]
    write_rows(path, [*rows, {"audio_filepath": audio, "offset": 2.0, "duration": 10.0, "id": "b"}])
    source = Recordings(ManifestIndex.open(path))
    samples = soundfile.read(audio, dtype="float32")[0]
    assert np.abs(whole(source, 0, "a", 0.0, RATE) - samples[4 * RATE : 5 * RATE]).max() < 3e-5
    last = whole(source, 1, "b", 1.0, RATE)
    assert np.array_equal(last, samples[round(10.95 * RATE) : round(11.95 * RATE)])


def test_other_rates_are_brought_to_the_rate_asked_for(sounds):
    index, _ = open_recordings(sounds, sounds / "list.jsonl")
    source = Recordings(index)
    for rate in (8000, 16000):
        assert len(source.excerpt(2, "street/wide.flac", 0.0, 100, rate).samples) == 3 * rate
