"""Rooms that a speakerphone hears: impulse responses by the image-source method, or recorded ones.

Source: Allen and Berkley, 1979, Journal of the Acoustical Society of America 65:943.  Differences: a wall
reflects exp(-a * L), L being the distance to the wall opposite, so that sound in all directions decays at
nearly the same rate and the reverberation time is the one asked for; the direct path is sample 0 with gain 1,
so that labels stay in time and the level of the voice stays.  Written here rather than taken from
pyroomacoustics, which needs a compiler where it has no wheel and brings its own arrays, tables and plots.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy

from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.telephone.draws import check_draw, check_keys, check_number, check_probability, happens
from nest_ssl.telephone.filters import BlockFilter, convolve
from nest_ssl.telephone.recordings import SUFFIXES, files_below
from nest_ssl.telephone.resample import resample

BANK = 200
SPEED_OF_SOUND = 343.0  # m/s
ROOMS_KEY = 1979  # of the random numbers that make the bank
SIZES_M = np.array([[2.5, 2.5, 2.4], [8.0, 6.0, 3.5]])
MICROPHONE_HEIGHT_M = (0.7, 1.1)  # on a table
FROM_WALLS_M = 0.3
# a * speed of sound * reverberation time: over all directions u the energy falls as the mean of
# exp(-2 a c t (|ux| + |uy| + |uz|)); this gives its integral the slope of -60 dB from -5 to -35 dB.
DECAY = 4.96
HEARD_DB = 50.0  # the rest, of twice as many images, is far below the noise of any line
FINE_RATE = 64000  # Hz, at which images are placed before they are brought to the sample rate
LOWEST_HZ = 100.0  # the sum of images, all of one sign, is not sound below; Allen and Berkley filter it too
MAX_RECORDED_S = 10.0  # a longer file is no impulse response
KEPT_RECORDED_S = 2.0  # of a recorded response after its direct path


class Room(NamedTuple):
    """A shoebox: its size (3,), where the talker and the microphone are (3,), in metres, and its decay."""

    size: np.ndarray
    talker: np.ndarray
    microphone: np.ndarray
    rt60_s: float


def check_room(settings: Mapping[str, Any] | None, where: str) -> None:
    """Raise ValueError naming `where` unless these are settings of rooms, or None for none.

    {probability, rt60_s, distance_m: {min, max} or a number; bank: how many rooms, 200 without it}, or
    {probability, folder: of recorded responses}.
    """
    if settings is None:
        return
    check_keys(settings, ("probability",), where, ("rt60_s", "distance_m", "bank", "folder"))
    check_probability(settings["probability"], f"{where}.probability")
    if settings.get("folder") is not None:
        recorded_responses(str(settings["folder"]))
        return
    for key, lowest, highest in (("rt60_s", 0.05, 1.5), ("distance_m", 0.1, 2.0)):
        if key not in settings:
            raise ValueError(f"{where}.{key}: is missing")
        check_draw(settings[key], f"{where}.{key}", lowest, highest)
        _ends(settings[key], f"{where}.{key}")
    bank = settings.get("bank", BANK)
    if check_number(bank, f"{where}.bank", 1, 100000) != int(bank):
        raise ValueError(f"{where}.bank: must be a whole number, not {bank!r}")


def draw_room(rng: np.random.Generator, settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give {"index", "rt60_s", "distance_m"} of a room of the bank, {"file"} of a recorded one, or None."""
    if settings is None or not happens(rng, settings["probability"]):
        return None
    if settings.get("folder") is not None:
        files = recorded_responses(str(settings["folder"]))
        return {"file": files[int(rng.integers(len(files)))]}
    index = int(rng.integers(int(settings.get("bank", BANK))))
    shares = _stream(index, "facts").random(2)
    drawn: dict[str, Any] = {"index": index}
    for key, share in zip(("rt60_s", "distance_m"), shares, strict=True):
        lowest, highest = _ends(settings[key], key)
        drawn[key] = round(lowest + float(share) * (highest - lowest), 4)
    return drawn


def apply_room(samples: np.ndarray, rate: int, drawn: Mapping[str, Any] | None) -> np.ndarray:
    """Let (T,) float samples at `rate` sound in a drawn room; gives float32 (T,), the direct path unmoved.

    Raises FileNotFoundError or ValueError for a recorded response that is not there or not usable.
    """
    samples = np.asarray(samples, np.float32)
    if drawn is None:
        return samples
    if "file" in drawn:
        return convolve(samples, _recorded_filter(drawn["file"], rate), 0)
    return convolve(samples, _room_filter(drawn["index"], drawn["rt60_s"], drawn["distance_m"], rate), 0)


def room_of_bank(index: int, rt60_s: float, distance_m: float) -> Room:
    """Give a room of the bank; all but its decay and the talker's distance comes from `index`."""
    rng = _stream(index, "room")
    while True:  # every second try fits
        size = rng.uniform(*SIZES_M)
        spots = rng.uniform(FROM_WALLS_M, size - FROM_WALLS_M)
        microphone = np.array([spots[0], spots[1], rng.uniform(*MICROPHONE_HEIGHT_M)])
        azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7)  # the talker's mouth is above
        flat = np.sqrt(1 - height**2)
        talker = microphone + distance_m * np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), height])
        if np.all(talker > FROM_WALLS_M) and np.all(talker < size - FROM_WALLS_M):
            return Room(size, talker, microphone, rt60_s)


