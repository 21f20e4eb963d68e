"""Which codec frames do not arrive: lost and late packets, radio frame errors, recorded traces.

What is drawn decides everything: `lost_frames` gives the same frames again from the same dictionary.

*Packets* are lost by the two-state model of Gilbert and Elliott (Elliott, 1963, Bell System Technical
Journal 42:1977): the line enters its bad state with probability `enter` per packet, leaves it with `leave`,
and loses a share `lost_in_bad` of the packets while in it.  The share of the time in the bad state is
enter / (enter + leave); a stay lasts 1 / leave packets in the mean.  `rate` makes the losses independent,
the case enter + leave = 1.  A `trace` file takes the place of both.

*Late* packets are lost too.  Their delay above the shortest is the waiting time in a queue which the packets
reach at regular intervals T and which takes an exponential time for each (D/M/1; Kleinrock, Queueing Systems,
volume 1, 1975, section 6.4: G/M/1), so that delays rise and drain over several packets, as they do on real
links.  Of a mean delay m, a share exp(-a (T + b)) is later than a fixed jitter buffer of b allows, where
a T exp(a T) = T / m.

*Radio* frames fail one by one whatever the packets do: independently, as with frequency hopping, or in fades
of the mean length `fade_ms`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from nest_ssl.telephone.draws import check_draw, check_keys, check_probability, draw, happens

DECIMALS = 6  # of what is drawn: rates are small
SHORTEST_PACKET_MS, LONGEST_PACKET_MS = 10.0, 200.0
MAX_FRAME_ERROR_RATE = 0.5
NUMBERS = {  # key -> lowest, highest value; null leaves the cause out
    "packet_ms": (SHORTEST_PACKET_MS, LONGEST_PACKET_MS),
    "enter": (0.0, 1.0),
    "leave": (1e-4, 1.0),
    "rate": (0.0, 1.0),
    "lost_in_bad": (0.0, 1.0),
    "frame_error_rate": (0.0, MAX_FRAME_ERROR_RATE),
    "fade_ms": (1.0, 10000.0),
}
JITTER_NUMBERS = {"mean_ms": (0.01, 10000.0), "buffer_ms": (0.0, 10000.0)}
STREAMS = ("enter", "rate", "trace", "jitter", "frame_error_rate")  # in this order: it decides the numbers
DEFAULTS = {"packet_ms": 20.0, "lost_in_bad": 1.0}


def check_loss(settings: Any, where: str) -> None:
    """Raise ValueError that names the key unless `settings` can be drawn from.

    `probability` (of any loss at all) is needed; `packet_ms`, `enter` and `leave`, `lost_in_bad`, `rate`,
    `jitter` {probability, mean_ms, buffer_ms}, `frame_error_rate`, `fade_ms`, `trace` (a file) and `zeros`
    (the share of receivers that play zeros for what is lost) may be absent or null.  Raises
    FileNotFoundError for a trace that is not there.
    """
    check_keys(settings, ("probability",), where, (*NUMBERS, "jitter", "trace", "zeros"))
    check_probability(settings["probability"], f"{where}.probability")
    for key, (lowest, highest) in NUMBERS.items():
        if settings.get(key) is not None:
            check_draw(settings[key], f"{where}.{key}", lowest, highest)
    if settings.get("zeros") is not None:
        check_probability(settings["zeros"], f"{where}.zeros")
    for key, other in (("enter", "leave"), ("leave", "enter")):
        if settings.get(key) is not None and settings.get(other) is None:
            raise ValueError(f"{where}.{other}: is missing, although {where}.{key} is set; losses need both")
    if settings.get("fade_ms") is not None and settings.get("frame_error_rate") is None:
        raise ValueError(f"{where}.frame_error_rate: is missing, although {where}.fade_ms is set")
    jitter = settings.get("jitter")
    if jitter is not None:
        check_keys(jitter, ("probability", *JITTER_NUMBERS), f"{where}.jitter")
        check_probability(jitter["probability"], f"{where}.jitter.probability")
        for key, (lowest, highest) in JITTER_NUMBERS.items():
            check_draw(jitter[key], f"{where}.jitter.{key}", lowest, highest)
    trace = settings.get("trace")
    if trace is not None:
        if not isinstance(trace, str):
            raise ValueError(f"{where}.trace: must be the path of a file, not {trace!r}")
        read_trace(trace)  # refuses what is not a trace
    causes = ("enter", "rate", "jitter", "frame_error_rate", "trace")
    if settings["probability"] > 0 and all(settings.get(cause) is None for cause in causes):
        raise ValueError(
            f"{where}.probability: is {settings['probability']}, but nothing is lost without one of "
            f"{', '.join(causes)}; set one or a probability of 0"
        )


def draw_loss(rng: np.random.Generator, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Draw how frames are lost on one leg; None if none is.

    Gives a dictionary of JSON types for `lost_frames`, and with it "concealment": "codec" or "zeros".  A
    trace goes before `rate`, and `rate` before `enter` and `leave`, so that a preset may set one over the
    defaults.
    """
    if not happens(rng, settings["probability"]):
        return None
    values = DEFAULTS | {key: value for key, value in settings.items() if value is not None}
    drawn: dict[str, Any] = {
        "seed": int(rng.integers(2**32)),
        "concealment": "zeros" if happens(rng, values.get("zeros", 0.0)) else "codec",
    }

    def take(*keys: str) -> None:
        drawn.update((key, draw(rng, values[key], DECIMALS)) for key in keys)

    take("packet_ms")
    if "trace" in values:
        packets, digest = read_trace(values["trace"])
        drawn["trace"] = {"file": values["trace"], "sha256": digest, "start": int(rng.integers(len(packets)))}
    elif "rate" in values:
        take("rate")
    elif "enter" in values:
        take("enter", "leave", "lost_in_bad")
    jitter = values.get("jitter")
    if jitter and happens(rng, jitter["probability"]):
        drawn["jitter"] = {key: draw(rng, jitter[key], DECIMALS) for key in JITTER_NUMBERS}
    if "frame_error_rate" in values:
        take("frame_error_rate", *(("fade_ms",) if "fade_ms" in values else ()))
    return drawn


