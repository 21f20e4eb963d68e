"""What inspect says of recordings whose line is known."""

import numpy as np
import pytest

from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.inspection import inspect
from nest_ssl.telephone.resample import resample


@pytest.fixture(scope="module")
def narrow(speech):
    """int16 (T,): 12 s of speech at 8 kHz, at half of its level."""
    return np.rint(resample(speech[: 12 * 16000], 16000, 8000) * 16384).astype(np.int16)


def at(pcm, rate):
    """float32 at 8 kHz, or at 16 kHz in whole numbers as a file holds it."""
    samples = pcm / np.float32(32768)
    if rate == 16000:
        samples = np.rint(resample(samples, 8000, 16000) * 32768).astype(np.float32) / 32768
    return samples


def through(pcm, *codecs, lost=None, **parameters):
    for name in codecs:
        pcm = codec(name).encode_decode(pcm, parameters, lost)
    return pcm


def random_losses(pcm, share=0.05):
    return np.random.default_rng(3).random(-(-len(pcm) // 160)) < share


def test_wideband_speech_has_no_telephone_codec(speech):
    found = inspect(speech, 16000)
    assert found.band.startswith("wideband") and found.high_hz > 6000
    assert found.family == "none to tell"


@pytest.mark.parametrize("rate", [8000, 16000])
def test_plain_8_khz_speech_shows_no_codec_and_no_loss(narrow, rate):
    found = inspect(at(narrow, rate), rate)
    assert found.band.startswith("narrowband") and 3600 < found.high_hz <= 4000
    assert found.family == "none to tell"
    assert found.zeroed < 0.006  # digital silence where prompts are joined
    assert found.repeated == 0


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize(
    ("codecs", "family"),
    [
        (["g711a"], "G.711 A-law"),
        (["g711u"], "G.711 mu-law"),
        (["gsm_fr"], "GSM 06.10"),
        (["gsm_fr", "g711a"], "GSM 06.10, then G.711 A-law"),
        (["amr_nb", "g711u"], "G.711 mu-law"),
    ],
)
def test_the_last_codecs_are_named(narrow, codecs, family, rate):
    assert inspect(at(through(narrow, *codecs), rate), rate).family == family


def test_amr_shows_by_its_13_bits_as_long_as_nothing_changed_them(narrow):
    coded = through(narrow, "amr_nb")
    assert inspect(at(coded, 8000), 8000).family.startswith("AMR")
    assert inspect(at(coded, 16000), 16000).family == "none to tell"


def test_the_gsm_frame_start_need_not_be_the_start_of_the_file(narrow):
    assert inspect(at(through(narrow, "gsm_fr")[52:], 8000), 8000).family == "GSM 06.10"


@pytest.mark.parametrize("rate", [8000, 16000])
def test_packets_played_as_zeros_are_counted(narrow, rate):
    lost = random_losses(narrow)
    found = inspect(at(through(narrow, "g711a", lost=lost, concealment="zeros"), rate), rate)
    assert 0.3 * lost.mean() < found.zeroed < 2.0 * lost.mean()
    assert found.repeated < 0.005


@pytest.mark.parametrize("rate", [8000, 16000])
def test_repeated_pitch_periods_give_concealed_packets_away(narrow, rate):
    lost = random_losses(narrow)
    found = inspect(at(through(narrow, "g711a", lost=lost), rate), rate)
    assert 0.2 * lost.mean() < found.repeated < 1.5 * lost.mean()


def test_levels_are_those_of_the_signal():
    time = np.arange(80000) / 8000
    found = inspect((0.1 * np.sin(2 * np.pi * 1015.7 * time) + 0.01).astype(np.float32), 8000)
    assert found.level_dbov == pytest.approx(10 * np.log10(0.1**2 / 2 + 0.01**2), abs=0.1)
    assert found.peak_dbov == pytest.approx(20 * np.log10(0.11), abs=0.01)
    assert found.dc == pytest.approx(0.01, abs=1e-4)
    assert found.clipped == 0


def test_clipping_is_counted():
    time = np.arange(80000) / 8000
    clipped = np.clip(np.sin(2 * np.pi * 101.3 * time), -0.5, 0.5).astype(np.float32)
    assert inspect(clipped, 8000).clipped == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("count", [0, 1, 79, 160, 800])
def test_silence_and_short_pieces_are_no_error(count):
    found = inspect(np.zeros(count, np.float32), 8000)
    assert found.level_dbov is None and found.band == "no signal"
    inspect(np.full(count, 0.25, np.float32), 16000)


@pytest.mark.parametrize(("hertz", "band"), [(0, "no signal"), (440, "narrowband"), (5000, "wideband")])
def test_tones_and_constants_are_no_wideband_speech(hertz, band):
    time = np.arange(48000) / 16000
    tone = np.rint(9830 * np.cos(2 * np.pi * hertz * time)).astype(np.float32) / 32768
    assert inspect(tone, 16000).band.startswith(band)


def test_samples_of_eight_bits_are_no_trace_of_a_speech_coder(narrow):
    eight = at((narrow >> 8) << 8, 8000)
    assert inspect(eight, 8000).family.startswith("linear PCM")


def test_what_is_no_signal_is_refused():
    with pytest.raises(ValueError, match=r"shape \(T,\), not \(2, 100\)"):
        inspect(np.zeros((2, 100)), 8000)
    with pytest.raises(ValueError, match="1 samples are not finite"):
        inspect(np.array([0.0, np.nan]), 8000)
