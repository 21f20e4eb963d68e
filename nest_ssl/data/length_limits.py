"""Length limits in explicit units, shown before they are applied, and written as FunASR's keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nest_ssl.config import suggestion
from nest_ssl.data.lengths import (
    NEED_TOKENIZER,
    UNITS,
    Lengths,
    as_columns,
    audio_tokens,
    row_lengths,
    speech_length,
)

__all__ = ["UNITS", "LengthLimits", "Limit", "as_columns", "preview_table", "row_lengths"]

FACTORS = {"max": (0.8, 0.9, 1.0, 1.1, 1.25, 1.5), "min": (0.5, 0.8, 1.0, 1.25, 2.0)}
PERCENTILES = (90.0, 95.0, 98.0, 99.0, 99.5, 99.9)
FUNASR_UNITS = {
    "max_source_length": "10-ms frames in the index; in the dataset 60-ms frames, so six times as wide",
    "min_source_length": "10-ms frames (index)",
    "max_target_length": "LLM tokens: of the text in the index, of text and <|im_end|> in the dataset",
    "max_token_length": "10-ms frames + text_length in the sampler, LLM tokens of all in the dataset",
    "batch_size": "(10-ms frames + LLM tokens of the text) x samples; no row may be longer (sampler)",
    "batch_size_sample_max": "samples (sampler)",
    "batch_size_token_max": "padded LLM tokens x samples; above it the collator drops the longest samples",
}


@dataclass(frozen=True)
class Limit:
    """A limit on a unit: side "min" or "max"; value in the unit, or percentile in (0, 100) of the corpus.

    p99.5 is the smallest length that 99.5 % of the rows do not exceed (nearest rank): as a maximum it removes
    0.5 % of the rows at most; p0.5 as a minimum too.
    """

    unit: str
    side: str
    value: float | None = None
    percentile: float | None = None

    @property
    def setting(self) -> str:
        """Give the limit as it is configured: "p99.5" or "8000"."""
        return f"p{self.percentile:g}" if self.percentile is not None else f"{self.value:g}"

    def fixed(self) -> float:
        """Give the value; ValueError for a percentile that no corpus has given a value."""
        if self.value is None:
            raise ValueError(f"{self.unit}.{self.side} is {self.setting}: resolve() it on the corpus first")
        return self.value

    def removes(self, lengths: Lengths) -> np.ndarray:
        """Give (N,) bool: True for rows outside the limit, and for rows whose length is not known."""
        values = _column(lengths, self.unit)
        inside = values <= self.fixed() if self.side == "max" else values >= self.fixed()
        return ~inside


@dataclass(frozen=True)
class LengthLimits:
    """Limits that a row must keep, all of them; both ends are allowed values."""

    limits: tuple[Limit, ...] = ()

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None, name: str = "length") -> LengthLimits:
        """Build from {unit: {min: 10, max: "p99.5"}}; ValueError names the key."""
        limits = []
        for unit, sides in (section or {}).items():
            if unit not in UNITS:
                raise ValueError(f"{name}.{unit}: there is no such unit; {suggestion(str(unit), UNITS)}")
            if sides is None:
                continue
            if not isinstance(sides, Mapping):
                raise ValueError(f"{name}.{unit} holds min and max, such as {{max: p99.5}}, not {sides!r}")
            for side, value in sides.items():
                if side not in ("min", "max"):
                    raise ValueError(f"{name}.{unit}.{side}: there is no such key; the keys are min and max")
                if value is not None:
                    limits.append(_limit(unit, side, value, f"{name}.{unit}.{side}"))
        _check_order(limits, name)
        return cls(tuple(limits))

    def units(self) -> tuple[str, ...]:
        """Give the units that limits are set on."""
        return tuple(dict.fromkeys(limit.unit for limit in self.limits))

    def resolve(self, lengths: Lengths) -> LengthLimits:
        """Give the same limits with every percentile given the length it means in this corpus."""
        found = tuple(
            limit if limit.percentile is None else replace(limit, value=_nearest_rank(lengths, limit))
            for limit in self.limits
        )
        _check_order(found, "length, on this corpus")
        return LengthLimits(found)

    def check(self, lengths: Mapping[str, float]) -> dict[str, str]:
        """Give {"speech_length_over_max": detail, ...} of one row, {} for one that is kept.

        A row whose length is not known has the reason speech_length_unknown.  Limits must be resolved.
        """
        found = {}
        for limit in self.limits:
            value = lengths.get(limit.unit, math.nan)
            shown = f"{value:g}" if value == value else "no"
            if value != value:
                found[f"{limit.unit}_unknown"] = f"the row has no {limit.unit}"
            elif limit.side == "max" and value > limit.fixed():
                found[f"{limit.unit}_over_max"] = f"{shown} > {limit.fixed():g} {UNITS[limit.unit]}"
            elif limit.side == "min" and value < limit.fixed():
                found[f"{limit.unit}_under_min"] = f"{shown} < {limit.fixed():g} {UNITS[limit.unit]}"
        return found

    def keep(self, lengths: Lengths) -> np.ndarray:
        """Give (N,) bool: True for rows within all limits.  Limits must be resolved."""
        kept = np.ones(_rows(lengths), bool)
        for limit in self.limits:
            kept &= ~limit.removes(lengths)
        return kept

    def preview(self, lengths: Lengths) -> list[dict[str, Any]]:
        """Give what each limit alone, its neighbours, and all together would remove; one JSON-able row each.

        limit: "speech_length_max" or "all"; setting: as configured ("p99.5", "8000"), or the neighbour's;
        chosen: bool; value; unit; rows, hours, share (of the rows) removed; rows_kept, hours_kept.
        """
        resolved = self.resolve(lengths)
        table = []
        for limit in resolved.limits:
            for neighbour in _neighbours(limit, lengths):
                removed = neighbour.removes(lengths)
                table.append(
                    {
                        "limit": f"{limit.unit}_{limit.side}",
                        "setting": neighbour.setting,
                        "chosen": neighbour == limit,
                        "value": neighbour.fixed(),
                        "unit": UNITS[limit.unit],
                        **_removed(removed, lengths),
                    }
                )
        together = {"limit": "all", "setting": "", "chosen": True, "value": None, "unit": ""}
        return [*table, together | _removed(~resolved.keep(lengths), lengths)]

    def funasr_limits(
        self,
        lengths: Lengths | None = None,
        batch_size: int = 6000,
        batch_size_sample_max: int = 10,
        prompt_tokens: int = 64,
    ) -> dict[str, Any]:
        """Give {"dataset_conf": {FunASR's keys}, "units": {key: what it counts and where}}.

        With them FunASR drops no row that these limits keep.  What has no limit is taken from `lengths`,
        those of the kept rows of all sets.  Raises ValueError naming what is in neither.  Resolve the limits
        first.
        """
        lengths = lengths or {}
        most, least = self._speech_ends(lengths)
        text = self._end("text_length", lengths)
        sampler = self._end("sampler_length", {}, default=most + text)
        sequence = self._end("sequence_length", {}, default=prompt_tokens + audio_tokens(most) + text + 1)
        return {
            "dataset_conf": {
                "max_source_length": most,
                "min_source_length": least,
                "max_target_length": text + 1,
                "max_token_length": max(sampler, sequence),
                "batch_size": max(batch_size, sampler),
                "batch_size_sample_max": batch_size_sample_max,
                "batch_size_token_max": _largest_batch(
                    lengths, max(batch_size, sampler), batch_size_sample_max, sequence, prompt_tokens
                ),
            },
            "units": dict(FUNASR_UNITS),
        }

    def _speech_ends(self, lengths: Lengths) -> tuple[int, int]:
        """Give the largest and smallest speech_length that is kept."""
        by_seconds = {limit.side: speech_length(limit.fixed()) for limit in self._on("seconds")}
        by_lfr = {limit.side: int(limit.fixed()) for limit in self._on("lfr_frames")}
        most = [by_seconds["max"]] if "max" in by_seconds else []
        most += [6 * by_lfr["max"]] if "max" in by_lfr else []
        least = [by_seconds.get("min", 1), 6 * (by_lfr.get("min", 1) - 1) + 1, 1]
        for limit in self._on("speech_length"):
            if limit.side == "max":
                most.append(math.floor(limit.fixed()))
            else:
                least.append(math.ceil(limit.fixed()))
        if not most:
            most = [self._end("speech_length", lengths)]
        if max(least) == 1 and "speech_length" in lengths and len(lengths["speech_length"]):
            least = [int(np.nanmin(lengths["speech_length"]))]
        return min(most), max(1, *least)

    def _on(self, unit: str) -> list[Limit]:
        return [limit for limit in self.limits if limit.unit == unit]

    def _end(self, unit: str, lengths: Lengths, default: int | None = None) -> int:
        """Give the maximum of a unit: its limit, the longest row's, or `default`."""
        set_ = [math.floor(limit.fixed()) for limit in self._on(unit) if limit.side == "max"]
        if set_:
            return min(set_) if default is None else min(*set_, default)
        if default is not None:
            return default
        if unit in lengths and len(lengths[unit]):
            return int(np.nanmax(lengths[unit]))
        hint = "; its rows need a tokenizer" if unit in NEED_TOKENIZER else ""
        raise ValueError(f"FunASR's limits need {unit}: set length.{unit}.max, or give the lengths{hint}")


def preview_table(preview: Sequence[Mapping[str, Any]]) -> str:
    """Give a preview as a Markdown table; the chosen settings are bold."""
    lines = [
        "| limit | setting | value | counts | removes rows | share | hours | rows kept | hours kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in preview:
        value = "" if row["value"] is None else f"{row['value']:g}"
        unit = row["unit"].split(" (")[0]
        mark = "**" if row["chosen"] and row["setting"] else ""
        share = f"{100 * row['share']:.2f} %"
        lines.append(
            f"| {row['limit']} | {mark}{row['setting']}{mark} | {value} | {unit} | {row['rows']} | "
            f"{share} | {row['hours']:.2f} | {row['rows_kept']} | {row['hours_kept']:.2f} |"
        )
    return "\n".join(lines)


def _limit(unit: str, side: str, value: Any, where: str) -> Limit:
    if isinstance(value, str) and value[:1].lower() == "p":
        try:
            percentile = float(value[1:])
        except ValueError:
            percentile = math.nan
        if not 0 < percentile < 100:
            raise ValueError(f"{where}: {value!r} is no percentile between p0 and p100, such as p99.5")
        return Limit(unit, side, percentile=percentile)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} is a number or a percentile such as p99.5, not {value!r}")
    if value < 0 and unit != "ctc_slack":
        raise ValueError(f"{where}: {value!r} is negative; it counts {UNITS[unit]}")
    return Limit(unit, side, value=float(value))


def _check_order(limits: Sequence[Limit], name: str) -> None:
    for low in limits:
        for high in limits:
            ends = low.unit == high.unit and (low.side, high.side) == ("min", "max")
            if ends and low.value is not None and high.value is not None and low.value > high.value:
                raise ValueError(f"{name}: {low.unit}.min {low.value:g} is above max {high.value:g}")


def _column(lengths: Lengths, unit: str) -> np.ndarray:
    if unit not in lengths:
        hint = "; its rows need a tokenizer" if unit in NEED_TOKENIZER else ""
        raise ValueError(f"length.{unit}: these rows have no {unit}{hint}")
    return np.asarray(lengths[unit], np.float64)


def _nearest_rank(lengths: Lengths, limit: Limit, percentile: float | None = None) -> float:
    values = _column(lengths, limit.unit)
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        raise ValueError(
            f"length.{limit.unit}.{limit.side}: no row has a length, so {limit.setting} has no value"
        )
    wanted = percentile if percentile is not None else limit.percentile
    assert wanted is not None
    rank = math.ceil(round(wanted * len(values) / 100, 9))
    return float(values[max(1, rank) - 1])


def _neighbours(limit: Limit, lengths: Lengths) -> list[Limit]:
    """Give the limit and those a little tighter and wider, from the tightest to the widest."""
    if limit.percentile is not None:
        around = {p if limit.side == "max" else round(100 - p, 6) for p in PERCENTILES} | {limit.percentile}
        found = [replace(limit, percentile=p, value=_nearest_rank(lengths, limit, p)) for p in around]
    else:
        values = {limit.fixed() * factor for factor in FACTORS[limit.side]}
        if limit.unit != "seconds":
            values = {float(round(value)) for value in values} | {limit.fixed()}
        found = [replace(limit, value=value) for value in values]
    found.sort(key=lambda neighbour: (neighbour.fixed(), neighbour.percentile or 0.0))
    return found if limit.side == "max" else found[::-1]


def _rows(lengths: Lengths) -> int:
    return len(next(iter(lengths.values()))) if lengths else 0


def _removed(removed: np.ndarray, lengths: Lengths) -> dict[str, Any]:
    seconds = np.nan_to_num(lengths["seconds"]) if "seconds" in lengths else np.zeros(len(removed))
    count = int(removed.sum())
    return {
        "rows": count,
        "hours": float(seconds[removed].sum() / 3600),
        "share": count / max(1, len(removed)),
        "rows_kept": len(removed) - count,
        "hours_kept": float(seconds[~removed].sum() / 3600),
    }


def _largest_batch(lengths: Lengths, batch_size: int, samples: int, sequence: int, prompt_tokens: int) -> int:
    """Give the most padded LLM tokens that a batch of FunASR's sampler can have.

    n samples fit if n times the longest speech_length + text_length is batch_size at most; their padded
    tokens are n times the longest sequence among rows that short.
    """
    known = "sampler_length" in lengths and "sequence_length" in lengths
    most = sequence
    for count in range(1, samples + 1):
        room = batch_size // count
        if known:
            fitting = lengths["sequence_length"][lengths["sampler_length"] <= room]
            longest = int(np.nanmax(fitting)) if len(fitting) else 0
        else:
            longest = min(sequence, prompt_tokens + room + 1)  # all of it text
        most = max(most, count * longest)
    return most
