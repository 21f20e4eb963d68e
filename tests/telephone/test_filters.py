"""Handset weightings against the tables, tilt, high-pass, G.712, and the convolution that applies them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from nest_ssl.telephone import filters
from nest_ssl.telephone.filters import (
    BlockFilter,
    apply_filters,
    apply_high_pass,
    apply_receive,
    apply_weighting,
    check_high_pass,
    check_receive,
    check_weighting,
    convolve,
    draw_high_pass,
    draw_receive,
    draw_weighting,
    fir,
    g712_sections,
    weighting_response,
)
from nest_ssl.telephone.resample import resample

RATE = 8000
RATES = (8000, 16000)

# Responses of the filters of ITU-T G.191, dB re 1 kHz, at these frequencies.
HERTZ = [
    100,
    125,
    160,
    200,
    250,
    300,
    315,
    400,
    500,
    630,
    800,
    1000,
    1250,
    1600,
    2000,
    2500,
    3000,
    3150,
    3400,
]
IRS = [-42.6, -32.4, -22.5, -15.8, -11.2, -8.2, -7.4, -5.2, -3.3, -2.8, -1.5, 0, 0.8, 2.9, 3.6, 4.9, 4.6, 4.9]
MIRS = [
    -28.1,
    -21,
    -13.5,
    -9.6,
    -6.6,
    -4.8,
    -4.6,
    -3.3,
    -2.6,
    -2.2,
    -1.2,
    0,
    1.4,
    3.2,
    3.6,
    5.0,
    5.7,
    5.8,
    4.3,
]
MIRS_RECEIVE = [-25.7, -20.3, -14.3, -9.3, -4.9, -2.2, -1.7, -0.2] + [0] * 11
MSIN = [-13.1, -9.4, -5.6, -2.7, -0.8, -0.1] + [0] * 13
RESPONSES = {"irs": [*IRS, 1.1], "mirs": MIRS, "msin": MSIN, "mirs_receive": MIRS_RECEIVE}


def applied(name: str):
    """Give the function (samples, rate) that a drawn filter stands for."""
    if name == "mirs_receive":
        return lambda samples, rate: apply_receive(samples, rate, {"weighting": "mirs"})
    return lambda samples, rate: apply_weighting(samples, rate, {"send": name})


def impulse_response(function, rate: int) -> np.ndarray:
    """What a function makes of an impulse in the middle of a second, (rate + 1,)."""
    impulse = np.zeros(rate + 1, np.float32)
    impulse[rate // 2] = 1.0
    return function(impulse, rate)


def sine_gain_db(function, rate: int, hertz: float) -> float:
    """Gain of a sine of 2 s, without its ends."""
    sine = np.sin(2 * np.pi * hertz / rate * np.arange(2 * rate))
    middle = slice(rate // 2, -rate // 2)
    return 20 * np.log10(np.std(function(sine, rate)[middle]) / np.std(sine[middle]))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", RESPONSES)
def test_weightings_follow_the_table_for_sines(name, rate):
    at_1_khz = sine_gain_db(applied(name), rate, 1000)
    for hertz, expected in zip(HERTZ, RESPONSES[name], strict=True):
        gain = sine_gain_db(applied(name), rate, hertz) - at_1_khz
        assert gain == pytest.approx(expected, abs=0.5 if hertz >= 300 else 2.0), hertz


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", RESPONSES)
def test_weightings_follow_the_table_between_its_frequencies(name, rate):
    hertz = np.geomspace(100, 3400, 400)
    response = signal.freqz(impulse_response(applied(name), rate), worN=hertz, fs=rate)[1]
    expected = np.interp(np.log(hertz), np.log(HERTZ), RESPONSES[name])
    error = np.abs(20 * np.log10(np.abs(response)) - expected)
    assert error[hertz >= 300].max() < 0.5
    assert error[hertz < 300].max() < 2.0
    assert weighting_response(name, rate, hertz) == pytest.approx(20 * np.log10(np.abs(response)), abs=0.05)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", RESPONSES)
def test_weightings_have_no_delay_and_linear_phase(name, rate):
    response = impulse_response(applied(name), rate)
    assert int(np.argmax(np.abs(response))) == rate // 2
    assert np.abs(response - response[::-1]).max() < 1e-5
    taps = filters.fir(name, rate)
    assert np.array_equal(taps, taps[::-1])


@pytest.mark.parametrize("name", ["irs", "mirs", "msin"])
def test_weightings_change_the_spectrum_of_speech_as_the_table_says(speech, name):
    before = resample(speech, 16000, RATE)
    hertz, power_before = signal.welch(before, RATE, nperseg=2048)
    power_after = signal.welch(apply_weighting(before, RATE, {"send": name}), RATE, nperseg=2048)[1]
    inside = (hertz >= 300) & (hertz <= 3400)
    expected = np.interp(np.log(hertz[inside]), np.log(HERTZ), RESPONSES[name])
    assert 10 * np.log10(power_after / power_before)[inside] == pytest.approx(expected, abs=0.6)


def test_irs_keeps_the_limits_of_p48():
    # send sensitivity in dBV/Pa; the nominal one at 1 kHz is -3.7
    def sensitivity(hertz, rate=16000):
        return weighting_response("irs", rate, np.atleast_1d(hertz)) - 3.7

    for rate in RATES:
        assert sensitivity(100, rate) <= -41
        assert -21 <= sensitivity(200, rate) <= -16
        assert -11 <= sensitivity(400, rate) <= -6
        assert sensitivity(3000, rate) >= -1
        assert -4 <= sensitivity(3400, rate) <= 6
        assert sensitivity(3600, rate) <= 4
    assert np.max(sensitivity(np.arange(6000, 8001, 10))) <= -60


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("slope", [-4.0, -1.5, 2.0, 4.0])
def test_a_tilt_has_its_slope_and_leaves_1_khz(slope, rate):
    drawn = {"send": "tilt", "tilt_db_per_octave": slope}
    hertz = np.array([250, 500, 1000, 2000, 3000])
    response = signal.freqz(
        impulse_response(lambda x, r: apply_weighting(x, r, drawn), rate), worN=hertz, fs=rate
    )[1]
    assert 20 * np.log10(np.abs(response)) == pytest.approx(slope * np.log2(hertz / 1000), abs=0.3)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("edge", [160.0, 230.0, 300.0])
def test_a_high_pass_is_3_db_down_at_its_edge_and_falls_by_24_db_per_octave(edge, rate):
    response = impulse_response(lambda x, r: apply_high_pass(x, r, {"edge_hz": edge}), rate)
    hertz = np.array([edge / 2, edge, 2 * edge, 1000.0, 3000.0])
    gain = 20 * np.log10(np.abs(signal.freqz(response, worN=hertz, fs=rate)[1]))
    assert gain[0] == pytest.approx(-24.1, abs=2.0)
    assert gain[1:] == pytest.approx([-3.0, 0.0, 0.0, 0.0], abs=0.6)


def test_filters_in_one_are_the_filters_one_after_another(speech):
    samples = resample(speech, 16000, RATE)
    weighting, high_pass, receive = {"send": "msin"}, {"edge_hz": 200.0}, {"weighting": "mirs"}
    apart = apply_high_pass(apply_weighting(samples, RATE, weighting), RATE, high_pass)
    apart = apply_receive(apart, RATE, receive)
    middle = slice(500, -500)  # what lies before the beginning is lost between filters
    together = apply_filters(samples, RATE, weighting, high_pass, receive)
    assert np.abs(together - apart)[middle].max() < 1e-5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40000), st.integers(0, 1500), st.data())
def test_convolution_in_blocks_is_convolution(length, half, data):
    num_taps = 2 * half + 1
    delay = data.draw(st.sampled_from([0, half, num_taps - 1]))
    rng = np.random.default_rng(length + half)
    samples = rng.standard_normal(length).astype(np.float32)
    taps = rng.standard_normal(num_taps) / np.sqrt(num_taps)
    filtered = convolve(samples, BlockFilter(taps), delay)
    assert filtered.dtype == np.float32
    assert filtered.shape == (length,)
    if length:
        expected = np.convolve(samples.astype(float), taps)[delay:]
        expected = np.pad(expected, (0, max(0, length - len(expected))))[:length]
        assert np.abs(filtered - expected).max() < 1e-4


@pytest.mark.parametrize("length", [0, 1, 2, 81, 1024])
@pytest.mark.parametrize("name", ["irs", "mirs", "msin", "flat", "tilt"])
def test_length_and_type_are_kept_and_the_input_too(length, name):
    samples = np.full(length, 0.25)
    filtered = apply_weighting(samples, RATE, {"send": name, "tilt_db_per_octave": 2.0})
    assert filtered.shape == (length,)
    assert filtered.dtype == np.float32
    assert np.all(samples == 0.25)
    if name == "flat":
        assert np.array_equal(filtered, samples)


def test_nothing_drawn_changes_nothing():
    samples = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    assert np.array_equal(apply_filters(samples, RATE), samples)


def test_other_rates_are_served_and_too_low_ones_refused():
    hertz = np.array([300.0, 1000.0, 3000.0])
    assert weighting_response("msin", 11025, hertz) == pytest.approx([-0.1, 0, 0], abs=0.5)
    with pytest.raises(ValueError, match="8000 Hz or more, not 6000"):
        apply_weighting(np.zeros(10), 6000, {"send": "irs"})
    with pytest.raises(ValueError, match="no filter 'isr'"):
        weighting_response("isr", RATE, hertz)


SETTINGS = {
    "send": {"irs": 0.25, "mirs": 0.25, "msin": 0.3, "flat": 0.15, "tilt": 0.05},
    "tilt_db_per_octave": {"min": -4.0, "max": 4.0},
}


def test_weightings_are_drawn_with_their_shares():
    check_weighting(SETTINGS, "weighting")
    rng = np.random.default_rng(5)
    drawn = [draw_weighting(rng, SETTINGS) for _ in range(4000)]
    for name, share in SETTINGS["send"].items():
        count = sum(one["send"] == name for one in drawn)
        assert count / 4000 == pytest.approx(share, abs=4 * np.sqrt(share / 4000))
    slopes = {one["tilt_db_per_octave"] for one in drawn if one["send"] == "tilt"}
    assert len(slopes) > 20
    assert all(-4 <= slope <= 4 and slope % 0.25 == 0 for slope in slopes)  # few, so that designs are kept
    assert all(json.loads(json.dumps(one)) == one for one in drawn)


def test_high_passes_and_receivers_are_drawn_with_their_probability():
    high_pass = {"probability": 0.3, "edge_hz": {"min": 160.0, "max": 300.0}}
    check_high_pass(high_pass, "high_pass")
    check_receive({"probability": 0.1, "weighting": "mirs"}, "receive")
    rng = np.random.default_rng(6)
    edges = [draw_high_pass(rng, high_pass) for _ in range(3000)]
    edges = [one["edge_hz"] for one in edges if one]
    assert len(edges) / 3000 == pytest.approx(0.3, abs=0.03)
    assert 160 <= min(edges) < 170 < 290 < max(edges) <= 300
    heard = [draw_receive(rng, {"probability": 0.1}) for _ in range(3000)]
    assert sum(one == {"weighting": "mirs"} for one in heard) / 3000 == pytest.approx(0.1, abs=0.02)


def test_stages_that_are_off_draw_nothing():
    rng = np.random.default_rng(1)
    for check, drawing in (
        (check_weighting, draw_weighting), (check_high_pass, draw_high_pass), (check_receive, draw_receive)
    ):  # fmt: skip
        check(None, "off")
        assert drawing(rng, None) is None


@pytest.mark.parametrize(
    ("check", "values", "message"),
    [
        (check_weighting, {"send": {"iris": 1.0}}, "w.send: must be one of irs, .*not 'iris'"),
        (check_weighting, {"send": {"irs": 0.5}}, "w.send: the weights sum to 0.5"),
        (check_weighting, {"send": {"tilt": 1.0}}, "w.tilt_db_per_octave: is missing"),
        (check_weighting, {"send": "tilt"}, "w.tilt_db_per_octave: is missing"),
        (check_weighting, {"sent": "irs"}, "w.sent: is not a known key; did you mean send"),
        (check_high_pass, {"probability": 1.5, "edge_hz": 200}, "w.probability: must lie within 0 and 1"),
        (check_high_pass, {"probability": 1.0, "edge_hz": 5}, "w.edge_hz: must lie within 20 and 1000"),
        (check_receive, {"probability": 0.1, "weighting": "irs"}, "w.weighting: must be one of mirs"),
        (check_receive, {"mirs": 0.1}, "w.mirs: is not a known key"),
    ],
)
def test_impossible_settings_are_named(check, values, message):
    with pytest.raises(ValueError, match=message):
        check(values, "w")


# Response of the G.712 filter of ITU-T G.191, dB re 1 kHz.
G712_DB = {100: -19.2, 125: -11.3, 160: -3.5, 200: -0.1, 250: 0.1, 300: -0.1, 315: -0.1, 400: -0.1, 500: -0.1}
G712_DB |= {630: -0.1, 800: -0.1, 1000: 0.0, 1250: 0.0, 1600: 0.1, 2000: 0.1, 2500: 0.2, 3000: 0.1, 3150: 0.1}
G712_DB |= {3400: 0.1, 3500: -0.5, 3600: -2.1}


def gain_db(hertz) -> np.ndarray:
    response = signal.sosfreqz(g712_sections(), worN=np.asarray([*np.atleast_1d(hertz), 1000.0]), fs=RATE)[1]
    decibels = 20 * np.log10(np.abs(response))
    return decibels[:-1] - decibels[-1]


@pytest.mark.parametrize("hertz", G712_DB)
def test_g712_follows_the_reference_filter(hertz):
    tolerance = 2.0 if hertz < 300 else 0.5
    assert gain_db(hertz)[0] == pytest.approx(G712_DB[hertz], abs=tolerance)


def test_g712_keeps_within_the_limits_of_a_channel():
    assert np.all(np.abs(gain_db(np.arange(300, 3401, 10))) <= 0.5)
    assert np.all(gain_db(np.arange(1, 126)) <= -10)
    assert gain_db(3900)[0] <= -12
    assert gain_db(3999)[0] <= -16


def test_g712_is_in_time():
    taps = fir("g712", RATE)
    np.testing.assert_allclose(taps, taps[::-1], atol=1e-12)


def test_g712_is_the_same_filter_for_signals_as_for_plots():
    hertz = np.array([150.0, 300.0, 1000.0, 3400.0, 3700.0])
    response = signal.freqz(
        impulse_response(lambda x, r: apply_filters(x, r, g712=True), RATE), worN=hertz, fs=RATE
    )[1]
    decibels = 20 * np.log10(np.abs(response))
    assert weighting_response("g712", RATE, hertz) == pytest.approx(decibels - decibels[2], abs=0.01)
    assert apply_filters(np.zeros(0), RATE, g712=True).shape == (0,)
    with pytest.raises(ValueError, match="8000 Hz, not 16000"):
        apply_filters(np.zeros(9), 16000, g712=True)
