"""What handsets and lines add: hum, direct current, noise, clipping, echo, gain control, clock drift."""

import json

import numpy as np
import pytest
from scipy import signal

from nest_ssl.telephone import line
from nest_ssl.telephone.level import active_level, rms_dbov
from nest_ssl.telephone.resample import resample

RATE = 8000
RATES = (8000, 16000)

SETTINGS = {
    "hum": {
        "probability": 1.0,
        "mains_hz": {50: 0.5, 60: 0.5},
        "harmonics": {"min": 2, "max": 5},
        "level_dbov": {"min": -70.0, "max": -45.0},
    },
    "dc": {"probability": 1.0, "lsb": {"min": -300, "max": 300}},
    "line_noise": {"probability": 1.0, "level_dbov": {"min": -80.0, "max": -60.0}},
    "clip": {
        "probability": 1.0,
        "over_db": {"min": 0.5, "max": 3.0},
        "shape": {"hard": 0.5, "carbon": 0.5},
    },
    "echo": {
        "probability": 1.0,
        "delay_ms": {"min": 20.0, "max": 200.0},
        "level_db": {"min": -40.0, "max": -25.0},
    },
    "agc": {
        "probability": 1.0,
        "target_dbov": -22.0,
        "attack_ms": 10.0,
        "release_ms": 300.0,
        "max_gain_db": 12.0,
    },
    "drift": {"probability": 1.0, "ppm": {"min": -50.0, "max": 50.0}},
}
AGC = {key: value for key, value in SETTINGS["agc"].items() if key != "probability"}


def check(name):
    return getattr(line, f"check_{name}")


def draw(name, seed=0, **changes):
    return getattr(line, f"draw_{name}")(np.random.default_rng(seed), SETTINGS[name] | changes)


def apply(name, samples, drawn, rate=RATE):
    return getattr(line, f"apply_{name}")(samples, rate, drawn)


def tone(seconds: float, hertz: float = 440.0, amplitude: float = 0.1, rate: int = RATE) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz / rate * np.arange(round(seconds * rate)))).astype(
        np.float32
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_accepted_and_what_is_drawn_is_json(name):
    check(name)(SETTINGS[name], name)
    for seed in range(20):
        drawn = draw(name, seed)
        assert json.loads(json.dumps(drawn)) == drawn
        assert drawn == draw(name, seed)


@pytest.mark.parametrize("name", SETTINGS)
def test_stages_happen_with_their_probability(name):
    rng = np.random.default_rng(3)
    settings = SETTINGS[name] | {"probability": 0.3}
    drawn = [getattr(line, f"draw_{name}")(rng, settings) for _ in range(2000)]
    assert sum(one is not None for one in drawn) / 2000 == pytest.approx(0.3, abs=0.035)  # 3.4 sigma
    assert getattr(line, f"draw_{name}")(rng, None) is None
    check(name)(None, name)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("length", [0, 1, 2, 159, 8001])
@pytest.mark.parametrize("name", SETTINGS)
def test_length_is_kept_and_the_input_is_not_changed(name, length, rate):
    samples = np.random.default_rng(length).uniform(-0.5, 0.5, length)
    before = samples.copy()
    for seed in range(4):
        changed = apply(name, samples, draw(name, seed), rate)
        assert changed.shape == (length,)
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert np.array_equal(changed, apply(name, samples, draw(name, seed), rate))
    assert np.array_equal(samples, before)
    assert np.array_equal(apply(name, samples, None, rate), samples.astype(np.float32))


@pytest.mark.parametrize("name", SETTINGS)
def test_silence_stays_finite(name):
    assert np.isfinite(apply(name, np.zeros(4000, np.float32), draw(name))).all()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("hum", {"mains_hz": 55}, "x.mains_hz: must be one of 50, 60, not 55"),
        ("hum", {"harmonics": -1}, "x.harmonics: must lie within 0 and 20"),
        ("dc", {"lsb": {"min": 5, "max": 1}}, "x.lsb: min 5 lies above max 1"),
        ("line_noise", {"level_dbov": 3}, "x.level_dbov: must lie within -120 and 0"),
        ("clip", {"shape": "soft"}, "x.shape: must be one of hard, carbon, not 'soft'"),
        ("echo", {"delay_ms": -1}, "x.delay_ms: must lie within 0 and 1000"),
        ("agc", {"release_ms": 0}, "x.release_ms: must lie within 1"),
        ("drift", {"probability": 2}, "x.probability: must lie within 0 and 1"),
    ],
)
def test_impossible_settings_are_named(name, changes, message):
    with pytest.raises(ValueError, match=message):
        check(name)(SETTINGS[name] | changes, "x")
    with pytest.raises(ValueError, match=r"x\.colour: is not a known key"):
        check(name)(SETTINGS[name] | {"colour": 1}, "x")
    with pytest.raises(ValueError, match=r"x\.probability: is missing"):
        check(name)({key: value for key, value in SETTINGS[name].items() if key != "probability"}, "x")


