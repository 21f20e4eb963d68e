"""The channel as a whole: time, level, noise, band, odd inputs, streams, replay."""

import json

import numpy as np
import pytest
from scipy import signal

from nest_ssl.files.index import ManifestIndex
from nest_ssl.telephone import stages
from nest_ssl.telephone.chain import apply_channel, check_versions, draw_channel, replay
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.level import active_level, rms_dbov
from nest_ssl.telephone.noise import NoiseBank, TalkerPool
from nest_ssl.telephone.seed import SCHEMA, key_bucket
from tests.telephone.measures import lag_samples

PRESETS = (
    "pstn_g711a", "pstn_g711u", "voip_g711_loss", "mobile_gsm_fr", "mobile_amr_nb", "mobile_to_mobile",
    "voip_opus_nb", "voip_g726", "voip_g7231", "recorder_mix", "legacy_mix", "clean_8k",
)  # fmt: skip
OPTIONAL = ("voip_g722", "voip_g729", "voip_speex", "mobile_amr_wb")
# What adds something of its own to the signal, or comes back later.
ADDED = ("noise", "far_noise", "hum", "dc", "line_noise", "echo", "room")
COLOURED = {"kind": "coloured", "snr_db": 12.0, "exponent": 1.0, "seed": 5}


def drawn(mix, preset: str, utterance: str = "utt", **changes) -> dict:
    """The channel of a preset without what it adds and loses."""
    channel = draw_channel(mix.only(preset), NoiseBank(), 17, utterance, utterance, 0)
    legs = [{**leg, "loss": None} for leg in channel["legs"]]
    return channel | dict.fromkeys(ADDED) | {"legs": legs} | changes


def plain(mix, **changes) -> dict:
    """G.711 and nothing else."""
    off = dict.fromkeys(("weighting", "high_pass", "g712", "agc", "clip", "drift", "receive"))
    return drawn(mix, "pstn_g711a") | off | changes


def send(samples, channel: dict, rate: int = 16000, out_rate: int = 16000) -> np.ndarray:
    return apply_channel(samples, rate, channel, NoiseBank(), out_rate)[0]


# -- time


def test_what_codecs_are_early_by_does_not_add_up(mix, speech):
    leg = {"codec": "amr_nb", "parameters": {"kbps": 12.2}, "gain_db": 0.0, "loss": None, "version": ""}
    try:
        received = send(speech[:56001], plain(mix) | {"legs": [leg] * 3})
    except CodecMissing as error:
        pytest.skip(str(error))
    assert abs(lag_samples(speech[:56001], received, 16000)) < 1.0  # 1.9 without the correction


@pytest.mark.parametrize("utterance", ["one", "two"])
@pytest.mark.parametrize("preset", [*PRESETS, *OPTIONAL])
def test_speech_comes_back_in_time_and_at_its_length(mix, speech, preset, utterance):
    try:
        mix.only(preset).check()
    except CodecMissing as error:
        pytest.skip(str(error))
    sent = speech[:56001]
    received = send(sent, drawn(mix, preset, utterance))
    assert received.dtype == np.int16
    assert received.shape == sent.shape
    assert abs(lag_samples(sent, received, 16000)) < 1.0


def test_8_khz_output_is_in_time(mix, speech):
    received = send(speech, drawn(mix, "pstn_g711a"), out_rate=8000)
    assert len(received) == (len(speech) + 1) // 2
    narrow = signal.resample_poly(speech, 1, 2)
    assert abs(lag_samples(narrow, received[: len(narrow)], 8000)) < 1.0


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("preset", ["pstn_g711a", "voip_g722"])
def test_any_rate_comes_back_in_time(mix, speech, rate, preset):
    factors = {11025: (441, 640), 22050: (441, 320)}.get(rate, (rate, 16000))
    sent = signal.resample_poly(speech[:48000], *factors)
    received = send(sent, drawn(mix, preset), rate)
    assert len(received) == round(len(sent) * 16000 / rate)
    n = min(len(received), 48000)
    assert abs(lag_samples(speech[:n], received[:n], 16000)) < 1.0


def test_a_tandem_of_wideband_and_narrowband_codecs_stays_in_time(mix, speech):
    narrow = plain(mix)["legs"][0]
    wide = drawn(mix, "voip_g722")["legs"][0]
    channel = plain(mix, rate=16000, legs=[wide, narrow, wide])
    received = send(speech[:56001], channel)
    assert len(received) == 56001
    assert abs(lag_samples(speech[:56001], received, 16000)) < 1.0


