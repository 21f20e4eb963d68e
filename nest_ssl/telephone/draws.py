"""Values that are drawn: how a setting of the YAML says so, how it is checked, how it is drawn.

A setting is one of
    -26.0                                                the value itself (also true, a word, null)
    {min: 8, max: 35}                                    uniform between the two
    {mean: -26, deviation: 4, min: -38, max: -16}        normal, cut at both ends
    {12.2: 0.45, 4.75: 0.55}                             one of these values, with these weights (sum 1)
Numbers are drawn to 4 decimals unless asked otherwise: what is written down is what is used.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

WEIGHTS_SUM_TO_1_WITHIN = 1e-4
INTERVAL = frozenset({"min", "max"})
NORMAL = frozenset({"mean", "deviation", "min", "max"})


def draw(rng: np.random.Generator, setting: Any, decimals: int = 4) -> Any:
    """Give a value of a checked setting, of JSON types; a number drawn from an interval is a float."""
    if not isinstance(setting, Mapping):
        return setting
    if setting.keys() == INTERVAL:
        low = setting["min"]
        return round(float(low + (setting["max"] - low) * rng.random()), decimals)  # faster than rng.uniform
    if setting.keys() == NORMAL:
        value = rng.normal(setting["mean"], setting["deviation"])
        return round(float(min(max(value, setting["min"]), setting["max"])), decimals)
    return weighted(rng, setting)


def weighted(rng: np.random.Generator, weights: Mapping[Any, float]) -> Any:
    """Give one of the keys, by weight; the weights need no sum of 1, but one must be above zero."""
    point = rng.random() * sum(weights.values())
    chosen = None
    for value, weight in weights.items():
        if weight > 0:
            chosen = value
            point -= weight
            if point < 0:
                break
    return chosen


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Give True with the given probability; takes one number from the stream whatever it is."""
    return bool(rng.random() < probability)


def is_choice(setting: Any) -> bool:
    """True for a weighted choice: a mapping that is neither an interval nor a normal distribution."""
    return isinstance(setting, Mapping) and setting.keys() not in (INTERVAL, NORMAL)


def largest(setting: Any) -> float:
    """Give the largest number that a checked numeric setting can draw."""
    if is_choice(setting):
        return max(float(value) for value, weight in setting.items() if weight > 0)
    return float(setting["max"] if isinstance(setting, Mapping) else setting)


def check_draw(
    setting: Any,
    where: str,
    lowest: float = -np.inf,
    highest: float = np.inf,
    allowed: Collection[Any] | None = None,
) -> None:
    """Raise ValueError naming `where` unless every value of the setting is allowed.

    With `allowed`, values are among these; without, they are numbers from `lowest` to `highest`.
    """

    def check_value(value: Any, name: str) -> None:
        if allowed is None:
            check_number(value, name, lowest, highest)
        elif not any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in allowed):
            known = ", ".join(str(item) for item in allowed)
            raise ValueError(f"{name}: must be one of {known}, not {value!r}")

    if not isinstance(setting, Mapping):
        check_value(setting, where)
    elif not is_choice(setting):
        for key in setting:
            check_number(
                setting[key], f"{where}.{key}", *((0.0,) if key == "deviation" else (lowest, highest))
            )
        if setting["min"] > setting["max"]:
            raise ValueError(f"{where}: min {setting['min']} lies above max {setting['max']}")
        if allowed is not None:
            raise ValueError(f"{where}: takes one value or weights of values, not an interval")
    else:
        if any(str(key) in NORMAL for key in setting):
            raise ValueError(
                f"{where}: an interval needs the keys min and max (a normal distribution mean and deviation "
                f"as well), not {', '.join(str(key) for key in setting) or 'none'}"
            )
        for value in setting:
            check_value(value, where)
        check_weights(setting, where)


def check_weights(weights: Any, where: str) -> None:
    """Raise ValueError naming `where` unless it maps something to weights of 0 or more with the sum 1."""
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(f"{where}: must give weights, such as {{first: 0.7, second: 0.3}}, not {weights!r}")
    for value, weight in weights.items():
        check_number(weight, f"{where}.{value}", 0.0)
    total = sum(weights.values())
    if abs(total - 1) > WEIGHTS_SUM_TO_1_WITHIN:
        raise ValueError(f"{where}: the weights sum to {total:.6g}, which must be 1")


def check_number(value: Any, where: str, lowest: float = -np.inf, highest: float = np.inf) -> float:
    """Give a number as a float; raise ValueError naming `where` for anything else or one out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{where}: must be a number, not {value!r}")
    if not lowest <= value <= highest:
        raise ValueError(f"{where}: must lie within {lowest:g} and {highest:g}, not {value}")
    return float(value)


def check_probability(value: Any, where: str) -> float:
    """Give a probability as a float; raise ValueError naming `where` for anything else."""
    return check_number(value, where, 0.0, 1.0)


def check_keys(values: Any, required: Iterable[str], where: str, optional: Iterable[str] = ()) -> None:
    """Raise ValueError naming `where` unless it is a mapping with the required keys and no unknown one."""
    required = tuple(required)
    known = (*required, *optional)
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: must have the keys {', '.join(sorted(known))}, not the value {values!r}")
    for key in values:
        if key not in known:
            raise ValueError(f"{where}.{key}: is not a known key{nearest(key, known)}")
    for key in required:
        if key not in values:
            raise ValueError(f"{where}.{key}: is missing")


def nearest(word: Any, known: Iterable[Any]) -> str:
    """Give `; did you mean X?` for a word near one of the known, else the known ones."""
    names = [str(name) for name in known]
    found = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else f"; known are {', '.join(names) or 'none'}"
