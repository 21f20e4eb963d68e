"""Opus narrowband: its bit rate, look-ahead, error correction, DTX; the system's decoder as a peer."""

import numpy as np
import pytest

from nest_ssl.telephone.codecs import codec, libraries, opus
from nest_ssl.telephone.codecs.native import whole_frames
from tests.telephone.measures import segmental_snr_db, spectrum_change_db


@pytest.fixture(scope="module")
def frames(narrow_speech) -> np.ndarray:
    """Five seconds of speech."""
    return whole_frames(narrow_speech[:40000], 160)


def loud_frames(frames: np.ndarray) -> list[bool]:
    energy = (frames.reshape(-1, 160).astype(float) ** 2).mean(axis=1)
    lost = np.zeros(len(energy), bool)
    lost[np.flatnonzero(energy > energy.max() * 0.02)[10::7]] = True
    return [bool(flag) for flag in lost]


def test_the_delay_taken_out_is_the_librarys_own():
    assert opus.lookahead() == codec("opus_nb").delay_samples


@pytest.mark.parametrize("kbps", [6, 9.5, 12, 16, 24])
def test_packets_have_the_bit_rate_asked_for(frames, kbps):
    packets = opus.encode(frames, {"kbps": kbps})
    # variable within a packet, constrained over time
    assert 8 * sum(map(len, packets)) / (20 * len(packets)) == pytest.approx(kbps, rel=0.15)


def test_packets_are_narrowband_of_twenty_milliseconds(frames):
    configurations = {packet[0] >> 3 for packet in opus.encode(frames, {"kbps": 24})}
    assert configurations == {1}  # RFC 6716 table 2: SILK-only, narrowband, 20 ms


@pytest.mark.parametrize("name", ["complexity", "dtx", "fec"])
def test_a_parameter_changes_the_packets(frames, name):
    value = {"complexity": 0, "dtx": True, "fec": True}[name]
    pause = np.zeros(16000, np.int16)
    samples = np.concatenate([frames, pause])
    expected = opus.encode(samples, {"kbps": 24})
    assert opus.encode(samples, {"kbps": 24, name: value}) != expected


def test_expected_loss_is_ten_percent_with_error_correction_and_none_without(frames):
    correcting = {"kbps": 24, "fec": True}
    told = [opus.encode(frames, correcting | {"expected_loss_percent": percent}) for percent in (10, 20)]
    assert opus.encode(frames, correcting) == told[0] != told[1]
    assert opus.encode(frames, {}) == opus.encode(frames, {"expected_loss_percent": 0})


def test_the_next_packet_restores_a_lost_frame(frames):
    lost = loud_frames(frames)
    parameters = {"kbps": 24, "fec": True, "expected_loss_percent": 20}
    packets = opus.encode(frames, parameters)
    clean = opus.decode(packets, [False] * len(packets), fec=True)
    errors = {}
    for fec in (False, True):
        decoded = opus.decode(packets, lost, fec)
        error = (decoded.astype(float) - clean).reshape(-1, 160)[np.array(lost)]
        errors[fec] = 10 * np.log10(
            (error**2).sum() / (clean.reshape(-1, 160)[lost].astype(float) ** 2).sum()
        )
    assert errors[True] < -9  # measured: -15 dB, coarse but the frame itself
    assert errors[True] < errors[False] - 6


def test_a_frame_whose_next_one_is_lost_too_is_concealed(frames):
    packets = opus.encode(frames, {"kbps": 24, "fec": True, "expected_loss_percent": 20})
    lost = [False] * len(packets)
    lost[60:62] = [True, True]
    both = opus.decode(packets, lost, fec=True)
    concealed = opus.decode(packets, lost, fec=False)
    np.testing.assert_array_equal(both[60 * 160 : 61 * 160], concealed[60 * 160 : 61 * 160])
    assert (both[61 * 160 : 62 * 160] != concealed[61 * 160 : 62 * 160]).any()


def test_error_correction_changes_nothing_where_all_arrives(frames):
    packets = opus.encode(frames, {"kbps": 24, "fec": True})
    arrived = [False] * len(packets)
    np.testing.assert_array_equal(
        opus.decode(packets, arrived, fec=True), opus.decode(packets, arrived, fec=False)
    )


def test_dtx_sends_next_to_nothing_in_a_pause(frames):
    samples = np.concatenate([frames[:16000], np.zeros(24000, np.int16)])
    sizes = np.array([len(packet) for packet in opus.encode(samples, {"dtx": True})])
    assert np.mean(sizes[140:] <= 2) > 0.8
    assert np.mean(sizes[:90] <= 2) < 0.5
    assert min(map(len, opus.encode(samples, {}))) > 2


def test_the_systems_decoder_reads_the_same_speech_from_the_packets(frames, monkeypatch):
    packets = opus.encode(frames, {"kbps": 12})
    arrived = [False] * len(packets)
    wheel = opus.decode(packets, arrived, fec=False)
    monkeypatch.setenv(libraries.ORDER_VARIABLE, "system")
    if libraries.load_library("opus").source != "system":
        pytest.skip("the system has no libopus")
    system = opus.decode(packets, arrived, fec=False)
    assert segmental_snr_db(wheel, system) > 40


def test_spectrum_and_error_are_those_measured_with_other_speech(narrow_speech):
    decoded = codec("opus_nb").encode_decode(narrow_speech, {"kbps": 12})
    change = spectrum_change_db(narrow_speech, decoded, 8000, (60, 100, 300, 1000, 2000, 3000))
    np.testing.assert_allclose(change, (-3.2, -0.8, -0.1, -0.3, -1.1, -1.7), atol=1.0)
    assert segmental_snr_db(narrow_speech, decoded) == pytest.approx(7.8, abs=1.5)


def test_the_version_names_the_release():
    assert codec("opus_nb").version().startswith("libopus 1.")
