"""The odd inputs that every corpus has some of, through the channel and through the driver."""

import json
from fractions import Fraction
from math import floor

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nest_ssl.bin import simulate
from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.telephone.chain import apply_channel, draw_channel
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.presets import Mix

MIX = Mix.load("default")
PRESETS = [preset.name for preset in (*MIX.presets, *MIX.others)]
RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")


def available(name: str) -> Mix:
    mix = MIX.only(name)
    try:
        mix.check()
    except CodecMissing as missing:
        pytest.skip(str(missing))
    return mix


def tone(rate: int, seconds: float, hertz: float = 300.0, peak: float = 1.0) -> np.ndarray:
    """A sine, float32 (T,)."""
    return (peak * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def length_by_definition(num_samples: int, rate: int, out_rate: int) -> int:
    """round(n * out / in), halves up, in exact fractions."""
    return floor(Fraction(num_samples * out_rate, rate) + Fraction(1, 2))


def simulated(folder, rows: list[dict], *more: str) -> tuple[int, list[dict], list[dict]]:
    """Run the driver over rows; gives its status, what it made and what it recorded as errors."""
    write_rows(folder / "in.jsonl", rows)
    words = ["--manifest", str(folder / "in.jsonl"), "--out", str(folder / "out"), "--seed", "3", *more]
    status = simulate.main([*words, "--workers", "1"])
    found = [folder / "out.jsonl", folder / "out.errors.jsonl"]
    made, errors = ([row for _, row in read_rows(path)] if path.exists() else [] for path in found)
    return status, made, errors


@settings(max_examples=150, deadline=None, derandomize=True)
@example(0, 8000, 16000, "pstn_g711a")
@example(1, 96000, 8000, "pstn_g711a")
@example(3, 16000, 8000, "clean_8k")
@given(
    num_samples=st.integers(0, 3000),
    rate=st.sampled_from(RATES) | st.integers(4000, 192000),
    out_rate=st.sampled_from((8000, 16000)) | st.integers(6000, 48000),
    preset=st.sampled_from([preset.name for preset in MIX.presets]),
)
def test_the_length_is_exact_at_any_rates(num_samples, rate, out_rate, preset):
    samples = tone(rate, 1.0, peak=0.3)[:num_samples]
    bank = NoiseBank()
    drawn = draw_channel(available(preset), bank, 7, f"{num_samples} {rate}", "k", 0)
    received, record = apply_channel(samples, rate, drawn, bank, out_rate)
    assert received.dtype == np.int16
    assert len(received) == length_by_definition(len(samples), rate, out_rate)
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("level_dbov", [None, 6.0])
def test_nothing_wraps_around_at_full_scale(preset, level_dbov):
    bank, mix = NoiseBank(), available(preset)
    sent = tone(8000, 0.5)
    for utterance in "abcdef":
        drawn = draw_channel(mix, bank, 11, utterance, "k", 0) | {"level_dbov": level_dbov}
        received = apply_channel(sent, 8000, drawn, bank, 8000)[0].astype(int)
        # from one sample to the next the tone moves by less than 7800, a lost frame by less than 32768,
        # and what wraps around by more than 60000
        assert np.abs(np.diff(received)).max() < 40000, (utterance, drawn)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_loudest_samples_keep_their_sign(preset):
    bank, mix = NoiseBank(), available(preset)
    quiet = dict.fromkeys(("noise", "far_noise", "room", "echo", "hum", "dc", "line_noise", "clip", "agc"))
    drawn = draw_channel(mix, bank, 11, "a", "k", 0) | quiet | {"level_dbov": 0.0}
    drawn["legs"] = [leg | {"loss": None} for leg in drawn["legs"]]
    rate = drawn["rate"]
    sent = tone(rate, 1.0, 1000.0)
    received = apply_channel(sent, rate, drawn, bank, rate)[0]
    middle = slice(rate // 4, rate * 3 // 4)
    loud = np.abs(sent[middle]) > 0.9
    same = np.sign(received[middle][loud]) == np.sign(sent[middle][loud])
    assert same.mean() > 0.99


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", ["zeros", "one", "159", "square", "click", "constant", "denormal"])
def test_odd_signals_pass_with_all_that_may_be_drawn(preset, kind):
    samples = {
        "zeros": np.zeros(3000),
        "one": np.ones(1),
        "159": tone(16000, 1.0)[:159],
        "square": np.where(np.arange(8000) // 20 % 2, 1.0, -1.0),
        "click": np.eye(1, 4000, 2000)[0],
        "constant": np.full(5000, -1.0),
        "denormal": np.full(3000, 1e-42),
    }[kind].astype(np.float32)
    bank, mix = NoiseBank(), available(preset)
    before = samples.copy()
    for utterance in "abc":
        drawn = draw_channel(mix, bank, 5, utterance, "k", 0)
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            received, record = apply_channel(samples, 16000, drawn, bank, 16000)
        assert received.shape == samples.shape
        json.dumps(record, allow_nan=False)
    np.testing.assert_array_equal(samples, before)


def test_every_rate_and_coding_goes_through_the_driver(tmp_path):
    rows = []
    for rate in RATES:
        for subtype in SUBTYPES:
            name = f"{rate}-{subtype}.wav"
            soundfile.write(tmp_path / name, tone(rate, 0.21 + rate / 1e7, peak=0.5), rate, subtype=subtype)
            rows.append({"audio_filepath": name, "id": name})
    status, made, errors = simulated(tmp_path, rows)
    assert (status, errors) == (0, [])
    assert [row["source_id"] for row in made] == [row["id"] for row in rows]
    for row in made:
        source, result = audio_info(tmp_path / row["source_id"]), audio_info(tmp_path / row["audio_filepath"])
        assert result.num_frames == length_by_definition(source.num_frames, source.sample_rate, 16000)
        assert row["duration"] == result.num_frames / 16000
        assert np.abs(read_audio(tmp_path / row["audio_filepath"])[0]).max() > 0.01


def test_the_shortest_files_go_through_the_driver(tmp_path):
    shortest = [(8000, 1), (16000, 1), (44100, 2), *((rate, n) for rate in RATES for n in (159, 160, 161))]
    rows = []
    for rate, num_samples in shortest:
        soundfile.write(tmp_path / f"{rate}-{num_samples}.wav", tone(rate, 1.0)[:num_samples], rate)
        rows.append({"audio_filepath": f"{rate}-{num_samples}.wav", "id": f"{rate}-{num_samples}"})
    status, made, errors = simulated(tmp_path, rows)
    assert (status, errors) == (0, [])
    for row, (rate, num_samples) in zip(made, shortest, strict=True):
        info = audio_info(tmp_path / row["audio_filepath"])
        assert info.num_frames == length_by_definition(num_samples, rate, 16000)


def test_what_the_driver_refuses_is_recorded_with_file_and_count(tmp_path):
    samples = tone(16000, 0.5)
    samples[[10, 500, 501]], samples[[7, 4000]] = np.nan, np.inf
    soundfile.write(tmp_path / "nan.wav", samples, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "double.wav", samples.astype(float), 16000, subtype="DOUBLE")
    soundfile.write(tmp_path / "two.wav", np.zeros((100, 2)), 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "slow.wav", np.zeros(100), 1000)
    soundfile.write(tmp_path / "short.wav", np.zeros(1), 44100)
    (tmp_path / "nothing.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "right.wav", tone(16000, 0.5), 16000)
    content = (tmp_path / "right.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[:-100])
    names = ("nan", "double", "two", "empty", "short", "slow", "nothing", "folder", "missing", "cut", "right")
    rows = [{"audio_filepath": f"{name}.wav", "id": name} for name in names]
    status, made, errors = simulated(tmp_path, rows, "--max-error-rate", "1")
    assert status == 0
    assert [row["source_id"] for row in made] == ["right"]
    said = {error["id"]: error["error"] for error in errors}
    for name, words in {
        "nan": "5 of 8000 samples are not finite (NaN or infinity), the first is sample 7",
        "double": "5 of 8000 samples are not finite",
        "two": "2 channels; set channel_selector",
        "empty": "no audio samples",
        "short": "no audio samples at 16000 Hz: it has 1 at 44100 Hz",
        "slow": "sample rate of 1000 Hz",
        "nothing": "the file is empty (0 bytes)",
        "folder": "",
        "missing": "",
        "cut": "0.003 s before the end that its header states",
    }.items():
        assert words in said[name]
        assert f"{name}.wav" in said[name]