def impulse_response(room: Room, rate: int) -> np.ndarray:
    """Give the response (T,) float32 of a room at `rate`, from the direct path (1.0 at sample 0) on.

    Images are placed to a sample at 64 kHz or more, as far as sound comes until it has decayed by 50 dB.
    """
    direct = float(np.linalg.norm(room.talker - room.microphone))
    reach = direct + SPEED_OF_SOUND * room.rt60_s * HEARD_DB / 60
    decay = DECAY / (SPEED_OF_SOUND * room.rt60_s)
    axes = [
        _images(*place, reach, decay) for place in zip(room.size, room.talker, room.microphone, strict=True)
    ]
    (x_squares, x_gains), (y_squares, y_gains), (z_squares, z_gains) = axes
    squares = np.add.outer(y_squares, z_squares).ravel()
    order = np.argsort(squares)
    squares, gains = squares[order], np.multiply.outer(y_gains, z_gains).ravel()[order]
    counts = np.searchsorted(squares, reach**2 - x_squares)
    distances = np.sqrt(np.concatenate([squares[:n] + x for n, x in zip(counts, x_squares, strict=True)]))
    amplitudes = np.concatenate([gains[:n] * gain for n, gain in zip(counts, x_gains, strict=True)])
    amplitudes *= np.float32(direct) / distances
    steps = max(1, -(-FINE_RATE // rate))
    places = np.rint((distances - np.float32(direct)) * np.float32(steps * rate / SPEED_OF_SOUND)).astype(int)
    amplitudes[np.argmin(distances)] = 0.0  # the direct path, which no filter is to touch
    fine = np.bincount(np.maximum(places, 0), amplitudes, minlength=steps)
    low_pass, high_pass = _sections(rate, steps)
    reflections = scipy.signal.resample_poly(fine, 1, steps, window=low_pass) if steps > 1 else fine
    response = scipy.signal.sosfilt(high_pass, reflections).astype(np.float32)
    response[0] += 1.0
    return response


@lru_cache(maxsize=8)
def recorded_responses(folder: str) -> tuple[str, ...]:
    """Give the audio files below a folder, in the order of their paths; ValueError if there are none."""
    if not Path(folder).is_dir():
        raise ValueError(f"room.folder: there is no folder {folder}")
    files = tuple(str(path) for path in files_below(Path(folder)) if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"room.folder: {folder} holds no audio files")
    return files


def recorded_response(path: str, rate: int) -> np.ndarray:
    """Read a recorded impulse response: (T,) float32 at `rate` from its direct path on, which is 1.0.

    The direct path is the largest sample; what is before it, or more than 2 s after, is left out.  Of
    several channels the first is taken.  Raises ValueError for a file that is silent, longer than 10 s or not
    readable, FileNotFoundError for none.
    """
    info = audio_info(path)
    if info.duration_s > MAX_RECORDED_S:
        raise ValueError(
            f"{path}: lasts {info.duration_s:.1f} s; an impulse response lasts {MAX_RECORDED_S:.0f} s"
        )
    samples, found_rate = read_audio(path, channel=0)
    samples = resample(samples, found_rate, rate)
    peak = int(np.argmax(np.abs(samples))) if len(samples) else 0
    if len(samples) == 0 or samples[peak] == 0.0:
        raise ValueError(f"{path}: is silent, so it is no impulse response")
    return samples[peak : peak + round(KEPT_RECORDED_S * rate)] / samples[peak]


@lru_cache(maxsize=BANK + 56)
def _room_filter(index: int, rt60_s: float, distance_m: float, rate: int) -> BlockFilter:
    return BlockFilter(impulse_response(room_of_bank(index, rt60_s, distance_m), rate))


@lru_cache(maxsize=64)
def _recorded_filter(path: str, rate: int) -> BlockFilter:
    return BlockFilter(recorded_response(path, rate))


def _images(
    size: float, talker: float, microphone: float, reach: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give the squared distances along one axis, and what the walls leave, of images in reach; float32."""
    turns = np.arange(-int(reach / (2 * size)) - 1, int(reach / (2 * size)) + 2)
    places = np.concatenate([2 * turns * size + talker, 2 * turns * size - talker]) - microphone
    reflections = np.concatenate([np.abs(2 * turns), np.abs(2 * turns - 1)])
    within = np.abs(places) <= reach
    gains = np.exp(-decay * size * reflections[within])
    return np.square(places[within]).astype(np.float32), gains.astype(np.float32)


@lru_cache
def _sections(rate: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the low-pass taps before every `steps`-th sample is taken, with gain `steps`, and a high-pass."""
    edge = min(1 / steps, 0.99)  # of half the fine rate
    low_pass = steps * scipy.signal.firwin(20 * steps + 1, edge, window=("kaiser", 5.0))
    return low_pass, scipy.signal.butter(2, LOWEST_HZ, "high", fs=rate, output="sos")


def _stream(index: int, what: str) -> np.random.Generator:
    """Give the random numbers of one room: those of its decay and distance, or those of the rest."""
    return np.random.Generator(np.random.Philox(key=ROOMS_KEY, counter=[0, 0, int(what == "room"), index]))


def _ends(setting: Any, where: str) -> tuple[float, float]:
    """Give the ends of an interval; a number is both of them."""
    if not isinstance(setting, Mapping):
        return float(setting), float(setting)
    if setting.keys() != {"min", "max"}:
        raise ValueError(
            f"{where}: must be a number or {{min, max}}: the bank of rooms is spread evenly over it"
        )
    return float(setting["min"]), float(setting["max"])
