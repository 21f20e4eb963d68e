"""The channel as a whole: time, level, noise, band, odd inputs, replay."""

import json

import numpy as np
import pytest
from scipy import signal

from nest_ssl.files.index import ManifestIndex
from nest_ssl.telephone.chain import apply_channel, draw_channel
from nest_ssl.telephone.level import active_level, rms_dbov
from nest_ssl.telephone.noise import NoiseBank, TalkerPool
from nest_ssl.telephone.seed import key_bucket

PRESETS = (
    "pstn_g711a", "pstn_g711u", "voip_g711a", "mobile_gsm", "mobile_gsm_to_pstn", "mobile_gsm_to_mobile_gsm",
    "clean_8k",
)  # fmt: skip


def channel(mix, preset: str, **changes) -> dict:
    return draw_channel(mix.only(preset), NoiseBank(), 17, "utt", "utt", 0) | {"noise": None} | changes


def send(samples, drawn: dict, rate: int = 16000, out_rate: int = 16000) -> np.ndarray:
    return apply_channel(samples, rate, drawn, NoiseBank(), out_rate)[0]


def lag(sent: np.ndarray, received: np.ndarray, rate: int) -> float:
    """How late `received` is in samples, from the correlation within 500 to 3000 Hz, to 1/8 sample."""
    band = signal.butter(4, (500, 3000), "band", fs=rate, output="sos")
    first, second = (signal.resample_poly(signal.sosfiltfilt(band, x), 8, 1) for x in (sent, received))
    return (np.argmax(signal.correlate(second, first)) - (len(first) - 1)) / 8


@pytest.mark.parametrize("preset", PRESETS)
def test_speech_comes_back_in_time_and_at_its_length(mix, speech, preset):
    received = send(speech, channel(mix, preset))
    assert received.dtype == np.int16
    assert len(received) == len(speech)
    assert abs(lag(speech, received / 32768, 16000)) < 1.0


def test_8_khz_output_is_in_time(mix, speech):
    received = send(speech, channel(mix, "pstn_g711a"), out_rate=8000)
    assert len(received) == (len(speech) + 1) // 2
    narrow = signal.resample_poly(speech, 1, 2)
    assert abs(lag(narrow, received[: len(narrow)] / 32768, 8000)) < 1.0


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_any_rate_comes_back_in_time(mix, speech, rate):
    factors = (441, 640) if rate == 11025 else (rate, 16000)
    sent = signal.resample_poly(speech, *factors)
    received = send(sent, channel(mix, "pstn_g711a"), rate)
    assert len(received) == round(len(sent) * 16000 / rate)
    n = min(len(received), len(speech))
    assert abs(lag(speech[:n], received[:n] / 32768, 16000)) < 1.0


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_is_left_above_4_khz(mix, speech, preset):
    received = send(speech, channel(mix, preset)) / 32768
    hertz, power = signal.welch(received, 16000, nperseg=2048, window="blackmanharris")
    assert 10 * np.log10(power[hertz > 4100].sum() / power.sum()) < -60


@pytest.mark.parametrize("level_dbov", [-38.0, -30.0, -20.0])
@pytest.mark.parametrize("preset", ["clean_8k", "pstn_g711a"])
def test_speech_has_the_drawn_level(mix, speech, preset, level_dbov):
    drawn = channel(mix, preset, level_dbov=level_dbov)
    received = send(speech, drawn, out_rate=8000)
    assert active_level(received / 32768, 8000).level_dbov == pytest.approx(level_dbov, abs=0.3)


def test_what_would_clip_is_turned_down_and_said(mix, speech):
    drawn = channel(mix, "clean_8k", level_dbov=-3.0)
    received, measured = apply_channel(speech, 16000, drawn, NoiseBank(), 8000)
    assert measured["limited_db"] > 0
    assert np.max(np.abs(received.astype(int))) == pytest.approx(32768 * 10 ** (-0.1 / 20), abs=2)


def test_noise_lies_at_the_drawn_snr_below_the_speech(mix, speech):
    noise = {"kind": "coloured", "snr_db": 12.0, "exponent": 1.0, "seed": 5}
    clean = channel(mix, "clean_8k", level_dbov=-26.0, band="g712")
    quiet = send(speech, clean, out_rate=8000).astype(float)
    noisy = send(speech, clean | {"noise": noise}, out_rate=8000)
    snr_db = active_level(quiet / 32768, 8000).level_dbov - rms_dbov((noisy - quiet) / 32768)
    assert snr_db == pytest.approx(12.0, abs=0.2)


