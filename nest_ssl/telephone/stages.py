"""The stages of a channel by name: how the settings of each are checked and its parameters drawn.

A stage's settings are its section of conf/telephone.yaml; null turns it off.  What is drawn is None where the
stage does not happen, else of JSON types.  The samples are changed by `chain`, which knows their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.telephone import line
from nest_ssl.telephone.draws import check_draw, check_keys, check_probability, draw, happens
from nest_ssl.telephone.filters import (
    check_high_pass,
    check_receive,
    check_weighting,
    draw_high_pass,
    draw_receive,
    draw_weighting,
)
from nest_ssl.telephone.room import check_room, draw_room


class Stage(NamedTuple):
    """`check(settings, where)` raises ValueError naming the key; `draw(rng, settings)` gives what happens."""

    check: Callable[[Any, str], None]
    draw: Callable[[np.random.Generator, Any], Any]


def check_level(settings: Any, where: str) -> None:
    """Levels in dBov, at most 0."""
    check_draw(settings, where, highest=0.0)


def check_g712(settings: Any, where: str) -> None:
    """The share of the calls that pass the channel filter of ITU-T G.712."""
    check_keys(settings, ("probability",), where)
    check_probability(settings["probability"], f"{where}.probability")


def draw_g712(rng: np.random.Generator, settings: Any) -> bool | None:
    """Give True or None."""
    return happens(rng, settings["probability"]) or None


def check_law(settings: Any, where: str) -> None:
    """The companding law of the network, which a leg with the codec g711 takes."""
    check_draw(settings, where, allowed=("a", "u"))


STAGES: dict[str, Stage] = {
    "room": Stage(check_room, draw_room),
    "law": Stage(check_law, draw),
    "agc": Stage(line.check_agc, line.draw_agc),
    "weighting": Stage(check_weighting, draw_weighting),
    "high_pass": Stage(check_high_pass, draw_high_pass),
    "g712": Stage(check_g712, draw_g712),
    "level_dbov": Stage(check_level, draw),
    "hum": Stage(line.check_hum, line.draw_hum),
    "dc": Stage(line.check_dc, line.draw_dc),
    "line_noise": Stage(line.check_line_noise, line.draw_line_noise),
    "echo": Stage(line.check_echo, line.draw_echo),
    "clip": Stage(line.check_clip, line.draw_clip),
    "drift": Stage(line.check_drift, line.draw_drift),
    "receive": Stage(check_receive, draw_receive),
}
# What the line adds to speech at its level, in this order.
LINE: dict[str, Callable[[np.ndarray, int, Any], np.ndarray]] = {
    "hum": line.apply_hum,
    "dc": line.apply_dc,
    "line_noise": line.apply_line_noise,
    "echo": line.apply_echo,
    "clip": line.apply_clip,
    "drift": line.apply_drift,
}
NOISE_STAGES = ("noise", "far_noise")  # drawn and rendered by a NoiseBank, which has the recordings
