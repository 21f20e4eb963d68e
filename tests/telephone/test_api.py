"""Presets and mixes as functions of samples."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from nest_ssl import telephone
from nest_ssl.telephone.api import overridden
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.codecs.base import CodecMissing


def test_a_preset_is_a_function_of_samples_and_its_record_replays(speech):
    channel = telephone.preset("mobile_gsm_fr")
    received, record = channel(speech[:32001], sr=16000, key="utt", seed=17, out_sr=8000)
    assert received.dtype == np.int16
    assert len(received) == 16001
    assert record["preset"] == "mobile_gsm_fr"
    record = json.loads(json.dumps(record))
    np.testing.assert_array_equal(channel.replay(speech[:32001], record), received)
    np.testing.assert_array_equal(channel.replay(speech[:32001], record, sr=16000, out_sr=8000), received)


def test_key_seed_and_copy_decide_what_is_drawn(speech):
    channel = telephone.preset("pstn_g711a")
    first = channel(speech[:16000], 16000, key="a", seed=1)[1]
    assert channel(speech[:16000], 16000, key="a", seed=1)[1] == first
    for other in ({"key": "b"}, {"seed": 2}, {"copy": 1}):
        drawn = channel(speech[:16000], 16000, **({"key": "a", "seed": 1} | other))[1]
        assert drawn["level_dbov"] != first["level_dbov"]


def test_a_mix_is_a_function_of_samples(speech):
    mix = telephone.Mix.load("china")
    received, record = mix(speech[:16000], sr=16000, key="utt", seed=3)
    assert received.shape == (16000,)
    assert record["mix"] == "china"


def test_a_mix_takes_overrides_of_the_file():
    mix = telephone.Mix.load("default", overrides=["channel.level_dbov=-20.0"])
    assert {preset.settings["level_dbov"] for preset in mix.presets} == {-20.0}


def test_overrides_change_a_preset(speech):
    overrides = {
        "noise.probability": 0.0,
        "level_dbov": -20.0,
        "legs.0.kbps": 4.75,
        "legs.1.probability": 0.0,
    }
    record = telephone.preset("mobile_amr_nb", overrides)(speech[:16000], 16000)[1]
    assert record["noise"] is None
    assert record["level_dbov"] == -20.0
    assert [leg["parameters"]["kbps"] for leg in record["legs"]] == [4.75]


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_a_loss_rate_is_the_only_cause_of_losses(speech, rate):
    channel = telephone.preset("mobile_to_mobile", {"loss.rate": rate})
    for key in "abc":
        legs = channel(speech[:16000], 16000, key)[1]["legs"]
        assert legs[1]["loss"] is None  # the fixed line between
        for leg in (legs[0], legs[2]):
            if rate == 0:
                assert leg["loss"] is None
            else:
                assert leg["loss"].keys() == {"seed", "concealment", "packet_ms", "rate"}
                assert leg["loss"]["rate"] == rate


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"nois.probability": 1}, r"presets\.voip_opus_nb\.nois\.probability: .* did you mean noise\?"),
        ({"noise.snr": 3}, r"noise\.snr: there is no key 'snr'; did you mean snr_db\?"),
        ({"legs.0.kbs": 3}, r"legs\.0\.kbs: the codec opus_nb has no such parameter; did you mean kbps\?"),
        ({"legs.1.kbps": 3}, r"legs\.1\.kbps: there is no number '1' of 1"),
        ({"loss.rat": 1}, r"loss\.rat: is not a known key; did you mean rate\?"),
        ({"law.a": 1}, r"law\.a: law is 'a', without keys of its own"),
        ({"level_dbov": 3}, r"level_dbov: must lie within -inf and 0, not 3"),
    ],
)
def test_impossible_overrides_are_refused_by_name(overrides, said):
    with pytest.raises(ValueError, match=said):
        telephone.preset("voip_opus_nb", overrides)


def test_overrides_leave_the_settings_as_they_were():
    settings = {"level_dbov": -26.0, "noise": {"probability": 0.5}, "legs": [], "loss": {"rate": None}}
    changed = overridden(settings, {"noise.probability": 1.0}, "here")
    assert changed["noise"]["probability"] == 1.0
    assert settings["noise"]["probability"] == 0.5


def test_a_corpus_is_simulated_and_brought_to_16_khz_by_functions(prompts, tmp_path):
    mix = telephone.Mix.load().only("pstn_g711a")
    noise = {"music": prompts.with_name("noise.jsonl")}
    manifest = telephone.run(prompts, tmp_path / "calls", mix, seed=17, out_sr=8000, workers=1, noise=noise)
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 30
    assert soundfile.info(tmp_path / rows[0]["audio_filepath"]).samplerate == 8000
    assert "music" in {row["channel"]["noise"]["kind"] for row in rows if row["channel"]["noise"]}
    half = telephone.upsample(manifest, tmp_path / "half", workers=1, shard=(1, 2))
    assert half is None
    wide = telephone.upsample(manifest, tmp_path / "wide", workers=1)
    first = json.loads(wide.read_text(encoding="utf-8").splitlines()[0])
    assert soundfile.info(tmp_path / first["audio_filepath"]).samplerate == 16000
    with pytest.raises(ValueError, match="to: calls are brought to 16000 Hz, not to 48000 Hz"):
        telephone.upsample(manifest, tmp_path / "other", to=48000)


def test_a_record_without_rates_asks_for_them(speech):
    channel = telephone.preset("clean_8k")
    _, record = channel(speech[:1600], sr=16000)
    del record["sr"]
    with pytest.raises(ValueError, match="holds no sr; give it as an argument, for example sr=16000"):
        channel.replay(speech[:1600], record)


def test_a_preset_whose_codec_is_missing_is_refused_at_once(monkeypatch):
    def missing() -> None:
        raise CodecMissing("opus_nb needs libopus; install it with: apt-get install libopus0")

    monkeypatch.setattr(CODECS["opus_nb"], "check", missing)
    with pytest.raises(CodecMissing, match="apt-get install libopus0"):
        telephone.preset("voip_opus_nb")


def test_importing_the_package_imports_nothing():
    code = (
        "import sys, nest_ssl.telephone as t\n"
        "print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])\n"
        "t.Mix; t.preset; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'presett'"):
        telephone.presett  # noqa: B018


def test_a_record_of_other_libraries_is_refused_unless_allowed(speech):
    channel = telephone.preset("pstn_g711a")
    received, record = channel(speech[:8000], 16000)
    assert "soxr" in record["libraries"]
    older = record | {"libraries": "numpy 1.0"}
    with pytest.raises(ValueError, match=r"made with numpy 1\.0, and here are nest_ssl .*soxr"):
        channel.replay(speech[:8000], older)
    again = channel.replay(speech[:8000], older, allow_other_versions=True)
    np.testing.assert_array_equal(again, received)
