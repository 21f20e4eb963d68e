"""python -m nest_ssl.bin.telephone: doctor, inspect, audition."""

import json
import sys

import numpy as np
import pytest

from nest_ssl.bin import telephone
from nest_ssl.files.audio import read_audio, write_audio
from nest_ssl.telephone.alignment import speech_like
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.codecs.base import CodecMissing


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "speech.flac"
    write_audio(path, speech_like(2.0, 16000), 16000)
    return path


def test_doctor_tries_every_codec(capsys):
    status = telephone.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    facts = {fact["codec"]: fact for fact in report["codecs"]}
    assert facts.keys() == CODECS.keys()
    for name in ("g711a", "g711u", "gsm_fr", "amr_nb", "opus_nb", "g726", "g7231", "g722", "mp3"):
        assert facts[name]["state"] == "ok" and abs(facts[name]["lag_samples"]) < 1, facts[name]
    assert set(report["mixes"]) >= {"default", "china", "north_america"}
    assert status == 0 and report["mixes"]["default"] is None


def test_doctor_names_what_is_missing_and_fails(capsys, monkeypatch):
    def check():
        raise CodecMissing("gsm_fr needs libgsm: apt-get install libgsm1")

    monkeypatch.setattr(CODECS["gsm_fr"], "check", check)
    assert telephone.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("gsm_fr")]
    assert "missing" in row and "apt-get install libgsm1" in row
    assert any(line.startswith("mix default: cannot be drawn") for line in lines)


def test_doctor_notices_a_codec_that_shifts(capsys, monkeypatch):
    monkeypatch.setattr(
        CODECS["g711a"], "encode_decode", lambda samples, parameters, lost=None: np.roll(samples, 5)
    )
    assert telephone.main(["doctor"]) == 1
    assert "broken: g711a" in capsys.readouterr().out


def test_inspect_prints_a_paragraph_or_json(recording, capsys):
    assert telephone.main(["inspect", str(recording)]) == 0
    words = capsys.readouterr().out
    assert "16000 Hz" in words and "wideband" in words
    telephone.main(["inspect", "--json", str(recording), str(recording)])
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == 2 and records[0]["duration_s"] == 2.0 and records[0]["file"] == str(recording)


def test_a_stereo_file_asks_for_the_channel(tmp_path):
    import soundfile

    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([speech_like(1.0, 8000), np.zeros(8000)], axis=1), 8000)
    with pytest.raises(ValueError, match="2 channels: choose one with --channel 0 to 1"):
        telephone.main(["inspect", str(path)])
    assert telephone.main(["inspect", str(path), "--channel", "1"]) == 0


def test_audition_writes_every_preset_its_record_and_a_picture(recording, tmp_path, capsys):
    out = tmp_path / "audition"
    presets = ["clean_8k", "pstn_g711a", "mobile_gsm_fr"]
    chosen = [word for name in presets for word in ("--preset", name)]
    words = ["audition", str(recording), *chosen, "--out", str(out)]
    assert telephone.main([*words, "channel.noise.probability=0"]) == 0
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert [row["channel"]["preset"] for row in rows] == presets
    assert all(row["channel"]["noise"] is None for row in rows)
    for name in presets:
        samples, rate = read_audio(out / f"{name}.wav")
        assert rate == 16000 and len(samples) == 32000
    assert (out / "audition.png").read_bytes().startswith(b"\x89PNG")
    assert "3 presets" in capsys.readouterr().out


def test_wrong_words_are_refused(recording, tmp_path, capsys):
    out = ["--out", str(tmp_path / "a")]
    with pytest.raises(ValueError, match="there is no preset 'pstn'"):
        telephone.main(["audition", str(recording), "--preset", "pstn", *out])
    with pytest.raises(SystemExit):
        telephone.main(["audition", str(recording), "--all", *out, "nonsense"])
    assert "unrecognized arguments: nonsense" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        telephone.main(["inspect", str(tmp_path / "nowhere.wav")])


def test_doctor_and_inspect_need_no_plotting_library(recording, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert telephone.main(["inspect", str(recording)]) == 0
