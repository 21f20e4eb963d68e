"""Under what conditions an utterance was spoken: what the breakdown of scores is made by.

The facts are those of its manifest row: `channel` as nest_ssl.telephone writes it (an object: codec legs with
what was lost on them, noise, room, recorder, preset) or as a plain name, `lang`, `speaker` and the duration.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

NOT_STATED = "not stated"
NONE = "none"
FACTS = ("channel", "lang", "speaker")  # fields of a row that conditions are made of, besides its duration
MAX_VALUES = 200  # of one condition; the smallest groups beyond are one group together

LOSS_PERCENT = ((1.0, "0 to 1 %"), (3.0, "1 to 3 %"), (10.0, "3 to 10 %"), (math.inf, "10 % or more"))
SNR_DB = (
    (0.0, "under 0 dB"), (5.0, "0 to 5 dB"), (10.0, "5 to 10 dB"), (15.0, "10 to 15 dB"),
    (20.0, "15 to 20 dB"), (30.0, "20 to 30 dB"), (math.inf, "30 dB or more"),
)  # fmt: skip
RT60_S = ((0.3, "RT60 under 0.3 s"), (0.6, "RT60 0.3 to 0.6 s"), (math.inf, "RT60 0.6 s or more"))
DURATION_S = (
    (1.0, "0 to 1 s"), (2.0, "1 to 2 s"), (5.0, "2 to 5 s"), (10.0, "5 to 10 s"), (20.0, "10 to 20 s"),
    (math.inf, "20 s or more"),
)  # fmt: skip
BINNED = {
    "loss": [NONE, *(label for _, label in LOSS_PERCENT)],
    "snr": [*(label for _, label in SNR_DB), NONE],
    "room": [NONE, *(label for _, label in RT60_S)],
    "duration": [label for _, label in DURATION_S],
}

# What each condition is, for pages; in their order.
MEANINGS = {
    "codec": "the codecs the call went through, in order",
    "loss": "share of the codec frames that were lost, over all legs; none: no frame",
    "snr": "active speech level over all noises together; none: no noise was added",
    "noise": "kinds of noise",
    "room": "reverberation time of the room",
    "recorder": "codec of the recording device",
    "preset": "preset of the channel simulation",
    "channel": "channel as the manifest names it",
    "lang": "language",
    "speaker": "speaker",
    "duration": "length of the utterance",
}
CONDITIONS = tuple(MEANINGS)


def conditions_of(facts: Mapping[str, Any], duration_s: float | None = None) -> dict[str, str]:
    """Give the value of every condition, NOT_STATED where the facts do not say.

    facts: the fields FACTS of a row.  A channel of a shape that is not known states nothing.
    """
    channel = facts.get("channel")
    found = dict.fromkeys(CONDITIONS, NOT_STATED)
    if isinstance(channel, Mapping):
        found |= {
            "codec": _codec(channel),
            "loss": _loss(channel),
            "snr": _snr(channel),
            "noise": _noise(channel),
            "room": _room(channel),
            "recorder": _recorder(channel),
            "preset": _name(channel.get("preset")),
        }
    else:
        found["channel"] = _name(channel)
    found |= {"lang": _name(facts.get("lang")), "speaker": _name(facts.get("speaker"))}
    if duration_s is not None:
        found["duration"] = _binned(duration_s, DURATION_S)
    return found


def groups(labels: Sequence[str], condition: str) -> dict[str, list[int]]:
    """Give the places of the utterances of each value: bins in their order, names by how many they are.

    The last is NOT_STATED, where there are any; beyond MAX_VALUES the smallest groups become one.
    """
    counts = Counter(labels)
    order = BINNED.get(condition)
    if order is None:
        names = sorted((v for v in counts if v != NOT_STATED), key=lambda v: (-counts[v], v))
        others = names[MAX_VALUES - 1 :] if len(names) > MAX_VALUES else []
        joined = dict.fromkeys(others, f"{len(others)} others")
        order = [*(v for v in names if v not in joined), *([f"{len(others)} others"] if others else [])]
    else:
        joined = {}
        order = [*order, *sorted(set(counts) - {*order, NOT_STATED})]
    found: dict[str, list[int]] = {value: [] for value in [*order, NOT_STATED]}
    for place, label in enumerate(labels):
        found[joined.get(label, label)].append(place)
    return {value: places for value, places in found.items() if places}


def _name(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else NOT_STATED


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _binned(value: float, bins: Sequence[tuple[float, str]]) -> str:
    """Give the label of the bin: each holds what is below its number and not in those before."""
    return bins[min(bisect_right([end for end, _ in bins], value), len(bins) - 1)][1]


def _legs(channel: Mapping[str, Any]) -> list[Any] | None:
    legs = channel.get("legs")
    return legs if isinstance(legs, list) else None


def _codec(channel: Mapping[str, Any]) -> str:
    legs = _legs(channel)
    if legs is None:
        return NOT_STATED
    names = [_name(leg.get("codec") if isinstance(leg, Mapping) else leg) for leg in legs]
    return " > ".join(names) if names else NONE


def _loss(channel: Mapping[str, Any]) -> str:
    """Bin the share of lost frames: as counted in the record, else as its loss was drawn."""
    legs = _legs(channel)
    if legs is None:
        return NOT_STATED
    arrived = 1.0
    for number, leg in enumerate(legs):
        if not isinstance(leg, Mapping) or "loss" not in leg:
            return NOT_STATED  # records of before losses were simulated name codecs only
        lost = _lost_share(channel, number, leg)
        if lost is None:
            return NOT_STATED
        arrived *= 1.0 - lost
    lost_percent = round(100.0 * (1.0 - arrived), 6)  # 10 %, and not a hair less
    return _binned(lost_percent, LOSS_PERCENT) if lost_percent else NONE


def _lost_share(channel: Mapping[str, Any], number: int, leg: Mapping[str, Any]) -> float | None:
    loss = leg["loss"]
    if loss is None:
        return 0.0
    pieces = channel.get("pieces")  # of long recordings, each with counts of its own
    counted = [leg]
    if isinstance(pieces, list):
        counted = [piece["legs"][number] for piece in pieces if len(piece.get("legs", [])) > number]
    frames = [(_number(c.get("frames")), _number(c.get("lost_frames"))) for c in counted]
    total = sum(all_ for all_, lost in frames if all_ is not None and lost is not None)
    if total:
        return sum(lost for all_, lost in frames if all_ is not None and lost is not None) / total
    if not isinstance(loss, Mapping):
        return None
    rates = [r for name in ("rate", "frame_error_rate") if (r := _number(loss.get(name))) is not None]
    enter, leave = _number(loss.get("enter")), _number(loss.get("leave"))
    if enter is not None and leave is not None and enter + leave > 0:
        in_bad = _number(loss.get("lost_in_bad"))
        rates.append(enter / (enter + leave) * (1.0 if in_bad is None else in_bad))
    return 1.0 - math.prod(1.0 - rate for rate in rates) if rates else None


def _noises(channel: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Give the noises where the speaker and where the listener is; None where the record does not say."""
    if "noise" not in channel:
        return None
    found = [channel["noise"], channel.get("far_noise")]
    return [noise for noise in found if isinstance(noise, Mapping)]