# -- band, level, noise


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_is_left_above_4_khz(mix, speech, preset):
    received = send(speech[:64000], drawn(mix, preset)) / 32768
    hertz, power = signal.welch(received, 16000, nperseg=2048, window="blackmanharris")
    assert 10 * np.log10(power[hertz > 4100].sum() / power.sum()) < -60


@pytest.mark.parametrize("level_dbov", [-38.0, -30.0, -20.0])
@pytest.mark.parametrize("preset", ["clean_8k", "pstn_g711a"])
def test_speech_has_the_drawn_level(mix, speech, preset, level_dbov):
    channel = drawn(mix, preset, level_dbov=level_dbov, clip=None, receive=None)
    received = send(speech, channel, out_rate=8000)
    assert active_level(received / 32768, 8000).level_dbov == pytest.approx(level_dbov, abs=0.3)


def test_speech_has_the_drawn_level_behind_gain_control_and_noise(mix, speech):
    agc = {"target_dbov": -22.0, "attack_ms": 10.0, "release_ms": 300.0, "max_gain_db": 12.0}
    channel = plain(mix, agc=agc, level_dbov=-26.0, legs=[])
    quiet, _ = apply_channel(speech, 16000, channel, NoiseBank(), 8000)
    assert active_level(quiet / 32768, 8000).level_dbov == pytest.approx(-26.0, abs=0.3)
    # of 30 dB less, the noise changes neither what the gain control nor what the level meter does
    noise = COLOURED | {"snr_db": 30.0}
    noisy, measured = apply_channel(speech, 16000, channel | {"noise": noise}, NoiseBank(), 8000)
    assert active_level(noisy / 32768, 8000).level_dbov == pytest.approx(-26.0, abs=0.3)
    assert measured["noise"]["gain_db"] < 0


def test_what_would_clip_is_turned_down_and_said(mix, speech):
    received, measured = apply_channel(speech, 16000, plain(mix, level_dbov=-3.0, legs=[]), NoiseBank(), 8000)
    assert measured["limited_db"] > 0
    assert np.max(np.abs(received.astype(int))) == pytest.approx(32768 * 10 ** (-0.1 / 20), abs=2)


@pytest.mark.parametrize("place", ["noise", "far_noise"])
def test_noise_lies_at_the_drawn_snr_below_the_speech(mix, speech, place):
    clean = plain(mix, level_dbov=-26.0, weighting={"send": "mirs"}, g712=True, legs=[])
    quiet = send(speech, clean, out_rate=8000).astype(float)
    noisy = send(speech, clean | {place: COLOURED}, out_rate=8000)
    snr_db = active_level(quiet / 32768, 8000).level_dbov - rms_dbov((noisy - quiet) / 32768)
    assert snr_db == pytest.approx(12.0, abs=0.2)


def test_noise_of_the_speaker_goes_through_the_handset_and_noise_of_the_listener_does_not(mix, speech):
    clean = plain(mix, level_dbov=-26.0, weighting={"send": "irs"}, legs=[])
    quiet = send(speech, clean, out_rate=8000).astype(float)
    low = {}
    for place in ("noise", "far_noise"):
        noise = send(speech, clean | {place: COLOURED}, out_rate=8000) - quiet
        hertz, power = signal.welch(noise, 8000, nperseg=512)
        low[place] = power[(hertz > 60) & (hertz < 140)].sum() / power[(hertz > 800) & (hertz < 1200)].sum()
    assert 10 * np.log10(low["far_noise"] / low["noise"]) > 25  # IRS takes 32 dB and more off there


def test_g711_leaves_the_long_term_spectrum_alone(mix, speech):
    coded, straight = (
        send(speech, plain(mix, level_dbov=-26.0) | legs, out_rate=8000) / 32768
        for legs in ({}, {"legs": []})
    )
    hertz, before = signal.welch(straight, 8000, nperseg=512)
    after = signal.welch(coded, 8000, nperseg=512)[1]
    inside = (hertz >= 100) & (hertz <= 3400)
    assert np.max(np.abs(10 * np.log10(after[inside] / before[inside]))) < 0.3


