"""The channels to draw from: presets and their mixes, read from conf/telephone.yaml.

The settings of a preset are those of `channel`, changed by the preset's own, changed by the mix's (`channel`
within a mix, which turns on no stage that the preset has turned off).  Everything is checked once, when it
is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from nest_ssl.config import load_config, resolved
from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.draws import INTERVAL, NORMAL, check_keys, check_weights, nearest, weighted
from nest_ssl.telephone.filters import RATE as G712_RATE
from nest_ssl.telephone.legs import Leg, read_leg
from nest_ssl.telephone.noise import check_noise
from nest_ssl.telephone.stages import NOISE_STAGES, STAGES

CONFIG = Path(__file__).resolve().parents[2] / "conf" / "telephone.yaml"
SECTIONS = ("channel", "presets", "mixes")
# Settings that are not drawn by a stage of their own; loss is what the `loss` of legs starts from.
OTHERS = ("loss", "legs", "recorder")
WORD_WEIGHTS = ("law", "kinds", "send", "shape")  # keys whose mapping gives weights of words, not settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preset:
    """One kind of telephone channel; the draws give each utterance its own values.

    `stages`: settings of every stage that may happen; `noises`: those of noise and far_noise; `settings`: all
    of it, as in the YAML.
    """

    name: str
    weight: float
    stages: Mapping[str, Any]
    noises: Mapping[str, Any]
    legs: tuple[Leg, ...]
    recorder: Leg | None
    settings: Mapping[str, Any] = field(repr=False)

    def missing(self) -> list[str]:
        """Give a line for every codec the preset may draw whose library is not here, with what to install."""
        legs = [*self.legs, *([self.recorder] if self.recorder else [])]
        return list(dict.fromkeys(line for leg in legs for line in leg.missing()))


@dataclass(frozen=True)
class Mix:
    """Presets with their shares; `others` are those of the configuration that the mix leaves out.

    Example:
        mix = Mix.load("china")
        received, record = mix(samples, sr=16000, key="utterance 7", seed=17)
    """

    name: str
    presets: tuple[Preset, ...]
    others: tuple[Preset, ...] = ()

    @classmethod
    def load(
        cls, name: str = "default", config: str | Path | None = None, overrides: Iterable[str] = ()
    ) -> Mix:
        """Read a mix of `config` (conf/telephone.yaml); `overrides` are KEY=VALUE words.

        Raises ValueError naming the key for a missing, unknown or impossible value.
        """
        return mix_from_config(load_config(config or CONFIG, list(overrides)), name)

    def draw(self, rng: np.random.Generator) -> Preset:
        """Give one preset, by weight; their order in the file decides nothing."""
        in_order = sorted(self.presets, key=lambda preset: preset.name)
        return in_order[weighted(rng, {i: preset.weight for i, preset in enumerate(in_order)})]

    def only(self, name: str) -> Mix:
        """Give the mix of one preset of the configuration; ValueError if there is none of that name."""
        known = (*self.presets, *self.others)
        for preset in known:
            if preset.name == name:
                others = tuple(other for other in known if other is not preset)
                return replace(self, presets=(replace(preset, weight=1.0),), others=others)
        raise ValueError(f"there is no preset {name!r}{nearest(name, [preset.name for preset in known])}")

    def check(self) -> None:
        """Raise CodecMissing with every library the mix may need that is absent, and how to install each."""
        missing = {preset.name: preset.missing() for preset in self.presets}
        lines: dict[str, list[str]] = {}
        for name, found in missing.items():
            for line in found:
                lines.setdefault(line, []).append(name)
        if lines:
            listed = "; ".join(f"{line} (for {', '.join(names)})" for line, names in lines.items())
            raise CodecMissing(f"the mix {self.name} needs what is not here: {listed}")

    def without_missing(self) -> Mix:
        """Give the mix less the presets whose codecs are not here, which it names in the log.

        The weights of the rest are scaled to a sum of 1.  Raises CodecMissing if none is left.
        """
        missing = {preset.name: preset.missing() for preset in self.presets}
        kept = tuple(preset for preset in self.presets if not missing[preset.name])
        if not kept:
            self.check()
        for name, lines in missing.items():
            if lines:
                log.warning("mix %s preset %s left out: %s", self.name, name, "; ".join(lines))
        total = sum(preset.weight for preset in kept)
        return replace(self, presets=tuple(replace(preset, weight=preset.weight / total) for preset in kept))

    def noise_kinds(self) -> set[str]:
        """Give the kinds of noise that the mix may draw, which need their recordings."""
        return {
            kind
            for preset in self.presets
            for settings in preset.noises.values()
            for kind, weight in settings["kinds"].items()
            if settings["probability"] > 0 and weight > 0
        }

    def codecs(self) -> set[str]:
        """Give the codecs that the mix may draw."""
        legs = [leg for preset in self.presets for leg in (*preset.legs, preset.recorder) if leg is not None]
        return {name for leg in legs for name in leg.codecs()}

    def settings(self) -> dict[str, Any]:
        """Give everything that the draws depend on, of JSON types."""
        return {
            "mix": self.name,
            "presets": {
                preset.name: {"weight": preset.weight, **_json(preset.settings)} for preset in self.presets
            },
        }

    def __call__(self, samples: np.ndarray, **arguments: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Send (T,) samples through a channel of the mix; arguments and result are those of `api.Channel`."""
        from nest_ssl.telephone.api import Channel

        return Channel(self)(samples, **arguments)