def _snr(channel: Mapping[str, Any]) -> str:
    noises = _noises(channel)
    if noises is None:
        return NOT_STATED
    ratios = [ratio for noise in noises if (ratio := _number(noise.get("snr_db"))) is not None]
    if len(ratios) < len(noises):
        return NOT_STATED
    if not ratios:
        return NONE
    # powers of noise relative to the speech add up
    return _binned(-10.0 * math.log10(sum(10.0 ** (-ratio / 10.0) for ratio in ratios)), SNR_DB)


def _noise(channel: Mapping[str, Any]) -> str:
    noises = _noises(channel)
    if noises is None:
        return NOT_STATED
    return " + ".join(sorted({_name(noise.get("kind")) for noise in noises})) or NONE


def _room(channel: Mapping[str, Any]) -> str:
    if "room" not in channel:
        return NOT_STATED
    room = channel["room"]
    if room is None:
        return NONE
    reverberation = _number(room.get("rt60_s")) if isinstance(room, Mapping) else None
    return "recorded response" if reverberation is None else _binned(reverberation, RT60_S)


def _recorder(channel: Mapping[str, Any]) -> str:
    if "recorder" not in channel:
        return NOT_STATED
    recorder = channel["recorder"]
    return (
        NONE
        if recorder is None
        else _name(recorder.get("codec") if isinstance(recorder, Mapping) else recorder)
    )
