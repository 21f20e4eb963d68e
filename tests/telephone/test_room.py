"""Rooms: reverberation time, direct path, the images themselves, recorded responses."""

import itertools
import json

import numpy as np
import pytest
import soundfile
from scipy import signal

from nest_ssl.telephone import room
from nest_ssl.telephone.resample import resample
from nest_ssl.telephone.room import (
    Room,
    apply_room,
    check_room,
    draw_room,
    impulse_response,
    recorded_response,
    room_of_bank,
)

RATE = 8000
SETTINGS = {
    "probability": 1.0,
    "rt60_s": {"min": 0.1, "max": 0.5},
    "distance_m": {"min": 0.3, "max": 1.5},
    "bank": 200,
}


def reverberation_time(response: np.ndarray, rate: int) -> float:
    """Schroeder's method without the direct path, from -5 to -35 dB."""
    energy = response.astype(float) ** 2
    energy[: round(0.0025 * rate)] = 0
    remaining = np.cumsum(energy[::-1])[::-1]
    decay_db = 10 * np.log10(remaining / remaining[0] + 1e-30)
    first, last = np.argmax(decay_db < -5), np.argmax(decay_db < -35)
    slope = np.polyfit(np.arange(first, last) / rate, decay_db[first:last], 1)[0]
    return -60 / slope


def drawn_rooms(count: int) -> list[dict]:
    return [draw_room(np.random.default_rng(seed), SETTINGS) for seed in range(count)]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_rooms_decay_in_their_reverberation_time(rate):
    for drawn in drawn_rooms(25):
        response = impulse_response(room_of_bank(**drawn), rate)
        assert reverberation_time(response, rate) == pytest.approx(drawn["rt60_s"], rel=0.25)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_direct_path_is_the_first_sample_and_the_largest(rate):
    for drawn in drawn_rooms(15):
        response = impulse_response(room_of_bank(**drawn), rate)
        assert int(np.argmax(np.abs(response))) == 0
        assert response[0] == pytest.approx(1.0, abs=0.35)  # reflections may fall into the same sample


def test_speech_in_a_room_is_in_time(speech):
    samples = resample(speech, 16000, RATE)[: 4 * RATE]
    for drawn in drawn_rooms(10):
        wet = apply_room(samples, RATE, drawn)
        correlation = signal.correlate(wet, samples, method="fft")
        assert int(np.argmax(correlation)) == len(samples) - 1


def test_the_bank_is_within_its_limits_and_spread_over_them():
    rooms = drawn_rooms(300)
    for key, lowest, highest in (("rt60_s", 0.1, 0.5), ("distance_m", 0.3, 1.5)):
        values = np.array([drawn[key] for drawn in rooms])
        assert lowest <= values.min() < lowest + 0.1 * (highest - lowest)
        assert highest - 0.1 * (highest - lowest) < values.max() <= highest
    assert len({drawn["index"] for drawn in rooms}) > 120
    for drawn in rooms[:40]:
        found = room_of_bank(**drawn)
        assert np.linalg.norm(found.talker - found.microphone) == pytest.approx(drawn["distance_m"])
        for spot in (found.talker, found.microphone):
            assert np.all(spot > 0.2)
            assert np.all(spot < found.size - 0.2)
        assert np.array_equal(found.size, room_of_bank(**drawn).size)


def test_a_room_of_the_bank_stays_the_same_whatever_is_drawn_before():
    by_index: dict[int, dict] = {}
    for drawn in drawn_rooms(400):
        assert by_index.setdefault(drawn["index"], drawn) == drawn
        assert json.loads(json.dumps(drawn)) == drawn
    drawn = drawn_rooms(1)[0]
    first = impulse_response(room_of_bank(**drawn), RATE)
    assert np.array_equal(first, impulse_response(room_of_bank(**drawn), RATE))


def plain_images(shape: Room, rate: int, reach_s: float) -> np.ndarray:
    """The images of Allen and Berkley one by one, each at its nearest sample after the direct path."""
    direct = np.linalg.norm(shape.talker - shape.microphone)
    decay = room.DECAY / (room.SPEED_OF_SOUND * shape.rt60_s)
    response = np.zeros(round(reach_s * rate) + 1)
    order = range(-8, 9)
    for turns in itertools.product(order, repeat=3):
        for flips in itertools.product((0, 1), repeat=3):
            gain, offset = 1.0, np.zeros(3)
            for axis in range(3):
                sign = -1 if flips[axis] else 1
                offset[axis] = 2 * turns[axis] * shape.size[axis] + sign * shape.talker[axis]
                offset[axis] -= shape.microphone[axis]
                reflections = abs(turns[axis] - flips[axis]) + abs(turns[axis])
                gain *= np.exp(-decay * shape.size[axis]) ** reflections
            distance = np.linalg.norm(offset)
            place = round((distance - direct) * rate / room.SPEED_OF_SOUND)
            if 0 < place < len(response):
                response[place] += gain * direct / distance
    return response