def test_the_gain_before_a_leg_is_applied_there(mix, speech):
    leg = plain(mix)["legs"][0]
    channel = plain(mix, level_dbov=-20.0, legs=[leg, {**leg, "gain_db": -6.0}])
    received = send(speech, channel, out_rate=8000)
    assert active_level(received / 32768, 8000).level_dbov == pytest.approx(-26.0, abs=0.3)


# -- losses


@pytest.mark.parametrize(
    ("preset", "frame"), [("pstn_g711a", 160), ("voip_g7231", 240), ("voip_opus_nb", 160)]
)
def test_lost_frames_are_counted_and_heard(mix, speech, preset, frame):
    channel = drawn(mix, preset)
    loss = {"seed": 3, "concealment": "zeros", "packet_ms": 20, "rate": 0.3}
    lossy = channel | {"legs": [{**channel["legs"][0], "loss": loss}]}
    received, measured = apply_channel(speech[:64000], 16000, lossy, NoiseBank(), 8000)
    leg = measured["legs"][0]
    assert leg["frames"] == -(-32000 // frame)
    assert leg["lost_frames"] / leg["frames"] == pytest.approx(0.3, abs=0.12)  # over 3 sigma
    assert np.count_nonzero(received == 0) > np.count_nonzero(
        send(speech[:64000], channel, out_rate=8000) == 0
    )


def test_zeros_in_place_of_lost_packets_are_zeros(mix, speech):
    channel = plain(mix)
    loss = {"seed": 3, "concealment": "zeros", "packet_ms": 20, "rate": 1.0}
    assert not send(speech, plain(mix, legs=[{**channel["legs"][0], "loss": loss}]), out_rate=8000).any()


def test_segments_of_a_recording_lose_different_packets(mix, speech):
    leg = {**plain(mix)["legs"][0], "loss": {"seed": 3, "concealment": "zeros", "packet_ms": 20, "rate": 0.3}}
    first, second = (send(speech, plain(mix, legs=[leg], segment=segment)) for segment in (0, 1))
    assert np.any(first != second)


# -- odd inputs


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("length", [0, 1, 2, 159, 160])
def test_the_shortest_inputs_pass(mix, preset, length):
    channel = draw_channel(mix.only(preset), NoiseBank(), 17, "utt", "utt", 0)
    for added in ({}, {"noise": COLOURED, "far_noise": COLOURED}):
        assert send(np.full(length, 0.25, np.float32), channel | added).shape == (length,)


@pytest.mark.parametrize("preset", PRESETS)
def test_silence_stays_silence(mix, preset):
    channel = drawn(mix, preset, noise=COLOURED, far_noise=COLOURED)
    received, measured = apply_channel(np.zeros(8000, np.float32), 16000, channel, NoiseBank())
    # the smallest codes are not zero, and GSM after G.711 makes a click of the constant 8 that A-law gives
    assert np.max(np.abs(received.astype(int))) <= 500
    assert rms_dbov(received / 32768) < -60
    assert measured["speech_dbov"] is None
    assert measured["noise"] is None
    json.dumps(measured, allow_nan=False)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_full_scale_square_wave_does_not_wrap_around(mix, preset):
    square = np.where(np.arange(32000) // 8 % 2 == 0, 1.0, -1.0).astype(np.float32)
    received = send(square, drawn(mix, preset, level_dbov=0.0, weighting=None, high_pass=None))
    middle = received[8000:24000].astype(float)
    assert np.corrcoef(middle, square[8000:24000])[0, 1] > 0.5
    assert active_level(middle / 32768, 16000).level_dbov > -7


def test_int16_is_taken_as_floats_of_full_scale_1(mix, speech):
    pcm = np.rint(speech * 32767).astype(np.int16)
    as_floats = send(pcm / np.float32(32768), drawn(mix, "pstn_g711a"))
    np.testing.assert_array_equal(send(pcm, drawn(mix, "pstn_g711a")), as_floats)


def test_the_input_is_not_changed(mix, speech):
    before = speech[:32000].copy()
    for preset in PRESETS:
        send(speech[:32000], drawn(mix, preset, noise=COLOURED))
    np.testing.assert_array_equal(speech[:32000], before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(mix, value):
    samples = np.zeros(100, np.float32)
    samples[7] = value
    with pytest.raises(ValueError, match="1 of 100 samples are not finite"):
        send(samples, plain(mix))


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((100, 2), np.float32), r"shape \(T,\), not \(100, 2\)"),
        (np.zeros(100, np.int32), "not int32"),
    ],
)
def test_other_arrays_are_refused(mix, samples, said):
    with pytest.raises(ValueError, match=said):
        send(samples, plain(mix))


