"""What call recorders store: IMA and VOX ADPCM, GSM in WAV, MP3."""

import io

import numpy as np
import pytest
import soundfile

from nest_ssl.telephone.codecs import codec, mp3
from tests.telephone.measures import lag_samples, level_db, spectrum_change_db
from tests.telephone.programs import piped

RECORDERS = ("ima_adpcm", "vox_adpcm", "gsm_wav49", "mp3")
SOX_INPUT = {"ima_adpcm": "-t wav", "vox_adpcm": "-t vox -r 8000"}


@pytest.mark.parametrize("name", ("ima_adpcm", "vox_adpcm"))
def test_sox_reads_the_same_samples(name, narrow_speech):
    samples = narrow_speech[:16001]
    stored = codec(name).store(samples).read()
    raw = piped(stored, "sox", *SOX_INPUT[name].split(), "-", "-t", "raw", "-e", "signed", "-b", "16", "-")
    theirs = np.frombuffer(raw, np.int16)
    np.testing.assert_array_equal(codec(name).encode_decode(samples, {}), theirs[: len(samples)])


@pytest.mark.parametrize("length", (1, 319, 320, 321, 16001))
def test_gsm_wav49_is_what_soundfile_reads_from_its_own_file(length, narrow_speech):
    samples = narrow_speech[8000 : 8000 + length]
    stored = io.BytesIO()
    soundfile.write(stored, samples, 8000, format="WAV", subtype="GSM610")
    stored.seek(0)
    expected = soundfile.read(stored, dtype="int16")[0][:length]
    np.testing.assert_array_equal(codec("gsm_wav49").encode_decode(samples, {})[: len(expected)], expected)


@pytest.mark.parametrize("rate", (8000, 16000))
def test_mpg123_decodes_mp3_to_the_same_samples(rate, narrow_speech):
    samples = narrow_speech[:16000]
    theirs = soundfile.read(io.BytesIO(mp3.encode(samples, rate, 32)), dtype="float32")[0] * 32768
    ours = mp3.round_trip(samples, rate, 32)
    assert np.abs(theirs[mp3.DELAY : mp3.DELAY + len(samples)] - ours).max() < 0.5


def test_mp3_has_the_bit_rate_asked_for(narrow_speech):
    for kbps in (8, 16, 32, 64):
        num_bytes = len(mp3.encode(narrow_speech[:80000], 8000, kbps))
        assert num_bytes == pytest.approx(10 * kbps * 125, rel=0.03)


# measured with FFmpeg and libsndfile over two minutes of other prompts in English
@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    (
        ("ima_adpcm", {}, 24.0),
        ("vox_adpcm", {}, 24.0),
        ("gsm_wav49", {}, 16.2),
        ("mp3", {"kbps": 16}, 21.0),
        ("mp3", {"kbps": 16, "sample_rate": 16000}, 21.0),
        ("mp3", {"kbps": 32}, 24.0),
    ),
)
def test_aligned_and_as_good_as_measured(name, parameters, expected, narrow_speech):
    english = narrow_speech[:28207]
    decoded = codec(name).encode_decode(english, parameters)
    assert abs(lag_samples(english, decoded, 8000)) < 0.2
    assert level_db(english) - level_db(decoded.astype(float) - english) == pytest.approx(expected, abs=4.0)


def test_recorder_of_16_khz_keeps_the_band_of_the_line(narrow_speech):
    parameters = {"kbps": 32, "sample_rate": 16000}
    decoded = codec("mp3").encode_decode(narrow_speech[:28207], parameters)
    change = spectrum_change_db(narrow_speech[:28207], decoded, 8000, (300, 1000, 2000, 3000))
    assert np.abs(change + 0.45).max() < 0.3  # LAME scales what it codes by 0.95


@pytest.mark.parametrize("name", RECORDERS)
def test_loss_is_refused(name):
    samples = np.zeros(320, np.int16)
    assert len(codec(name).encode_decode(samples, {}, np.zeros(2, bool))) == 320
    with pytest.raises(ValueError, match=f"{name} stores recordings and loses no frames; 1 "):
        codec(name).encode_decode(samples, {}, np.array([True, False]))


def test_bit_rate_that_mp3_has_not_is_refused():
    with pytest.raises(ValueError, match=r"mp3: kbps must be one of 16, 8, .* not 20"):
        codec("mp3").check_parameters({"kbps": 20})