def test_responses_are_the_sum_of_the_images():
    shape = Room(np.array([3.1, 4.3, 2.6]), np.array([1.2, 2.0, 1.5]), np.array([1.9, 2.2, 0.8]), 0.2)
    rate = 64000  # where no low-pass comes between
    response = impulse_response(shape, rate)
    expected = plain_images(shape, rate, 0.08)
    expected = signal.sosfilt(signal.butter(2, room.LOWEST_HZ, "high", fs=rate, output="sos"), expected)
    expected[0] += 1.0
    given = response[: len(expected)]
    # a sample's rounding may differ where a place lies between two: compare below 8 kHz
    low = signal.butter(6, 8000, fs=rate, output="sos")
    given, expected = signal.sosfilt(low, given), signal.sosfilt(low, expected)
    assert np.sum((given - expected) ** 2) < 1e-3 * np.sum(expected**2)


def test_more_distance_gives_more_room():
    def direct_to_reverberant_db(distance_m: float) -> float:
        response = impulse_response(room_of_bank(7, 0.4, distance_m), RATE)
        return float(-10 * np.log10(np.sum(response[1:] ** 2)))

    near, far = direct_to_reverberant_db(0.3), direct_to_reverberant_db(1.2)
    assert near - far == pytest.approx(12, abs=4)  # four times the distance: 12 dB, if the room stayed alike


@pytest.mark.parametrize("length", [0, 1, 159, 30000])
def test_length_and_type_are_kept(length):
    samples = np.full(length, 0.1)
    wet = apply_room(samples, RATE, drawn_rooms(1)[0])
    assert wet.shape == (length,)
    assert wet.dtype == np.float32
    assert np.array_equal(apply_room(samples, RATE, None), samples.astype(np.float32))


@pytest.fixture
def folder(tmp_path):
    """Two responses: 16 kHz stereo with the direct path after 50 samples, upside down; 8 kHz mono."""
    first = np.zeros((4000, 2))
    first[50, 0], first[450, 0], first[60, 1] = -0.5, 0.2, 0.9
    (tmp_path / "b").mkdir()
    soundfile.write(tmp_path / "b" / "one.wav", first, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "a.wav", np.r_[np.zeros(9), 0.8, 0.1 * np.ones(5)], 8000)
    (tmp_path / "notes.txt").write_text("not audio")
    return tmp_path


def test_recorded_responses_begin_at_their_direct_path(folder):
    response = recorded_response(str(folder / "b" / "one.wav"), 16000)
    assert response[0] == 1.0
    assert response[400] == pytest.approx(-0.4, abs=1e-6)
    assert np.count_nonzero(np.abs(response) > 1e-6) == 2
    halved = recorded_response(str(folder / "b" / "one.wav"), 8000)
    assert halved[0] == 1.0
    assert int(np.argmin(halved)) == 200


def test_recorded_rooms_are_drawn_from_all_of_a_folder(folder):
    settings = {"probability": 1.0, "folder": str(folder)}
    check_room(settings, "room")
    drawn = [draw_room(np.random.default_rng(seed), settings) for seed in range(30)]
    assert {one["file"] for one in drawn} == {str(folder / "a.wav"), str(folder / "b" / "one.wav")}
    click = np.zeros(2000, np.float32)
    click[100] = 0.5
    wet = apply_room(click, 16000, {"file": str(folder / "b" / "one.wav")})
    assert wet[[100, 500]] == pytest.approx([0.5, -0.2], abs=1e-5)
    assert np.abs(wet[:100]).max() < 1e-6


def test_what_is_no_response_is_refused(tmp_path):
    for name, samples in (
        ("silent", np.zeros(100)),
        ("nan", np.r_[1.0, np.nan, np.zeros(50)]),
        ("long", np.r_[1.0, np.zeros(11 * RATE)]),
    ):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
    for name, message in (("silent", "is silent"), ("nan", "not finite"), ("long", "lasts 11.0 s")):
        with pytest.raises(ValueError, match=message):
            recorded_response(str(tmp_path / f"{name}.wav"), RATE)
    with pytest.raises(FileNotFoundError):
        recorded_response(str(tmp_path / "none.wav"), RATE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": -1}, "r.probability: must lie within 0 and 1"),
        ({"rt60_s": {"min": 0.1, "max": 5.0}}, "r.rt60_s.max: must lie within 0.05 and 1.5"),
        ({"distance_m": {0.5: 0.5, 1.0: 0.5}}, "r.distance_m: must be a number or"),
        ({"bank": 2.5}, "r.bank: must be a whole number"),
        ({"rooms": 3}, "r.rooms: is not a known key"),
        ({"folder": "/nowhere"}, "there is no folder /nowhere"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        check_room(SETTINGS | changes, "r")


def test_a_folder_without_audio_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no audio"):
        check_room({"probability": 1.0, "folder": str(tmp_path)}, "room")
    with pytest.raises(ValueError, match="rt60_s: is missing"):
        check_room({"probability": 1.0}, "room")
    check_room(None, "room")
    assert draw_room(np.random.default_rng(0), None) is None