# -- draws and replay


def test_a_new_stage_moves_nothing_that_others_draw(mix, monkeypatch):
    before = [draw_channel(mix, NoiseBank(), 17, f"utt{i}", "k", 0) for i in range(40)]
    monkeypatch.setitem(
        stages.STAGES, "new", stages.Stage(lambda *_: None, lambda rng, _: rng.random(7).tolist())
    )
    for preset in mix.presets:
        monkeypatch.setitem(preset.stages, "new", {})
    after = [draw_channel(mix, NoiseBank(), 17, f"utt{i}", "k", 0) for i in range(40)]
    assert all(channel.pop("new") for channel in after)
    assert after == before


def test_a_preset_draws_the_same_level_and_noise_as_every_other(mix):
    shared = ("level_dbov", "noise", "weighting", "high_pass", "room", "agc")
    channels = [draw_channel(mix.only(name), NoiseBank(), 17, "utt", "k", 0) for name in PRESETS[:5]]
    assert all(
        [channel[name] for name in shared] == [channels[0][name] for name in shared] for channel in channels
    )


def test_a_tandem_leg_that_is_left_out_moves_nothing_of_the_leg_before(mix):
    only = mix.only("mobile_amr_nb")
    channels = [draw_channel(only, NoiseBank(), 17, f"utt{i}", "k", 0) for i in range(60)]
    assert {len(channel["legs"]) for channel in channels} == {1, 2}
    without = draw_channel(mix.only("mobile_to_mobile"), NoiseBank(), 17, "utt3", "k", 0)
    assert without["legs"][0] == channels[3]["legs"][0]  # the same first leg, at the same place


def test_utterances_copies_and_seeds_draw_different_channels(mix):
    channels = [
        draw_channel(mix, NoiseBank(), seed, utterance, "k", copy)
        for seed, utterance, copy in ((17, "a", 0), (18, "a", 0), (17, "b", 0), (17, "a", 1))
    ]
    assert len({channel["level_dbov"] for channel in channels}) == 4


def test_a_channel_read_back_from_json_gives_the_same_samples(mix, speech, prompts):
    index = ManifestIndex.open(prompts)
    babble = TalkerPool(index, np.full(len(index), key_bucket("none of them"), np.uint8))
    bank = NoiseBank(babble, {"music": ManifestIndex.open(prompts.with_name("noise.jsonl"))})
    kinds, codecs = set(), set()
    for number in range(40):
        channel = draw_channel(mix, bank, 17, f"utt{number}", "none of them", 0)
        received, measured = apply_channel(speech[:24000], 16000, channel, bank)
        again, measured_again = replay(speech[:24000], 16000, json.loads(json.dumps(measured)), bank)
        np.testing.assert_array_equal(received, again)
        assert measured == measured_again
        kinds.add(measured["noise"] and measured["noise"]["kind"])
        codecs |= {leg["codec"] for leg in measured["legs"]}
    assert kinds == {None, "babble", "music", "coloured"}
    assert {"g711a", "g711u", "gsm_fr", "amr_nb", "opus_nb"} <= codecs


def test_a_record_of_another_schema_is_refused_with_both(mix, speech):
    record = plain(mix) | {"schema": 1}
    with pytest.raises(ValueError, match=f"schema 1, and this version replays schema {SCHEMA}"):
        replay(speech, 16000, record, NoiseBank())
    replay(speech[:100], 16000, record, NoiseBank(), allow_other_versions=True)


@pytest.mark.parametrize("where", ["legs", "recorder"])
def test_a_record_of_another_codec_version_is_refused_with_both(mix, where):
    record = drawn(mix, "recorder_mix")
    leg = record[where] if where == "recorder" else record[where][0]
    here = CODECS[leg["codec"]].version()
    leg["version"] = "libother 3.1"
    with pytest.raises(ValueError, match=r"libother 3\.1") as error:
        check_versions(record)
    assert here in str(error.value)
