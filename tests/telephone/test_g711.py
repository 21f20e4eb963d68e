"""G.711: the tables against the definition, and the figures of the ITU-T reference implementation."""

import hashlib
import io
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nest_ssl.telephone.codecs import codec, g711
from nest_ssl.telephone.plc import conceal

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


# Decision values of G.711 tables 1a and 2a: the first, and (how many, how far apart) in each segment.
A_LAW_SEGMENTS = (8, 0, ((32, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (15, 128)))
MU_LAW_SEGMENTS = (4, 1, ((15, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (16, 128), (15, 256)))


@pytest.mark.parametrize(
    ("table", "printed"),
    [(g711.a_law_encode_table, A_LAW_SEGMENTS), (g711.mu_law_encode_table, MU_LAW_SEGMENTS)],
)
def test_intervals_begin_at_the_decision_values_and_include_them(table, printed):
    # the tie rule: a sample on a decision value belongs to the interval above it, for either sign
    scale, value, segments = printed
    decisions = {0, value}
    for count, step in segments:
        for _ in range(count):
            value += step
            decisions.add(value)
    begins = EVERY_SAMPLE[1:][np.diff(table().astype(int)) != 0]
    assert set(begins.tolist()) == {sign * scale * value for value in decisions for sign in (1, -1)}


def test_mu_law_snr_of_a_sine_is_above_that_of_an_encoder_with_wrong_ties():
    # measured with the audioop module, which sends 508 samples, most of them small, to the farther level
    inexact = np.array((37.0, 38.6, 37.7, 36.4, 35.3, 30.2, 26.3, 23.5, 13.5))
    measured = [sine_snr_db("g711u", level, codec("g711u").encode_decode) for level in LEVELS_DBM0]
    assert np.all(measured > inexact)
    assert np.all(measured[:4] < inexact[:4] + 1.5)  # louder, where small samples weigh little


TABLES = {
    "g711a": (g711.a_law_encode_table, g711.a_law_decode_table),
    "g711u": (g711.mu_law_encode_table, g711.mu_law_decode_table),
}
SOX_NAMES = {"g711a": "a-law", "g711u": "mu-law"}
FFMPEG_NAMES = {"g711a": "alaw", "g711u": "mulaw"}


def run_program(command: list[str], data: bytes) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def sox_encode(law: str) -> bytes:
    command = f"sox -D -t raw -r 8000 -e signed -b 16 -c 1 - -t raw -e {SOX_NAMES[law]} -".split()
    return run_program(command, EVERY_SAMPLE.tobytes())


def sox_decode(law: str) -> bytes:
    command = f"sox -D -t raw -r 8000 -c 1 -b 8 -e {SOX_NAMES[law]} - -t raw -e signed -b 16 -".split()
    return run_program(command, bytes(range(256)))


def ffmpeg_encode(law: str) -> bytes:
    command = f"ffmpeg -v error -f s16le -ar 8000 -ac 1 -i - -f {FFMPEG_NAMES[law]} -".split()
    return run_program(command, EVERY_SAMPLE.tobytes())


def ffmpeg_decode(law: str) -> bytes:
    command = f"ffmpeg -v error -f {FFMPEG_NAMES[law]} -ar 8000 -ac 1 -i - -f s16le -".split()
    return run_program(command, bytes(range(256)))


def soundfile_encode(law: str) -> bytes:
    coded = io.BytesIO()
    subtype = {"g711a": "ALAW", "g711u": "ULAW"}[law]
    soundfile.write(coded, EVERY_SAMPLE, 8000, format="RAW", subtype=subtype)
    return coded.getvalue()


def soundfile_decode(law: str) -> bytes:
    subtype = {"g711a": "ALAW", "g711u": "ULAW"}[law]
    codes = io.BytesIO(bytes(range(256)))
    options = {"format": "RAW", "subtype": subtype, "samplerate": 8000, "channels": 1}
    return soundfile.read(codes, dtype="int16", **options)[0].tobytes()


def audioop_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("audioop", reason="not in Python since 3.13")


def audioop_encode(law: str) -> bytes:
    encode = {"g711a": "lin2alaw", "g711u": "lin2ulaw"}[law]
    return getattr(audioop_module(), encode)(EVERY_SAMPLE.tobytes(), 2)


def audioop_decode(law: str) -> bytes:
    decode = {"g711a": "alaw2lin", "g711u": "ulaw2lin"}[law]
    return getattr(audioop_module(), decode)(bytes(range(256)), 2)


# How many samples they code otherwise, once counted: each by one step, ties or next to one.
PEERS = [
    (sox_encode, {"g711a": 1020, "g711u": 510}),
    (ffmpeg_encode, {"g711a": 964, "g711u": 964}),
    (soundfile_encode, {"g711a": 127, "g711u": 127}),
    (audioop_encode, {"g711a": 0, "g711u": 508}),
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("peer", "most"), PEERS, ids=lambda value: getattr(value, "__name__", ""))
def test_other_encoders_differ_by_one_step_on_few_samples(law, peer, most):
    encode, decode = (table() for table in TABLES[law])
    theirs = np.frombuffer(peer(law), np.uint8)
    assert len(theirs) == len(encode)
    levels = np.unique(decode)
    steps = np.searchsorted(levels, decode[theirs]) - np.searchsorted(levels, decode[encode])
    assert np.abs(steps).max() <= 1
    assert np.count_nonzero(theirs != encode) <= most[law]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("peer", [sox_decode, ffmpeg_decode, soundfile_decode, audioop_decode])
def test_every_decoder_agrees(law, peer):
    np.testing.assert_array_equal(np.frombuffer(peer(law), np.int16), TABLES[law][1]())


@pytest.mark.parametrize("law", LAWS)
@given(samples=hnp.arrays(np.int16, st.integers(0, 700)), data=st.data())
def test_any_length_is_kept_and_the_input_not_changed(law, samples, data):
    lost = data.draw(hnp.arrays(bool, -(-len(samples) // 160)))
    before = samples.copy()
    for parameters in ({}, {"dtx": True}, {"concealment": "zeros"}):
        decoded = codec(law).encode_decode(samples, parameters, lost)
        assert decoded.dtype == np.int16
        assert decoded.shape == samples.shape
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("law", LAWS)
def test_lost_frames_are_concealed_or_zeros(law):
    tone = np.rint(9000 * np.sin(2 * np.pi * 130.7 * np.arange(1600) / 8000)).astype(np.int16)
    lost = np.zeros(10, bool)
    lost[4] = True
    decoded = codec(law).encode_decode(tone, {})
    concealed = codec(law).encode_decode(tone, {"concealment": "codec"}, lost)
    np.testing.assert_array_equal(concealed, conceal(decoded, lost, 160))
    np.testing.assert_array_equal(codec(law).encode_decode(tone, {}, lost), concealed)
    assert np.abs(concealed[640:800].astype(int)).max() > 8000
    zeros = codec(law).encode_decode(tone, {"concealment": "zeros"}, lost)
    assert not zeros[640:800].any()
    zeros[640:800] = decoded[640:800]
    np.testing.assert_array_equal(zeros, decoded)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kbps": 64}, "g711a: 'kbps'.*known are dtx, concealment"),
        ({"dtx": "yes"}, "g711a: dtx must be one of False, True, not 'yes'"),
        ({"dtx": 1}, "g711a: dtx must be one of False, True, not 1"),
        ({"concealment": "none"}, "g711a: concealment must be one of 'codec', 'zeros'"),
    ],
)
def test_wrong_parameters_are_refused_with_the_allowed_ones(parameters, message):
    with pytest.raises(ValueError, match=message):
        codec("g711a").check_parameters(parameters)


@pytest.mark.parametrize("law", LAWS)
def test_right_parameters_pass(law):
    codec(law).check()
    codec(law).check_parameters({})
    codec(law).check_parameters({"dtx": True, "concealment": "zeros"})


def test_unknown_codec_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"g711.*known are g711a, g711u, gsm_fr"):
        codec("g711")
