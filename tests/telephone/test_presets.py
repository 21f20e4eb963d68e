"""conf/telephone.yaml: the presets and mixes it holds, how they are read, what is refused."""

import re
from collections import Counter

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from nest_ssl.config import load_config
from nest_ssl.telephone.chain import draw_channel
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.presets import Mix, merged_settings, mix_from_config

DEFAULT = {
    "pstn_g711a": 0.18, "pstn_g711u": 0.12, "voip_g711_loss": 0.12, "mobile_gsm_fr": 0.10,
    "mobile_amr_nb": 0.18, "mobile_to_mobile": 0.06, "voip_opus_nb": 0.08, "voip_g726": 0.05,
    "voip_g7231": 0.02, "recorder_mix": 0.04, "legacy_mix": 0.03, "clean_8k": 0.02,
}  # fmt: skip
MIXES = ("default", "china", "north_america")


@pytest.fixture(scope="module")
def config(checkout) -> dict:
    """The file as plain dictionaries."""
    return yaml.safe_load((checkout / "conf" / "telephone.yaml").read_text(encoding="utf-8"))


def read(config: dict, name: str = "default", **changes) -> Mix:
    """The mix of a file with changes by dotted key, whose dots are written as double underscores."""
    changed = OmegaConf.create(config)
    for key, value in changes.items():
        OmegaConf.update(changed, key.replace("__", "."), value, merge=False, force_add=True)
    return mix_from_config(changed, name)


def drawn(mix: Mix, preset: str, count: int = 1500) -> list[dict]:
    only = mix.only(preset)
    return [draw_channel(only, NoiseBank(), 3, f"utt{i}", "k", 0) for i in range(count)]


def shares(values) -> dict:
    counted = Counter(values)
    return {value: count / counted.total() for value, count in counted.items()}


def test_the_default_mix_has_its_twelve_presets_and_weights(mix):
    assert {preset.name: preset.weight for preset in mix.presets} == DEFAULT


@pytest.mark.parametrize("name", MIXES)
def test_every_mix_can_be_read_and_drawn_from(checkout, name):
    mix = mix_from_config(load_config(checkout / "conf" / "telephone.yaml"), name)
    assert sum(preset.weight for preset in mix.presets) == pytest.approx(1)
    names = [draw_channel(mix, NoiseBank(), 3, f"utt{i}", "k", 0)["preset"] for i in range(1500)]
    for preset in mix.presets:
        assert names.count(preset.name) / 1500 == pytest.approx(preset.weight, abs=0.035)  # over 3 sigma


def test_north_america_exchanges_the_laws(checkout, config):
    mix = read(config, "north_america")
    assert {preset.name: preset.weight for preset in mix.presets} == DEFAULT | {
        "pstn_g711a": 0.12, "pstn_g711u": 0.18,
    }  # fmt: skip
    for preset in ("mobile_amr_nb", "voip_g711_loss", "legacy_mix"):
        codecs = {leg["codec"] for channel in drawn(mix, preset, 60) for leg in channel["legs"]}
        assert "g711u" in codecs
        assert "g711a" not in codecs
    hums = [channel["hum"] for channel in drawn(mix, "legacy_mix", 60)]
    assert {hum["mains_hz"] for hum in hums if hum} == {60}


def test_a_mix_turns_on_nothing_that_a_preset_has_off(config):
    assert all(channel["hum"] is None for channel in drawn(read(config, "north_america"), "clean_8k", 60))


# -- what is drawn


def test_levels_are_normal_and_cut(mix):
    levels = np.array([channel["level_dbov"] for channel in drawn(mix, "pstn_g711a", 3000)])
    assert levels.mean() == pytest.approx(-26, abs=0.25)
    assert levels.std() == pytest.approx(4, abs=0.2)
    assert levels.min() >= -38.0
    assert levels.max() <= -16.0


