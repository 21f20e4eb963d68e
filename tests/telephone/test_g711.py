"""G.711: the tables against the definition, and the figures of the ITU-T reference implementation."""

import hashlib

import numpy as np
import pytest

from nest_ssl.telephone.codecs import codec, g711

EVERY_SAMPLE = np.arange(-32768, 32768, dtype=np.int16)
LAWS = ("g711a", "g711u")


# From the ITU-T G.191 reference, run over every input once.
@pytest.mark.parametrize(
    ("table", "start"),
    [(g711.a_law_encode_table, "38488f6fd710f468"), (g711.mu_law_encode_table, "90c29de505fb68e7")],
)
def test_encoder_agrees_with_the_reference_on_every_sample(table, start):
    assert hashlib.sha256(table().tobytes()).hexdigest().startswith(start)


def test_a_law_decodes_as_g711_table_1a_prints():
    # code with the even bits inverted back -> decision output, G.711 table 1a/b (x 16 for 16 bits)
    decode = g711.a_law_decode_table()
    for code, value in ((0x80, 1), (0x81, 3), (0x90, 33), (0xA0, 66), (0xFF, 4032), (0xF0, 2112)):
        assert decode[code ^ 0x55] == 8 * value
        assert decode[(code & 0x7F) ^ 0x55] == -8 * value


def test_mu_law_decodes_as_g711_table_2a_prints():
    decode = g711.mu_law_decode_table()
    for code, value in ((0xFF, 0), (0xFE, 2), (0xEF, 33), (0x8F, 4191), (0x80, 8031)):
        assert decode[code] == 4 * value
        assert decode[code & 0x7F] == -4 * value


@pytest.mark.parametrize("law", LAWS)
def test_what_was_decoded_once_stays(law):
    once = codec(law).encode_decode(EVERY_SAMPLE, {})
    np.testing.assert_array_equal(codec(law).encode_decode(once, {}), once)


@pytest.mark.parametrize("law", LAWS)
def test_louder_in_is_never_softer_out(law):
    assert np.all(np.diff(codec(law).encode_decode(EVERY_SAMPLE, {}).astype(int)) >= 0)


@pytest.mark.parametrize(("law", "largest"), [("g711a", 32256), ("g711u", 32124)])
def test_the_error_is_at_most_half_a_step(law, largest):
    decoded = codec(law).encode_decode(EVERY_SAMPLE, {}).astype(int)
    levels = np.unique(decoded)
    assert levels[-1] == largest
    step = np.diff(levels)
    # the step on the farther side of each level, for every sample that lies between levels
    allowed = np.maximum(np.append(step, step[-1]), np.insert(step, 0, step[0])) / 2
    error = np.abs(decoded - EVERY_SAMPLE)
    inside = np.abs(EVERY_SAMPLE.astype(int)) <= largest
    # mu-law quantises 14 bits, A-law 13: what lies below adds at most 3 and 7 LSB to the half step
    slack = {"g711a": 7, "g711u": 3}[law]
    assert np.all(error[inside] <= allowed[np.searchsorted(levels, decoded[inside])] + slack)


LEVELS_DBM0 = (0, -3, -10, -20, -30, -40, -45, -50, -60)
FULL_SCALE_DBM0 = {"g711a": 3.14, "g711u": 3.17}  # a full-scale sine, G.711


def sine_snr_db(law: str, level_dbm0: float, encode_decode) -> float:
    peak = 32768 * 10 ** ((level_dbm0 - FULL_SCALE_DBM0[law]) / 20)
    sine = np.rint(peak * np.sin(2 * np.pi * 1015.7 * np.arange(8000 * 4) / 8000)).astype(np.int16)
    error = encode_decode(sine, {}).astype(float) - sine
    return 10 * np.log10(np.mean(sine.astype(float) ** 2) / np.mean(error**2))


def test_a_law_snr_of_a_sine_over_its_level():
    # measured with the A-law encoder of the audioop module, which is exact
    expected = (37.0, 39.6, 38.1, 37.2, 37.3, 30.6, 25.2, 21.4, 11.3)
    measured = [sine_snr_db("g711a", level, codec("g711a").encode_decode) for level in LEVELS_DBM0]
    np.testing.assert_allclose(measured, expected, atol=0.7)


@pytest.mark.parametrize("law", LAWS)
def test_snr_of_a_sine_is_that_of_rounding_to_the_nearest_level(law):
    levels = np.unique(codec(law).encode_decode(EVERY_SAMPLE, {})).astype(float)

    def nearest(samples, parameters):
        right = np.clip(np.searchsorted(levels, samples), 1, len(levels) - 1)
        middle = (levels[right - 1] + levels[right]) / 2
        return np.where(samples < middle, levels[right - 1], levels[right])

    for level in LEVELS_DBM0:
        expected = sine_snr_db(law, level, nearest)
        assert sine_snr_db(law, level, codec(law).encode_decode) == pytest.approx(expected, abs=0.7)
        assert level < -30 or 35 < expected < 40.5


def test_unknown_codec_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"amr.*known are g711a, g711u, gsm_fr"):
        codec("amr")
