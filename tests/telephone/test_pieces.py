"""Long recordings: the same call from piece to piece, cut where it is quiet, exactly as long as before."""

import json

import numpy as np
import pytest
import soundfile

from nest_ssl.bin import simulate
from nest_ssl.files.audio import read_audio
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.telephone import pieces
from nest_ssl.telephone.chain import replay
from nest_ssl.telephone.level import active_level
from nest_ssl.telephone.line import apply_hum, apply_line_noise
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.pieces import cut, level_shifts, piece_channel


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    """A recording is long from 8 s on; pieces of 4 s, cut within their last 2 s."""
    monkeypatch.setattr(pieces, "LONG_S", 8.0)
    monkeypatch.setattr(pieces, "PIECE_S", 4.0)
    monkeypatch.setattr(pieces, "SEARCH_S", 2.0)


def bursts(rate, seconds):
    """Noise with a pause of 0.3 s in every second, float32 (T,)."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.1, len(time))
    return (noise * (time % 1 > 0.3)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 8001])
def test_pieces_are_the_whole_and_end_in_pauses(rate):
    samples = bursts(rate, 25.013)
    found = list(cut(lambda start, count: samples[start : start + count], len(samples), rate))
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in found]), samples)
    assert len(found) > 4
    assert max(len(piece) for _, piece in found) <= 8 * rate
    for start, _ in found[1:]:
        assert start * 50 % rate == 0  # whole frames of 20 ms
        if rate != 8001:  # whose only places are whole seconds
            assert 0 < start / rate % 1 < 0.3
            assert not samples[start - rate // 50 : start + rate // 50].any()


def test_shifts_are_levels_over_that_of_the_whole():
    rate = 8000
    speech = bursts(rate, 8)
    loud, soft = speech, speech * 10 ** (-12 / 20)
    parts = [(0, loud), (len(loud), soft), (2 * len(loud), np.zeros(rate, np.float32))]
    shifts = level_shifts(iter(parts), rate)
    assert shifts[0] - shifts[1] == pytest.approx(12, abs=0.01)
    assert shifts[2] == 0
    whole = active_level(np.concatenate([loud, soft]), rate).level_dbov
    assert shifts[0] == pytest.approx(active_level(loud, rate).level_dbov - whole, abs=0.5)


def test_a_later_piece_is_the_same_call_further_on():
    noise = {"kind": "babble", "snr_db": 20.0, "starts": [0.9, 0.1]}
    channel = {
        "level_dbov": -26.0,
        "noise": noise,
        "far_noise": {"kind": "coloured", "snr_db": 9.0, "seed": 5},
    }
    later = piece_channel(channel, 2, -3.0)
    assert (later["segment"], later["level_dbov"], later["noise"]["snr_db"]) == (2, -29.0, 17.0)
    assert later["far_noise"]["seed"] == 7 and later["noise"]["starts"] != noise["starts"]
    assert noise["snr_db"] == 20.0  # the input stays
    assert piece_channel(channel, 0, 0.0) == channel | {"segment": 0}


@pytest.mark.parametrize("preset", ["voip_g711_loss", "mobile_amr_nb", "clean_8k"])
def test_a_long_recording_keeps_its_length_and_its_level(tmp_path, speech, preset, monkeypatch):
    samples = np.tile(speech, 2)[: 16000 * 27 + 11]
    soundfile.write(tmp_path / "long.wav", samples, 16000)
    rows = [
        {"audio_filepath": "long.wav", "id": "long"},
        {"audio_filepath": "long.wav", "id": "part", "offset": 3.3, "duration": 20.5},
    ]
    write_rows(tmp_path / "in.jsonl", rows)
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    words += ["--preset", preset, "channel.noise.probability=0", "--workers", "1"]
    assert simulate.main(words) == 0
    whole, part = (row for _, row in read_rows(tmp_path / "out.jsonl"))
    assert [whole["duration"], part["duration"]] == [len(samples) / 16000, 20.5]
    assert len(whole["channel"]["pieces"]) >= 4
    gains = [piece["gain_db"] for piece in whole["channel"]["pieces"]]
    assert np.ptp(gains) < 1.5  # one gain for the whole call, but for what a room adds
    found, _ = read_audio(tmp_path / whole["audio_filepath"])
    assert len(found) == len(samples)
    if whole["channel"]["level_dbov"] is not None:
        assert active_level(found, 16000).level_dbov == pytest.approx(whole["channel"]["level_dbov"], abs=3)
    lag = np.argmax(np.correlate(found[80000:96000], samples[80100:95900], "valid")) - 100
    assert abs(lag) <= 8  # of 16 kHz; weightings and codecs shift phases

    # the file is read piece by piece where it is not small, with the same result
    monkeypatch.setattr("nest_ssl.telephone.sources.SMALL_BYTES", 0)
    words[words.index(str(tmp_path / "out"))] = str(tmp_path / "again")
    assert simulate.main(words) == 0
    for name in ("long", "part"):
        paths = [next((tmp_path / out / "copy0").glob(f"{name}.flac")) for out in ("out", "again")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_losses_differ_between_pieces(tmp_path, speech):
    soundfile.write(tmp_path / "long.wav", np.tile(speech[: 16000 * 4], 6), 16000)
    write_rows(tmp_path / "in.jsonl", [{"audio_filepath": "long.wav", "id": "long"}])
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    assert simulate.main([*words, "--preset", "voip_g711_loss", "--workers", "1"]) == 0
    [(_, row)] = read_rows(tmp_path / "out.jsonl")
    lost = [json.dumps(piece["legs"]) for piece in row["channel"]["pieces"]]
    assert len(set(lost)) > 1


def test_hum_and_line_noise_go_on_from_piece_to_piece():
    hum = {"mains_hz": 60, "level_dbov": -40.0, "levels_db": [0.0, -6.0], "phases": [1.0, 2.0]}
    channel = {"level_dbov": None, "hum": hum, "line_noise": {"level_dbov": -60.0, "seed": 9}}
    rate, start = 8000, 8000 + 160
    whole = apply_hum(np.zeros(2 * rate, np.float32), rate, hum)
    later = piece_channel(channel, 1, 0.0, start / rate)
    np.testing.assert_allclose(
        apply_hum(np.zeros(2 * rate - start, np.float32), rate, later["hum"]), whole[start:], atol=1e-5
    )
    noises = [
        apply_line_noise(np.zeros(rate, np.float32), rate, piece_channel(channel, number, 0.0)["line_noise"])
        for number in (0, 1, 2)
    ]
    correlations = np.corrcoef(noises) - np.eye(3)
    assert np.abs(correlations).max() < 0.05


@pytest.mark.parametrize("preset", ["voip_g711_loss", "legacy_mix"])
def test_the_row_of_a_long_recording_replays(tmp_path, speech, preset):
    samples = np.rint(np.tile(speech, 2)[: 16000 * 21 + 11] * 32768).astype(np.int16)
    soundfile.write(tmp_path / "long.wav", samples, 16000)
    write_rows(tmp_path / "in.jsonl", [{"audio_filepath": "long.wav", "id": "long"}])
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    words += ["--preset", preset, "channel.noise.kinds={coloured: 1.0}", "channel.noise.probability=1.0"]
    assert simulate.main([*words, "channel.hum.mains_hz=60", "--workers", "1"]) == 0
    [(_, row)] = read_rows(tmp_path / "out.jsonl")
    again, record = replay(samples, 16000, json.loads(json.dumps(row["channel"])), NoiseBank())
    written, _ = soundfile.read(tmp_path / row["audio_filepath"], dtype="int16")
    np.testing.assert_array_equal(again, written)
    assert record == row["channel"]