def test_handsets_noise_and_line_happen_as_often_as_set(mix):
    channels = drawn(mix, "pstn_g711a", 3000)
    expected = {"irs": 0.25, "mirs": 0.25, "msin": 0.30, "flat": 0.15, "tilt": 0.05}
    assert shares(channel["weighting"]["send"] for channel in channels) == pytest.approx(expected, abs=0.03)
    for stage, probability in (
        ("noise", 0.6), ("line_noise", 0.5), ("hum", 0.1), ("dc", 0.1), ("clip", 0.05), ("agc", 0.15),
        ("echo", 0.05), ("receive", 0.1), ("g712", 1.0), ("room", 0.25),
    ):  # fmt: skip
        happened = np.mean([channel[stage] is not None for channel in channels])
        assert happened == pytest.approx(probability, abs=0.03), stage
    snr_db = [channel["noise"]["snr_db"] for channel in channels if channel["noise"]]
    assert 8 <= min(snr_db) < 9
    assert 34 < max(snr_db) <= 35


def test_amr_modes_dtx_and_the_tandem_are_drawn_as_set(mix):
    channels = drawn(mix, "mobile_amr_nb", 3000)
    modes = {12.2: 0.45, 10.2: 0.05, 7.95: 0.1, 7.4: 0.15, 6.7: 0.05, 5.9: 0.15, 4.75: 0.05}
    first = [channel["legs"][0]["parameters"] for channel in channels]
    assert shares(parameters["kbps"] for parameters in first) == pytest.approx(modes, abs=0.03)
    assert np.mean([parameters["dtx"] for parameters in first]) == pytest.approx(0.5, abs=0.03)
    tandem = [[leg["codec"] for leg in channel["legs"][1:]] for channel in channels]
    assert tandem.count(["g711a"]) / 3000 == pytest.approx(0.8, abs=0.025)
    assert tandem.count([]) + tandem.count(["g711a"]) == 3000