def lost_frames(
    drawn: Mapping[str, Any] | None, num_frames: int, frame_s: float, segment: int = 0
) -> np.ndarray:
    """Give bool (num_frames,), True for the codec frames of `frame_s` seconds that do not arrive.

    A packet holds as many whole frames as its length takes, and at least one; all are lost with it.  Segments
    of one recording have losses of their own.  Raises ValueError if a trace file is not what was drawn from.
    """
    if drawn is None:
        return np.zeros(num_frames, bool)
    frames_per_packet = max(1, int(drawn["packet_ms"] / (1000 * frame_s) + 1e-6))
    num_packets = -(-num_frames // frames_per_packet)

    def stream(cause: str) -> np.random.Generator:  # one each, so that no cause shifts what another loses
        counter = [0, 0, segment, STREAMS.index(cause)]
        return np.random.Generator(np.random.Philox(key=drawn["seed"], counter=counter))

    if "trace" in drawn:
        lost = _from_trace(stream("trace"), drawn["trace"], num_packets, segment)
    elif "rate" in drawn:
        lost = stream("rate").random(num_packets) < drawn["rate"]
    elif "enter" in drawn:
        rng = stream("enter")
        lost = bad_state(rng, drawn["enter"], drawn["leave"], num_packets)
        if drawn["lost_in_bad"] < 1.0:
            lost &= rng.random(num_packets) < drawn["lost_in_bad"]
    else:
        lost = np.zeros(num_packets, bool)
    if "jitter" in drawn:
        packet_ms = 1000 * frame_s * frames_per_packet
        delay_ms = queue_delay_ms(stream("jitter"), packet_ms, drawn["jitter"]["mean_ms"], num_packets)
        lost |= delay_ms > drawn["jitter"]["buffer_ms"]
    frames = np.repeat(lost, frames_per_packet)[:num_frames]
    if drawn.get("frame_error_rate", 0.0) > 0:
        rate = drawn["frame_error_rate"]
        # never shorter than by chance, which is also the case without fades
        leave = min(1000 * frame_s / drawn["fade_ms"], 1 - rate) if "fade_ms" in drawn else 1 - rate
        frames |= bad_state(stream("frame_error_rate"), rate * leave / (1 - rate), leave, num_frames)
    return frames


def bad_state(rng: np.random.Generator, enter: float, leave: float, count: int) -> np.ndarray:
    """Give bool (count,), True while a two-state chain is in its bad state; it starts in equilibrium.

    The stay in either state is geometric, so that whole stays are drawn instead of single steps.
    """
    if enter == 0.0 or count == 0:
        return np.zeros(count, bool)
    bad_first = rng.random() < enter / (enter + leave)
    stays, steps = [], 0
    while steps < count:
        pairs = int(1.1 * (count - steps) / (1 / enter + 1 / leave)) + 8
        pair = np.stack([rng.geometric(enter, pairs), rng.geometric(leave, pairs)], axis=1)
        if bad_first:
            pair = pair[:, ::-1]
        pair = np.minimum(pair, count)  # a stay far beyond the end costs no memory
        stays.append(pair.ravel())
        steps += int(pair.sum())
    lengths = np.concatenate(stays)
    is_bad = np.arange(len(lengths)) % 2 == (0 if bad_first else 1)
    kept = int(np.searchsorted(np.cumsum(lengths), count)) + 1
    return np.repeat(is_bad[:kept], lengths[:kept])[:count]


def queue_delay_ms(rng: np.random.Generator, packet_ms: float, mean_ms: float, count: int) -> np.ndarray:
    """Give float (count,), the waits in ms of packets in a D/M/1 queue in equilibrium, `mean_ms` in the mean.

    A wait is the one before plus the service time less packet_ms, but not below zero: a random walk held up
    by its own running minimum.
    """
    decay = _decay(packet_ms, mean_ms)  # of the distribution of waits above zero, per ms
    waits_at_all = exp(-decay * packet_ms)
    service_ms = rng.exponential((1 - waits_at_all) / decay, count)
    first_ms = rng.exponential(1 / decay) if rng.random() < waits_at_all else 0.0
    walk = np.insert(np.cumsum(service_ms - packet_ms), 0, 0.0)[:count]
    return walk + np.maximum(first_ms, -np.minimum.accumulate(walk))


def late_share(packet_ms: float, mean_ms: float, buffer_ms: float) -> float:
    """Give the share of packets that wait longer than the buffer allows."""
    return exp(-_decay(packet_ms, mean_ms) * (packet_ms + buffer_ms))


def _decay(packet_ms: float, mean_ms: float) -> float:
    return float(scipy.special.lambertw(packet_ms / mean_ms).real) / packet_ms


def read_trace(file: str) -> tuple[np.ndarray, str]:
    """Read a trace: one 0 (arrived) or 1 (lost) per packet, spaces and lines as liked, # begins a comment.

    Gives bool (packets,) and the start of the SHA-256 of the file.  Raises FileNotFoundError, or ValueError
    naming the line for another character, and for a trace without packets or with none that arrives.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{file}: the packet loss trace does not exist")
    stat = path.stat()
    return _read_trace(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read_trace(file: str, _changed_ns: int, _size: int) -> tuple[np.ndarray, str]:
    content = Path(file).read_bytes()
    packets: list[bool] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        marks = "".join(line.split("#")[0].split())
        if wrong := marks.strip("01"):
            raise ValueError(
                f"{file}:{number}: {wrong[0]!r} in a packet loss trace, which holds 0 (arrived) and 1 (lost)"
            )
        packets.extend(mark == "1" for mark in marks)
    if not packets:
        raise ValueError(f"{file}: the packet loss trace is empty; it needs a 0 or 1 per packet")
    if all(packets):
        raise ValueError(f"{file}: all {len(packets)} packets of the trace are lost (1); 0 means arrived")
    return np.array(packets), hashlib.sha256(content).hexdigest()[:16]


def _from_trace(
    rng: np.random.Generator, drawn: Mapping[str, Any], num_packets: int, segment: int
) -> np.ndarray:
    packets, digest = read_trace(drawn["file"])
    if digest != drawn["sha256"]:
        raise ValueError(
            f"{drawn['file']}: has changed since it was drawn from (SHA-256 {digest}, then {drawn['sha256']})"
        )
    start = drawn["start"] if segment == 0 else int(rng.integers(len(packets)))
    return packets[(start + np.arange(num_packets)) % len(packets)]