@pytest.mark.parametrize("preset", ["voip_g711a"])
def test_g711_leaves_the_long_term_spectrum_alone(mix, speech, preset):
    drawn = channel(mix, preset, level_dbov=-26.0)
    coded, straight = (send(speech, drawn | legs, out_rate=8000) / 32768 for legs in ({}, {"legs": []}))
    hertz, before = signal.welch(straight, 8000, nperseg=512)
    after = signal.welch(coded, 8000, nperseg=512)[1]
    inside = (hertz >= 100) & (hertz <= 3400)
    assert np.max(np.abs(10 * np.log10(after[inside] / before[inside]))) < 0.3


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("length", [0, 1, 2, 159, 160])
def test_the_shortest_inputs_pass(mix, preset, length):
    received = send(np.full(length, 0.25, np.float32), channel(mix, preset))
    assert received.shape == (length,)


@pytest.mark.parametrize("preset", PRESETS)
def test_silence_stays_silence(mix, preset):
    drawn = channel(mix, preset, noise={"kind": "coloured", "snr_db": 10.0, "exponent": 1.0, "seed": 5})
    received, measured = apply_channel(np.zeros(8000, np.float32), 16000, drawn, NoiseBank())
    # the smallest codes are not zero, and GSM after G.711 makes a click of the constant 8 that A-law gives
    assert np.max(np.abs(received.astype(int))) <= 500
    assert rms_dbov(received / 32768) < -60
    assert measured["speech_dbov"] is None
    assert measured["noise"] is None
    json.dumps(measured, allow_nan=False)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_full_scale_square_wave_does_not_wrap_around(mix, preset):
    square = np.where(np.arange(32000) // 8 % 2 == 0, 1.0, -1.0).astype(np.float32)
    drawn = channel(mix, preset, level_dbov=0.0)
    received = send(square, drawn)
    middle = received[8000:24000].astype(float)
    assert np.corrcoef(middle, square[8000:24000])[0, 1] > 0.5
    assert active_level(middle / 32768, 16000).level_dbov > -6


@pytest.mark.parametrize(("value", "named"), [(np.nan, "1 of 100"), (np.inf, "1 of 100")])
def test_samples_that_are_not_finite_are_refused(mix, value, named):
    samples = np.zeros(100, np.float32)
    samples[7] = value
    with pytest.raises(ValueError, match=f"{named} samples are not finite"):
        send(samples, channel(mix, "pstn_g711a"))


def test_stereo_samples_are_refused(mix):
    with pytest.raises(ValueError, match=r"shape \(T,\), not \(100, 2\)"):
        send(np.zeros((100, 2), np.float32), channel(mix, "pstn_g711a"))


def test_a_channel_read_back_from_json_gives_the_same_samples(mix, speech, prompts):
    index = ManifestIndex.open(prompts)
    babble = TalkerPool(index, np.full(len(index), key_bucket("none of them"), np.uint8))
    bank = NoiseBank(babble, ManifestIndex.open(prompts.with_name("noise.jsonl")))
    kinds = set()
    for number in range(25):
        drawn = draw_channel(mix, bank, 17, f"utt{number}", "none of them", 0)
        received, measured = apply_channel(speech[:32000], 16000, drawn, bank)
        again, measured_again = apply_channel(speech[:32000], 16000, json.loads(json.dumps(measured)), bank)
        np.testing.assert_array_equal(received, again)
        assert measured == measured_again
        kinds.add(measured["noise"] and measured["noise"]["kind"])
    assert kinds == {None, "babble", "music", "coloured"}


def test_presets_are_drawn_by_weight(mix):
    names = [draw_channel(mix, NoiseBank(), 3, f"utt{i}", "k", 0)["preset"] for i in range(3000)]
    for preset in mix.presets:
        assert names.count(preset.name) / 3000 == pytest.approx(preset.weight, abs=0.03)


def test_levels_are_drawn_as_configured(mix):
    drawn = [draw_channel(mix, NoiseBank(), 3, f"utt{i}", "k", 0) for i in range(3000)]
    levels = np.array([channel["level_dbov"] for channel in drawn])
    assert levels.mean() == pytest.approx(-26, abs=0.25)
    assert levels.std() == pytest.approx(4, abs=0.2)
    assert levels.min() == -38.0
    assert levels.max() <= -16.0