def test_losses_are_drawn_as_set(mix):
    losses = [channel["legs"][0]["loss"] for channel in drawn(mix, "voip_opus_nb", 3000)]
    lossy = [loss for loss in losses if loss]
    assert len(lossy) / 3000 == pytest.approx(0.45, abs=0.03)
    assert min(loss["enter"] for loss in lossy) >= 0.002
    assert max(loss["enter"] for loss in lossy) <= 0.03
    assert min(loss["leave"] for loss in lossy) >= 0.35
    assert max(loss["leave"] for loss in lossy) <= 0.85
    assert np.mean([loss["packet_ms"] > 20 for loss in lossy]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([loss["concealment"] == "zeros" for loss in lossy]) == pytest.approx(0.1, abs=0.03)


def test_radio_loses_frames_by_themselves_and_fixed_lines_lose_none(mix):
    for channel in drawn(mix, "mobile_gsm_fr", 200):
        loss = channel["legs"][0]["loss"]
        assert loss is None or (0.002 <= loss["frame_error_rate"] <= 0.03 and "enter" not in loss)
    assert all(channel["legs"][0]["loss"] is None for channel in drawn(mix, "pstn_g711u", 200))


def test_g726_rates_opus_rates_and_silence_suppression_are_drawn_as_set(mix):
    kbps = [channel["legs"][0]["parameters"]["kbps"] for channel in drawn(mix, "voip_g726")]
    assert shares(kbps) == pytest.approx({32: 0.7, 24: 0.15, 40: 0.1, 16: 0.05}, abs=0.03)
    opus = [channel["legs"][0]["parameters"] for channel in drawn(mix, "voip_opus_nb")]
    assert 8 <= min(parameters["kbps"] for parameters in opus) < 9
    assert 23 < max(parameters["kbps"] for parameters in opus) <= 24
    assert {parameters["complexity"] for parameters in opus} == set(range(6))
    assert np.mean([parameters["dtx"] for parameters in opus]) == pytest.approx(0.2, abs=0.03)
    g711 = [channel["legs"][0]["parameters"]["dtx"] for channel in drawn(mix, "voip_g711_loss")]
    assert np.mean(g711) == pytest.approx(0.1, abs=0.025)


def test_calls_over_ip_jitter_and_radio_fades(mix):
    lossy = [channel["legs"][0]["loss"] for channel in drawn(mix, "voip_g711_loss")]
    jitters = [loss["jitter"] for loss in lossy if "jitter" in loss]
    assert len(jitters) / len(lossy) == pytest.approx(0.2, abs=0.035)
    assert {jitter["buffer_ms"] for jitter in jitters} == {40, 60, 100}
    assert all(2 <= jitter["mean_ms"] <= 8 for jitter in jitters)
    legs = [channel["legs"][0]["loss"] for channel in drawn(mix, "mobile_amr_nb")]
    radio = [loss for loss in legs if loss]
    assert not any("jitter" in loss or "enter" in loss for loss in radio)
    fades = shares(loss["fade_ms"] for loss in radio)
    assert fades == pytest.approx({20: 0.5, 40: 0.2, 60: 0.2, 80: 0.1}, abs=0.07)


def test_wideband_calls_are_not_cut_by_narrowband_handsets(mix):
    for name in ("voip_g722", "mobile_amr_wb"):
        sends = {channel["weighting"]["send"] for channel in drawn(mix, name, 100)}
        assert sends == {"msin", "flat"}


def test_every_recorder_is_drawn(mix):
    recorders = shares(channel["recorder"]["codec"] for channel in drawn(mix, "recorder_mix"))
    expected = {"ima_adpcm": 0.3, "vox_adpcm": 0.1, "gsm_wav49": 0.3, "mp3": 0.3}
    assert recorders == pytest.approx(expected, abs=0.035)


# -- how the file is read


def test_the_order_of_weights_in_the_file_decides_nothing(config):
    def turned(value):
        if isinstance(value, dict):
            is_weights = (
                any(not isinstance(name, str) for name in value) or "irs" in value or "babble" in value
            )
            items = reversed(value.items()) if is_weights else value.items()
            return {name: turned(item) for name, item in items}
        return [turned(item) for item in value] if isinstance(value, list) else value

    channels = [drawn(mix, "mobile_amr_nb", 100) for mix in (read(config), read(turned(config)))]
    assert channels[0] == channels[1]


def test_the_order_of_presets_and_keys_in_the_file_decides_nothing(config):
    def turned(value):
        if isinstance(value, dict):
            return {name: turned(item) for name, item in reversed(value.items())}
        return [turned(item) for item in value] if isinstance(value, list) else value

    mixes = read(config), read(turned(config))
    channels = [[draw_channel(mix, NoiseBank(), 3, f"utt{i}", "k", 0) for i in range(200)] for mix in mixes]
    assert channels[0] == channels[1]


def test_weights_and_lists_are_replaced_and_other_keys_changed_one_by_one():
    base = {"noise": {"snr": {"min": 1, "max": 2}, "kinds": {"babble": 1}}, "kbps": {12.2: 1}, "legs": [1, 2]}
    changes = {"noise": {"snr": {"max": 3}, "kinds": {"music": 1}}, "kbps": {4.75: 1}, "legs": [3]}
    with pytest.raises(ValueError, match=r"p\.noise\.tpyo: is not a key of channel\.noise"):
        merged_settings(base, {"noise": {"tpyo": 1}}, "p", "channel")
    assert merged_settings(base, changes, "p", "channel") == {
        "noise": {"snr": {"max": 3}, "kinds": {"music": 1}},
        "kbps": {4.75: 1},
        "legs": [3],
    }


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("own__levle_dbov", -26, "levle_dbov: is not a key of channel; did you mean level_dbov?"),
        ("own__hum", {"levels": 3}, "presets.pstn_g711a.hum.levels: is not a key of channel.hum"),
        ("legs", [{"codec": "g711x"}], "pstn_g711a.legs.0.codec: unknown codec 'g711x'"),
        (
            "legs",
            [{"codec": "amr_nb", "kpbs": 12.2}],
            "pstn_g711a.legs.0.kpbs: the codec amr_nb has no such parameter; did you mean kbps?",
        ),
        ("legs", [{"codec": "amr_nb", "kbps": 12}], "pstn_g711a.legs.0.kbps: must be one of 12.2"),
        (
            "legs",
            [{"codec": "amr_nb", "kbps": {12.2: 0.5, 4.75: 0.4}}],
            "legs.0.kbps: the weights sum to 0.9",
        ),
        (
            "legs",
            [{"codec": "opus_nb", "kbps": {"min": 8, "max": 64}}],
            "legs.0.kbps: opus_nb: kbps must be a number from 6 to 24",
        ),
        ("legs", [{"one_of": [{"codec": "g711a", "weight": 0.5}]}], "legs.0.one_of: the weights sum to 0.5"),
        (
            "legs",
            [{"codec": "g711a", "loss": {"rat": 1}}],
            "legs.0.loss.rat: is not a known key; did you mean rate?",
        ),
        ("legs", [{"codec": "g711a", "loss": 0.1}], "legs.0.loss: must change keys of channel.loss"),
        ("legs", ["g711a"], "legs.0: a leg is a mapping such as {codec: g711a}, not 'g711a'"),
        ("legs", [{"kbps": 3}], "legs.0.codec: is missing"),
        ("legs", {"codec": "g711a"}, "presets.pstn_g711a.legs: must be a list"),
        ("own__recorder", {"codec": "mp3", "loss": {}}, "recorder.loss: a recorder loses no packets"),
        ("own__law", "x", "presets.pstn_g711a.law: must be one of a, u, not 'x'"),
        ("channel__noise__probability", 1.5, "noise.probability: must lie within 0 and 1, not 1.5"),
        ("channel__weighting__send", {"irs": 0.5}, "weighting.send: the weights sum to 0.5"),
        ("channel__level_dbov", 3.0, "level_dbov: must lie within -inf and 0, not 3.0"),
        ("mixes__default__clean_8k", 0.5, "mixes.default: the weights sum to 1.48, which must be 1"),
        (
            "mixes__default__clean_8x",
            0.0,
            "mixes.default.clean_8x: there is no such preset; did you mean clean_8k?",
        ),
        ("mixes__default__channel", {"lwa": "u"}, "mixes.default.channel.lwa: is not a key of"),
        ("mixes", 3, "mixes: the configuration of the telephone channel needs this section"),
        ("preset", {}, "preset: is not a known key; did you mean presets?"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(config, key, value, said):
    key = key.replace("own__", "presets__pstn_g711a__").replace("legs", "presets__pstn_g711a__legs")
    with pytest.raises(ValueError, match=re.escape(said)):
        read(config, **{key: value})


def test_an_unknown_mix_or_preset_is_refused_with_the_nearest(config):
    with pytest.raises(ValueError, match=r"there is no mix 'chinna'; did you mean china\?"):
        read(config, "chinna")
    with pytest.raises(ValueError, match=r"there is no preset 'pstn_g711'; did you mean pstn_g711\w\?"):
        read(config).only("pstn_g711")


def test_presets_outside_the_mix_can_be_chosen(config):
    assert {"voip_g722", "mobile_amr_wb", "voip_g729", "voip_speex"} <= {
        preset.name for preset in read(config).others
    }
    assert drawn(read(config), "voip_g722", 1)[0]["rate"] == 16000


# -- codecs that are not here


@pytest.fixture
def without_opus(monkeypatch):
    def missing() -> None:
        raise CodecMissing("opus_nb needs libopus; install it with: apt-get install libopus0")

    monkeypatch.setattr(CODECS["opus_nb"], "check", missing)


def test_a_mix_with_a_missing_codec_is_refused_with_what_to_install(mix, without_opus):
    with pytest.raises(CodecMissing, match=r"mix default .*libopus0 \(for voip_opus_nb, recorder_mix\)"):
        mix.check()
    mix.only("pstn_g711a").check()


def test_presets_without_their_codec_can_be_left_out_by_name(mix, without_opus, caplog):
    rest = mix.without_missing()
    assert {preset.name for preset in rest.presets} == DEFAULT.keys() - {"voip_opus_nb", "recorder_mix"}
    for preset in rest.presets:
        assert preset.weight == pytest.approx(DEFAULT[preset.name] / 0.88)
    assert "voip_opus_nb left out" in caplog.text
    rest.check()
    with pytest.raises(CodecMissing, match="libopus0"):
        mix.only("voip_opus_nb").without_missing()


def test_the_mix_names_its_codecs_and_kinds_of_noise(mix):
    assert mix.only("mobile_to_mobile").codecs() == {"amr_nb", "g711a", "g711u", "gsm_fr"}
    assert mix.noise_kinds() == {"babble", "music", "coloured"}
    assert mix.only("clean_8k").noise_kinds() == set()