def mix_from_config(config: DictConfig, name: str = "default") -> Mix:
    """Give a mix of a configuration like conf/telephone.yaml.

    Raises ValueError naming the key for a missing, unknown or impossible value, an unknown codec included.
    """
    values = {section: _section(config, section) for section in SECTIONS}
    check_keys(config, SECTIONS, "the configuration of the telephone channel")
    mixes = values["mixes"]
    if name not in mixes:
        raise ValueError(f"mixes: there is no mix {name!r}{nearest(name, mixes)}")
    weights = dict(mixes[name]) if isinstance(mixes[name], Mapping) else mixes[name]
    changes = weights.pop("channel", None) if isinstance(weights, dict) else None
    check_weights(weights, f"mixes.{name}")
    for preset in weights:
        if preset not in values["presets"]:
            raise ValueError(
                f"mixes.{name}.{preset}: there is no such preset{nearest(preset, values['presets'])}"
            )
    presets: list[Preset] = []
    others: list[Preset] = []
    for preset_name, own in values["presets"].items():
        where = f"presets.{preset_name}"
        merged = merged_settings(values["channel"], own or {}, where, "channel")
        if changes:
            on = {key: value for key, value in changes.items() if merged.get(key, 0) is not None}
            merged = merged_settings(merged, on, f"mixes.{name}.channel", where)
        preset = read_preset(str(preset_name), merged, float(weights.get(preset_name, 0.0)))
        (presets if preset.weight > 0 else others).append(preset)
    return Mix(name, tuple(presets), tuple(others))


def read_preset(name: str, settings: Mapping[str, Any], weight: float = 1.0) -> Preset:
    """Check the settings of a preset and give it; ValueError naming the key."""
    where = f"presets.{name}"
    check_keys(settings, (*STAGES, *NOISE_STAGES, *OTHERS), where)
    stages, noises = {}, {}
    for stage, check in ((stage, STAGES[stage].check) for stage in STAGES):
        if settings[stage] is not None:
            check(settings[stage], f"{where}.{stage}")
            stages[stage] = settings[stage]
    for stage in NOISE_STAGES:
        if settings[stage] is not None:
            check_noise(settings[stage], f"{where}.{stage}")
            noises[stage] = settings[stage]
    legs = settings["legs"]
    if not isinstance(legs, list):
        raise ValueError(f"{where}.legs: must be a list such as [{{codec: g711a}}], not {legs!r}")
    recorder = settings["recorder"]
    read = tuple(read_leg(leg, f"{where}.legs.{i}", settings["loss"] or {}) for i, leg in enumerate(legs))
    if read and stages.get("g712", {}).get("probability", 0) > 0:
        for coder in sorted(read[0].codecs()):
            rate = codec(coder).sample_rate
            if rate != G712_RATE:
                raise ValueError(
                    f"{where}.g712: filters at {G712_RATE} Hz, but the first codec, {coder}, works at {rate} "
                    f"Hz; set g712 to null"
                )
    return Preset(
        name=name,
        weight=weight,
        stages=stages,
        noises=noises,
        legs=read,
        recorder=read_leg(recorder, f"{where}.recorder", None) if recorder else None,
        settings=settings,
    )


def merged_settings(base: Mapping[str, Any], changes: Any, where: str, origin: str) -> dict[str, Any]:
    """Give `base` with `changes` to it; what is drawn by weight, and every list, is replaced as a whole.

    `where` and `origin` name both in the ValueError for a key that `base` has not.
    """
    if not isinstance(changes, Mapping):
        raise ValueError(f"{where}: must change keys of {origin}, not be {changes!r}")
    result = dict(base)
    for key, value in changes.items():
        if key not in base:
            raise ValueError(f"{where}.{key}: is not a key of {origin}{nearest(key, base)}")
        before = base[key]
        if _is_section(key, before) and _is_section(key, value):
            result[key] = merged_settings(before, value, f"{where}.{key}", f"{origin}.{key}")
        else:
            result[key] = value
    return result


def _is_section(key: Any, value: Any) -> bool:
    """True for a mapping of settings; False for one that is itself a value to draw, and for plain values."""
    return (
        isinstance(value, Mapping)
        and key not in WORD_WEIGHTS
        and value.keys() not in (INTERVAL, NORMAL)
        and all(isinstance(name, str) for name in value)
    )


def _section(config: DictConfig, name: str) -> Any:
    section = config.get(name)
    if not isinstance(section, DictConfig):
        raise ValueError(f"{name}: the configuration of the telephone channel needs this section")
    return _in_order(resolved(section, name), name)


def _in_order(value: Any, key: Any) -> Any:
    """Sort weights by what they weigh, so that the order in the file decides nothing."""
    if isinstance(value, dict):
        names: Iterable[Any] = value
        if key in WORD_WEIGHTS or any(not isinstance(name, str) for name in value):
            names = sorted(value, key=lambda name: (str(type(name)), name))
        return {name: _in_order(value[name], name) for name in names}
    return [_in_order(item, None) for item in value] if isinstance(value, list) else value


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value
