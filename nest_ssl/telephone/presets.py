"""The channels to draw from: a mix of presets, read from conf/telephone.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nest_ssl.config import resolved
from nest_ssl.telephone.codecs import codec

BANDS = ("g712", None)
NOISE_KINDS = ("babble", "music", "coloured")


@dataclass(frozen=True)
class Span:
    """An interval to draw from."""

    min: float
    max: float


@dataclass(frozen=True)
class LevelDraw:
    """A normal distribution in dBov, cut at its ends."""

    mean: float
    deviation: float
    min: float
    max: float


@dataclass(frozen=True)
class NoiseDraw:
    """How often and how loud noise is, and of which kinds (weights)."""

    probability: float
    snr_db: Span
    kinds: Mapping[str, float]
    talkers: Span
    exponent: Span


@dataclass(frozen=True)
class Preset:
    """One kind of telephone channel; the draws give each utterance its own values."""

    name: str
    weight: float
    band: str | None
    legs: tuple[str, ...]
    level_dbov: LevelDraw | None
    noise: NoiseDraw


@dataclass(frozen=True)
class Mix:
    """Presets with their shares."""

    presets: tuple[Preset, ...]

    def draw(self, rng: np.random.Generator) -> Preset:
        """Give one preset, by weight."""
        edges = np.cumsum([preset.weight for preset in self.presets])
        return self.presets[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]

    def only(self, name: str) -> Mix:
        """Give the mix that consists of one preset; ValueError if there is none of that name."""
        chosen = tuple(preset for preset in self.presets if preset.name == name)
        if not chosen:
            known = ", ".join(preset.name for preset in self.presets)
            raise ValueError(f"there is no preset {name!r}; known are {known}")
        return Mix((replace(chosen[0], weight=1.0),))


def mix_from_config(config: DictConfig) -> Mix:
    """Give the mix that a configuration like conf/telephone.yaml describes.

    Raises ValueError naming the key for a missing, unknown or impossible value, an unknown codec included.
    """
    for key in ("channel", "presets"):
        if not isinstance(config.get(key), DictConfig):
            raise ValueError(f"{key}: the configuration of the telephone channel needs this section")
    presets = []
    for name, changes in config.presets.items():
        try:
            common = config.channel.copy()
            OmegaConf.set_struct(common, True)
            merged = resolved(OmegaConf.merge(common, changes or {}), f"presets.{name}")
        except OmegaConfBaseException as error:
            raise ValueError(f"presets.{name}: {str(error).splitlines()[0]}") from error
        presets.append(_preset(str(name), merged))
    if not any(preset.weight > 0 for preset in presets):
        raise ValueError("presets: none has a weight above zero, so there is no channel to draw")
    return Mix(tuple(presets))


def _preset(name: str, values: dict[str, Any]) -> Preset:
    where = f"presets.{name}"
    _keys(values, Preset.__dataclass_fields__.keys() - {"name"}, where)
    if values["band"] not in BANDS:
        raise ValueError(f"{where}.band: must be g712 or null, not {values['band']!r}")
    for leg in values["legs"]:
        try:
            codec(leg)
        except ValueError as error:
            raise ValueError(f"{where}.legs: {error}") from error
    noise = values["noise"]
    _keys(noise, NoiseDraw.__dataclass_fields__.keys(), f"{where}.noise")
    for kind, weight in noise["kinds"].items():
        if kind not in NOISE_KINDS:
            raise ValueError(f"{where}.noise.kinds: {kind!r} is not one of {', '.join(NOISE_KINDS)}")
        _number(weight, f"{where}.noise.kinds.{kind}", 0.0)
    return Preset(
        name=name,
        weight=_number(values["weight"], f"{where}.weight", 0.0),
        band=values["band"],
        legs=tuple(values["legs"]),
        level_dbov=_level(values["level_dbov"], f"{where}.level_dbov"),
        noise=NoiseDraw(
            probability=_number(noise["probability"], f"{where}.noise.probability", 0.0, 1.0),
            snr_db=_span(noise["snr_db"], f"{where}.noise.snr_db"),
            kinds={kind: float(weight) for kind, weight in noise["kinds"].items()},
            talkers=_span(noise["talkers"], f"{where}.noise.talkers", 1.0),
            exponent=_span(noise["exponent"], f"{where}.noise.exponent", 0.0),
        ),
    )


def _level(values: Any, where: str) -> LevelDraw | None:
    if values is None:
        return None
    _keys(values, LevelDraw.__dataclass_fields__.keys(), where)
    span = _span({"min": values["min"], "max": values["max"]}, where, highest=0.0)
    mean = _number(values["mean"], f"{where}.mean")
    return LevelDraw(mean, _number(values["deviation"], f"{where}.deviation", 0.0), span.min, span.max)


def _span(values: Any, where: str, lowest: float = -np.inf, highest: float = np.inf) -> Span:
    _keys(values, Span.__dataclass_fields__.keys(), where)
    low = _number(values["min"], f"{where}.min", lowest, highest)
    high = _number(values["max"], f"{where}.max", lowest, highest)
    if low > high:
        raise ValueError(f"{where}: min {low} lies above max {high}")
    return Span(low, high)


def _keys(values: Any, expected: Iterable[str], where: str) -> None:
    names = set(expected)
    if not isinstance(values, dict):
        raise ValueError(f"{where}: must have the keys {', '.join(sorted(names))}, not the value {values!r}")
    for key in sorted(values.keys() ^ names):
        raise ValueError(f"{where}.{key}: {'is missing' if key in names else 'is not a known key'}")


def _number(value: Any, where: str, lowest: float = -np.inf, highest: float = np.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{where}: must be a number, not {value!r}")
    if not lowest <= value <= highest:
        raise ValueError(f"{where}: must lie within {lowest} and {highest}, not {value}")
    return float(value)
