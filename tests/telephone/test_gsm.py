"""GSM 06.10 as libsndfile carries it."""

import numpy as np
import pytest
import soundfile
from scipy import signal

from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.resample import resample


@pytest.mark.parametrize("length", [0, 1, 159, 160, 161, 8001])
def test_length_is_kept(length):
    samples = np.full(length, 1000, np.int16)
    decoded = codec("gsm_fr").encode_decode(samples, {})
    assert decoded.dtype == np.int16
    assert len(decoded) == length


def test_same_bits_as_the_wav49_container(speech, tmp_path):
    samples = np.rint(resample(speech[:80000], 16000, 8000) * 32768).astype(np.int16)
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="GSM610")
    contained = soundfile.read(tmp_path / "x.wav", dtype="int16")[0]
    whole_blocks = len(samples) // 320 * 320  # WAV49 packs two frames
    decoded = codec("gsm_fr").encode_decode(samples, {})
    np.testing.assert_array_equal(decoded[:whole_blocks], contained[:whole_blocks])


def test_long_term_spectrum_changes_as_with_libgsm(speech):
    # dB at 300, 1000, 2000 and 3000 Hz, measured with libgsm on two minutes of other prompts
    samples = np.rint(resample(speech, 16000, 8000) * 32768).astype(np.int16)
    hertz, before = signal.welch(samples.astype(float), 8000, nperseg=1024)
    after = signal.welch(codec("gsm_fr").encode_decode(samples, {}).astype(float), 8000, nperseg=1024)[1]
    for centre, expected in ((300, -0.1), (1000, -0.5), (2000, -2.4), (3000, -2.6)):
        near = (hertz > centre / 1.12) & (hertz < centre * 1.12)
        change_db = 10 * np.log10(after[near].sum() / before[near].sum())
        assert change_db == pytest.approx(expected, abs=1.0), f"{centre} Hz"
