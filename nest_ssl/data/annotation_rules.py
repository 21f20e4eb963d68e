"""The rules that find annotation errors, in the order in which they are counted, and their limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from nest_ssl.config import suggestion
from nest_ssl.text.transcript_faults import MARKUP, SILENCE_WORDS

SCRIPTS = ("han", "kana", "hangul", "latin")

# A row with several faults is counted under the first one.  Limits: characters are Chinese, Japanese and
# Korean ones and digits, one syllable each; letters are those of any alphabet.  Mandarin on the telephone
# runs at 4 to 6 syllables a second, a hurried agent at 9; English at 13 to 23 letters a second.
DEFAULTS: dict[str, dict[str, Any]] = {
    "audio_unreadable": {"enabled": True},
    "audio_shorter_than_segment": {"enabled": True, "tolerance_s": 0.05},
    "empty_text": {"enabled": True},
    "bad_encoding": {"enabled": True, "allow": []},
    "speech_labelled_as_silence": {
        "enabled": True,
        "words": sorted(SILENCE_WORDS),
        "min_active_s": 0.8,
        "min_level_dbov": -45.0,
        "min_dynamics_db": 10.0,
    },
    "markup_left": {"enabled": True, "ignore": [], "allow": []},
    "duplicate": {"enabled": True, "same": ["id", "segment", "audio"]},
    "silence_labelled_as_speech": {
        "enabled": True,
        "max_level_dbov": -55.0,
        "max_active_s": 0.1,
        "max_dynamics_db": 3.0,
    },
    "impossible_rate": {
        "enabled": True,
        "characters_per_s": {"min": 0.2, "max": 12.0},
        "letters_per_s": {"min": 0.6, "max": 30.0},
        "characters_per_active_s": {"min": 0.4, "max": 15.0},
        "letters_per_active_s": {"min": 1.2, "max": 38.0},
        "grace_s": 1.0,
    },
    "text_duration_outlier": {
        "enabled": True,
        "max_z": 5.0,
        "min_rows": 50,
        "group_by": ["subset", "language"],
    },
    "digits": {"enabled": False},
    "foreign_script": {"enabled": False, "scripts": ["han", "latin"], "max_share": 0.0},
}
RULES = tuple(DEFAULTS)
DUPLICATE_KINDS = ("id", "segment", "audio")
ANY_NUMBER = {"min_level_dbov", "max_level_dbov"}  # the other numbers are not negative
CHOICES = {"ignore": tuple(MARKUP), "same": DUPLICATE_KINDS, "scripts": SCRIPTS}


@dataclass(frozen=True)
class AnnotationRules:
    """Which rules are on, and their limits, as in DEFAULTS: `settings[rule]["enabled"]`."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: deepcopy(DEFAULTS))

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None, name: str = "annotation") -> AnnotationRules:
        """Build from {rule: {enabled: bool, limit...} | true | false}; absent keys keep their default.

        Raises ValueError naming the key (annotation.impossible_rate.grace_s), the value and what is allowed.
        """
        settings = deepcopy(DEFAULTS)
        for rule, given in _mapping(section or {}, name).items():
            if rule not in settings:
                raise ValueError(f"{name}.{rule}: there is no such rule; {suggestion(str(rule), settings)}")
            if isinstance(given, bool):
                settings[rule]["enabled"] = given
                continue
            for key, value in _mapping(given, f"{name}.{rule}", "true, false or limits").items():
                where = f"{name}.{rule}.{key}"
                if key not in settings[rule]:
                    raise ValueError(f"{where}: there is no such key; {suggestion(str(key), settings[rule])}")
                settings[rule][key] = _checked(key, value, settings[rule][key], where)
        return cls(settings)

    def enabled(self, rule: str) -> bool:
        """True if a rule is applied."""
        return bool(self.settings[rule]["enabled"])

    def of(self, rule: str) -> Mapping[str, Any]:
        """Give the limits of a rule."""
        return self.settings[rule]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Give every rule with every limit, for a report."""
        return deepcopy({rule: dict(limits) for rule, limits in self.settings.items()})


def _checked(key: str, value: Any, default: Any, where: str) -> Any:
    """Give `value` if it is of the kind that `default` is; ValueError naming `where`."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{where} is true or false, not {value!r}")
        return value
    if isinstance(default, list):
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ValueError(f"{where} is a list, not {value!r}")
        for entry in value:
            if not isinstance(entry, str) or entry not in CHOICES.get(key, (entry,)):
                raise ValueError(
                    f"{where}: {entry!r} is not one of {', '.join(CHOICES.get(key, ['a text']))}"
                )
        return [entry.lower() if key == "words" else entry for entry in value]
    if isinstance(default, dict):
        limits = dict(default)
        for end, limit in _mapping(value, where, "limits {min: number, max: number}").items():
            if end not in limits:
                raise ValueError(f"{where}.{end}: there is no such key; the keys are min and max")
            limits[end] = _number(limit, f"{where}.{end}", _positive, "above 0")
        if limits["min"] >= limits["max"]:
            raise ValueError(f"{where}: min {limits['min']} is not below max {limits['max']}")
        return limits
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int) or value < 2:
            raise ValueError(f"{where} is a whole number from 2 on, not {value!r}")
        return value
    if key in ANY_NUMBER:
        return _number(value, where, math.isfinite, "")
    if key == "max_share":
        return _number(value, where, lambda x: 0 <= x <= 1, "from 0 to 1")
    if key == "max_z":
        return _number(value, where, _positive, "above 0")
    return _number(value, where, lambda x: 0 <= x < math.inf, "from 0 on")


def _number(value: Any, where: str, allowed: Callable[[float], bool], range_: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not allowed(value):
        raise ValueError(f"{where} is a number {range_}".rstrip() + f", not {value!r}")
    return float(value)


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _mapping(value: Any, where: str, what: str = "rules") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} holds {what}, not {value!r}")
    return value
