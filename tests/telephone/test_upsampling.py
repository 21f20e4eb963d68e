"""8 to 16 kHz: nothing above 4 kHz, nothing changed below, exact lengths, every row accounted for."""

import numpy as np
import pytest
import soundfile
from scipy import signal

from nest_ssl.bin import upsample
from nest_ssl.files.audio import read_audio
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.telephone import upsampling as module
from nest_ssl.telephone.resample import resample
from nest_ssl.telephone.upsampling import QUALITIES, upsample_block
from tests.telephone.conftest import PROMPTS


def spectrum_db(samples, size=512):
    """Long-term average spectrum, (size // 2 + 1,) dB."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), size)[:: size // 2]
    return 10 * np.log10(np.mean(np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2, axis=0) + 1e-20)


def share_above_db(samples, hertz, rate=16000):
    window = np.hanning(len(samples))
    power = np.abs(np.fft.rfft(samples.astype(np.float64) * window)) ** 2
    return 10 * np.log10(power[np.fft.rfftfreq(len(samples), 1 / rate) > hertz].sum() / power.sum())


@pytest.fixture(scope="module")
def narrow(speech):
    """Speech at 8 kHz as a call centre stores it: int16 values, float32 (T,)."""
    return np.rint(resample(speech, 16000, 8000) * 32768).astype(np.int16).astype(np.float32) / 32768


@pytest.mark.parametrize("quality", QUALITIES)
def test_nothing_is_added_above_4_khz(narrow, quality):
    noise = np.random.default_rng(0).normal(0, 0.1, 80000).astype(np.float32)
    for samples in (narrow, noise):
        assert share_above_db(np.rint(upsample_block(samples, 8000, quality) * 32768), 4010) < -60


@pytest.mark.parametrize("quality", QUALITIES)
def test_nothing_is_changed_below_3600_hz(narrow, quality):
    before, after = spectrum_db(narrow, 256), spectrum_db(upsample_block(narrow, 8000, quality), 512)
    hertz = np.fft.rfftfreq(256, 1 / 8000)
    inside = (hertz > 60) & (hertz < 3600)
    change = after[:129][inside] - before[inside] - 20 * np.log10(2)  # twice the samples in a frame
    assert np.abs(change).max() < 0.05


def signal_to_noise_db(before, after):
    return 10 * np.log10(np.sum(before.astype(float) ** 2) / np.sum((before.astype(float) - after) ** 2))


@pytest.mark.parametrize("quality", QUALITIES)
def test_down_again_gives_what_was_there(narrow, quality):
    call, rate = soundfile.read(PROMPTS / "en" / "hello-world.wav", dtype="float32")  # as telephones carry it
    assert rate == 8000
    assert signal_to_noise_db(call, resample(upsample_block(call, 8000, quality), 16000, 8000)) > 45
    # what is lost of other speech is the edge of the band: below it nothing is
    low = signal.sosfiltfilt(signal.butter(12, 3300, fs=8000, output="sos"), narrow).astype(np.float32)
    back = resample(upsample_block(low, 8000, quality), 16000, 8000)
    assert signal_to_noise_db(low[400:-400], back[400:-400]) > 65


def test_wide_is_flat_to_3800_hz():
    time = np.arange(16000) / 8000
    for hertz in (300.0, 3400.0, 3800.0):
        tone = (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
        middle = upsample_block(tone, 8000, "wide")[8000:-8000].astype(np.float64)
        assert 10 * np.log10(2 * np.mean(middle**2)) == pytest.approx(20 * np.log10(0.5), abs=0.05)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("count", [0, 1, 2, 159, 8001])
def test_lengths_are_twice_what_they_were(quality, count):
    assert upsample_block(np.full(count, 0.1, np.float32), 8000, quality).shape == (2 * count,)


def run(tmp_path, rows, *words):
    write_rows(tmp_path / "calls.jsonl", rows)
    return upsample.main(
        [
            "--manifest",
            str(tmp_path / "calls.jsonl"),
            "--out",
            str(tmp_path / "out"),
            "--workers",
            "1",
            *words,
        ]
    )


def made(tmp_path):
    return [row for _, row in read_rows(tmp_path / "out.jsonl")]


def test_every_coding_and_exact_parts(tmp_path, narrow):
    for name, subtype in (("pcm", "PCM_16"), ("alaw", "ALAW"), ("ulaw", "ULAW")):
        soundfile.write(tmp_path / f"{name}.wav", narrow[:24000], 8000, subtype=subtype)
    soundfile.write(tmp_path / "raw.gsm", narrow[:24000], 8000, format="RAW", subtype="GSM610")
    rows = [{"audio_filepath": f"{name}.wav", "id": name, "text": "x"} for name in ("pcm", "alaw", "ulaw")]
    rows += [{"audio_filepath": "raw.gsm", "id": "gsm", "duration": 3.0}]
    rows += [{"audio_filepath": "pcm.wav", "id": "part", "offset": 0.5001, "duration": 1.00025, "text": "y"}]
    assert run(tmp_path, rows) == 0
    found = {row["id"]: row for row in made(tmp_path)}
    assert [found[name]["duration"] for name in ("pcm", "alaw", "ulaw", "gsm")] == [3.0] * 4
    assert found["part"]["duration"] == 8002 / 8000
    assert "offset" not in found["part"] and found["part"]["text"] == "y"
    samples, rate = read_audio(tmp_path / found["part"]["audio_filepath"])
    assert (len(samples), rate) == (16004, 16000)
    expected = upsample_block(narrow[4000 : 4000 + 8002], 8000)
    np.testing.assert_allclose(samples, expected, atol=0.6 / 32768)


def test_stereo_is_refused_split_or_reduced_as_asked(tmp_path, narrow):
    soundfile.write(tmp_path / "two.wav", np.stack([narrow[:8000], narrow[8000:16000]], 1), 8000)
    rows = [{"audio_filepath": "two.wav", "id": "call"}]
    assert run(tmp_path, rows) == 3
    assert run(tmp_path, rows, "--force", "--channels", "split") == 0
    sides = made(tmp_path)
    assert [row["id"] for row in sides] == ["call#channel0", "call#channel1"]
    assert [row["upsampled"]["channel"] for row in sides] == [0, 1]
    for row, side in zip(sides, (narrow[:8000], narrow[8000:16000]), strict=True):
        found, _ = read_audio(tmp_path / row["audio_filepath"])
        np.testing.assert_allclose(found, upsample_block(side, 8000), atol=0.6 / 32768)
    assert run(tmp_path, rows, "--force", "--channels", "1") == 0
    [row] = made(tmp_path)
    found, _ = read_audio(tmp_path / row["audio_filepath"])
    np.testing.assert_allclose(found, upsample_block(narrow[8000:16000], 8000), atol=0.6 / 32768)
    rows[0]["channel_selector"] = 0
    assert run(tmp_path, rows, "--force", "--channels", "split") == 0
    [row] = made(tmp_path)
    assert row["id"] == "call" and row["upsampled"].get("channel") is None


def test_other_rates_are_errors_unless_asked_for(tmp_path, narrow):
    soundfile.write(tmp_path / "wide.wav", upsample_block(narrow[:8000], 8000), 16000)
    rows = [{"audio_filepath": "wide.wav", "id": "wide"}]
    assert run(tmp_path, rows) == 3
    [(_, error)] = read_rows(tmp_path / "out.errors.jsonl")
    assert "its sample rate is 16000 Hz, not 8000" in error["error"]
    assert error["kind"] == "sample_rate"
    assert run(tmp_path, rows, "--force", "--any-rate") == 0
    [row] = made(tmp_path)
    before, _ = read_audio(tmp_path / "wide.wav")
    after, _ = read_audio(tmp_path / row["audio_filepath"])
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("quality", ["hq", "wide"])
def test_blocks_of_a_long_recording_have_no_seam(tmp_path, narrow, monkeypatch, quality):
    monkeypatch.setattr(module, "BLOCK_S", 1.0)
    soundfile.write(tmp_path / "long.wav", narrow[:28321], 8000)
    assert run(tmp_path, [{"audio_filepath": "long.wav", "id": "long"}], "--quality", quality) == 0
    [row] = made(tmp_path)
    found, _ = read_audio(tmp_path / row["audio_filepath"])
    assert row["duration"] == 28321 / 8000
    np.testing.assert_allclose(found, upsample_block(narrow[:28321], 8000, quality), atol=0.6 / 32768)


def test_a_second_run_makes_nothing_again(tmp_path, narrow):
    soundfile.write(tmp_path / "a.wav", narrow[:8000], 8000)
    rows = [{"audio_filepath": "a.wav", "id": "a"}]
    assert run(tmp_path, rows) == 0
    [path] = (tmp_path / "out").rglob("*.flac")
    before = path.stat().st_mtime_ns
    assert run(tmp_path, rows) == 0
    assert path.stat().st_mtime_ns == before


def test_clipping_is_counted_and_never_wraps(tmp_path):
    square = np.where(np.arange(8000) // 7 % 2, 32767, -32768).astype(np.int16)
    soundfile.write(tmp_path / "square.wav", square, 8000)
    assert run(tmp_path, [{"audio_filepath": "square.wav", "id": "s"}]) == 0
    [row] = made(tmp_path)
    assert row["upsampled"]["clipped"] > 0
    found, _ = read_audio(tmp_path / row["audio_filepath"])
    inner = found[::2][20:-20] * np.where(np.arange(8000) // 7 % 2, 1, -1)[20:-20]
    assert inner.min() > 0.5  # the samples that were there keep their sign