@pytest.mark.parametrize("rate", [*RATES, 11025])
@pytest.mark.parametrize("mains", [50, 60])
def test_hum_has_the_mains_and_its_harmonics_at_the_level_drawn(mains, rate):
    for seed in range(3):
        drawn = draw("hum", seed, mains_hz=mains)
        hum = apply("hum", np.zeros(10 * rate), drawn, rate)
        assert rms_dbov(hum) == pytest.approx(drawn["level_dbov"], abs=0.05)
        power = np.abs(np.fft.rfft(hum)) ** 2  # 10 s: a bin each 0.1 Hz, hum falls on bins
        count = len(drawn["levels_db"])
        assert 3 <= count <= 6
        peaks = [10 * mains * (number + 1) for number in range(count)]
        assert power[peaks].sum() / power.sum() > 0.999
        levels = 10 * np.log10(power[peaks] / power[peaks[0]])
        assert levels == pytest.approx(drawn["levels_db"], abs=0.1)


def test_hum_is_added_to_the_signal():
    drawn, samples = draw("hum"), tone(1.0)
    alone = apply("hum", np.zeros(len(samples)), drawn)
    assert np.abs(apply("hum", samples, drawn) - (samples + alone)).max() < 1e-6


def test_dc_moves_every_sample_by_whole_steps():
    moved = apply("dc", tone(0.5), {"lsb": -217}) - tone(0.5)
    assert moved * 32768 == pytest.approx(-217, abs=0.01)
    assert {type(draw("dc", seed)["lsb"]) for seed in range(5)} == {int}


def test_line_noise_is_white_and_at_its_level():
    noise = apply("line_noise", np.zeros(30 * RATE), {"level_dbov": -70.0, "seed": 500_000})
    assert rms_dbov(noise) == pytest.approx(-70.0, abs=0.05)
    power = signal.welch(noise, RATE, nperseg=256)[1][1:-1]
    assert 10 * np.log10(power.max() / power.min()) < 2.0
    assert np.abs(noise).max() < 7 * 10 ** (-70 / 20)


def test_line_noise_goes_on_where_its_stretch_ends():
    length = line.NOISE_SAMPLES + 100
    noise = apply("line_noise", np.zeros(length), {"level_dbov": -60.0, "seed": 7})
    assert np.array_equal(noise[:100], noise[line.NOISE_SAMPLES :])
    assert np.all(noise != 0)


def test_line_noise_of_neighbouring_seeds_has_nothing_in_common():
    first, second = (
        apply("line_noise", np.zeros(4 * RATE), {"level_dbov": -60.0, "seed": seed}) for seed in (11, 12)
    )
    likeness = signal.correlate(first, second, method="fft") / np.sum(first**2)
    assert np.abs(likeness).max() < 0.05


def harmonics_db(samples: np.ndarray, hertz: int) -> np.ndarray:
    """Levels of the second, third and fourth harmonic of a tone over the first."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    bins = np.arange(1, 5) * hertz * len(samples) // RATE
    peaks = np.array([power[place - 2 : place + 3].sum() for place in bins])
    return 10 * np.log10(peaks[1:] / peaks[0])


def test_hard_clipping_cuts_at_the_level_and_has_odd_harmonics():
    samples = tone(1.0)
    clipped = apply("clip", samples, {"over_db": 3.0, "shape": "hard"})
    limit = 0.1 * 10 ** (-3 / 20)
    assert np.abs(clipped).max() == pytest.approx(limit, rel=1e-4)
    inside = np.abs(samples) < 0.999 * limit
    assert np.array_equal(clipped[inside], samples[inside])
    second, third, fourth = harmonics_db(clipped, 440)
    assert third > -30 > -60 > max(second, fourth)


def test_a_carbon_microphone_has_even_harmonics_and_no_dc():
    clipped = apply("clip", tone(1.0), {"over_db": 3.0, "shape": "carbon"})
    second, third, _ = harmonics_db(clipped, 440)
    assert -40 < second < -10
    assert third < -15
    assert abs(clipped.mean()) < 1e-4
    soft = apply("clip", tone(1.0, amplitude=0.1), {"over_db": 0.0, "shape": "carbon"})
    assert np.ptp(soft) < 0.2  # saturates in both directions


def test_an_echo_comes_after_its_delay_at_its_level():
    for rate in RATES:
        click = np.zeros(rate, np.float32)
        click[100] = 0.5
        echoed = apply("echo", click, {"delay_ms": 62.5, "level_db": -30.0}, rate)
        places = np.flatnonzero(echoed)
        assert places.tolist() == [100, 100 + round(0.0625 * rate)]
        assert 20 * np.log10(echoed[places[1]] / echoed[places[0]]) == pytest.approx(-30.0, abs=0.01)


@pytest.mark.parametrize("level_dbov", [-34, -30, -26, -22, -16, -12])
def test_gain_control_brings_speech_near_its_target(speech, level_dbov):
    samples = resample(speech, 16000, RATE)[: 4 * RATE]
    samples = samples * 10 ** ((level_dbov - active_level(samples, RATE).level_dbov) / 20)
    controlled = active_level(apply("agc", samples, AGC), RATE).level_dbov
    assert controlled == pytest.approx(-22, abs=2.0)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.03, 1.0])
def test_gain_control_never_exceeds_its_maximum(speech, scale):
    samples = (speech[: 3 * RATE] * np.float32(scale)).astype(np.float32)
    for max_gain_db in (0.0, 6.0, 12.0):
        gains = line.agc_gain(samples, RATE, AGC | {"max_gain_db": max_gain_db})
        assert gains.shape == samples.shape
        assert 20 * np.log10(gains.max()) <= max_gain_db + 1e-3
        assert 20 * np.log10(gains.min()) >= -max_gain_db - 1e-3


def test_gain_control_acts_within_its_attack_and_lets_go_within_its_release():
    # a level 6 dB above the target for a second, then 6 dB below it
    high, low = (10 ** ((-22 + line.AGC_CREST_DB + change) / 20) * 2**0.5 for change in (6, -6))
    samples = np.concatenate([tone(1.0, 1000, low), tone(1.0, 1000, high), tone(2.0, 1000, low)])
    gain_db = 20 * np.log10(line.agc_gain(samples, RATE, AGC))

    def at(seconds: float) -> float:
        return gain_db[round(seconds * RATE)]

    assert at(0.9) == pytest.approx(6, abs=0.3)
    assert at(1.010) == pytest.approx(6 - 12 * (1 - np.exp(-1)), abs=1.5)  # one time constant
    assert at(1.06) == pytest.approx(-6, abs=0.3)
    assert at(1.95) == pytest.approx(-6, abs=0.3)
    assert at(2.3) == pytest.approx(-6 + 20 * np.log10(np.e), abs=0.6)  # one time constant of the amplitude
    assert at(2.6) == pytest.approx(6, abs=0.3)


def test_drift_stretches_time(speech):
    samples = resample(speech, 16000, RATE)
    samples = np.tile(samples, 3)[: 40 * RATE]
    later = apply("drift", samples, {"ppm": 50.0})
    lags, begin = np.arange(-40, 41), len(samples) - RATE - 40
    likeness = [np.dot(samples[begin - lag :][:RATE], later[begin:][:RATE]) for lag in lags]
    expected = 50e-6 * (begin + RATE / 2)
    assert lags[int(np.argmax(likeness))] == pytest.approx(expected, abs=1.0)
    assert np.abs(apply("drift", samples, {"ppm": 0.0}) - samples).max() < 1e-3
