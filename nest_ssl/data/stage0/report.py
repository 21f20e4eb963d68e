"""The account of stage 0: every number is counted from the files that it speaks of."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.data.audio_facts import audio_facts
from nest_ssl.data.stage0.parallel import ordered_map
from nest_ssl.data.stage0.pipeline import SIDES, SetFiles, check_sum
from nest_ssl.data.stage0.rows import Row, rows_in
from nest_ssl.data.stage0.settings import SetSettings
from nest_ssl.data.stage0.steps import write_json
from nest_ssl.files.rows import text_digest

MEASURED = 400  # files of each set whose level is measured: enough for the median to half a decibel
SAMPLES = 5
BINS = 30
PERCENTILES = (1, 50, 95, 99)


def describe_set(files: SetFiles, settings: SetSettings) -> dict[str, Any]:
    """Give the section of one set for the report, JSON-able."""
    read = _json(files.work / "read.json")
    counts = check_sum(files, settings.name)
    columns = _Columns()
    for side in SIDES:
        _add_side(files, side, columns)
    dropped = Counter[str]()
    every_reason = Counter[str]()
    seconds: dict[str, float] = {}
    steps: dict[str, str] = {}
    for row in rows_in(files.dropped):
        dropped[row["reason"]] += 1
        every_reason.update(row["reasons"])
        steps[row["reason"]] = row["step"]
        duration = row["duration"] if isinstance(row.get("duration"), int | float) else 0.0
        seconds[row["reason"]] = seconds.get(row["reason"], 0.0) + duration
        columns.durations["dropped"].append(duration)
    return {
        "sources": [str(source) for source in settings.sources],
        "channel": settings.channel,
        "in_source": read["in_source"],
        "not_selected": read["not_selected"],
        "counts": counts | {"valid": counts["train"] + counts["dev"]},
        "hours": {side: _hours(columns.durations[side]) for side in (*SIDES, "dropped")},
        "dropped": [
            {
                "reason": reason,
                "step": steps[reason],
                "rows": count,
                "rows_with_it": every_reason[reason],
                "hours": round(seconds[reason] / 3600, 4),
            }
            for reason, count in sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
        ],
        "split": _json(files.work / "split.json") | {"by": list(settings.split.by)},
        "durations": _histogram(columns.durations, "s"),
        "characters_per_s": _histogram(columns.rates, "characters per second"),
        "lengths": {name: _summary(values) for name, values in columns.lengths.items()},
        "source_level_dbov": _summary(columns.levels),
        "source_activity": _summary(columns.activities),
        "source_rates": {str(rate): n for rate, n in sorted(columns.source_rates.items())},
        "out_level": _json(files.work / "measured.json"),
        "channels": columns.channels.as_dict() if settings.channel == "simulate" else None,
        "annotation": _json(files.work / "annotation.json"),
        "length_limits": _json(files.work / "length-preview.json"),
        "samples": {name: list(columns.samples[name].values()) for name in SIDES}
        | {"dropped": _dropped_samples(files)},
    }


def measure_outputs(files: SetFiles, workers: int, advance: Callable[[int], Any]) -> None:
    """Write measured.json: level and activity of some of the finished files, chosen by their ids."""
    chosen: list[tuple[int, str]] = []
    for side in SIDES:
        for row in rows_in(files.manifest(side)):
            chosen.append((text_digest(row["id"]), str(files.manifest(side).parent / row["audio_filepath"])))
            if len(chosen) > 4 * MEASURED:
                chosen = sorted(chosen)[:MEASURED]
    chosen = sorted(chosen)[:MEASURED]
    found = []
    for facts in ordered_map(_facts, [path for _, path in chosen], workers if len(chosen) > 64 else 1):
        found.append(facts)
        advance(1)
    write_json(
        files.work / "measured.json",
        {
            "files": len(found),
            "level_dbov": _summary([f["active_level_dbov"] for f in found]),
            "activity": _summary([f["activity"] for f in found]),
            "peak": _summary([f["peak"] for f in found]),
        },
    )


def _facts(path: str) -> dict[str, Any]:
    facts = audio_facts(path)
    return {name: facts.get(name) for name in ("active_level_dbov", "activity", "peak")}


class _Columns:
    """What is gathered over the rows of a set."""

    def __init__(self) -> None:
        # arrays: a list would take four times the memory, and there may be millions of rows
        self.durations = {"train": array("d"), "dev": array("d"), "dropped": array("d")}
        self.rates = {"train": array("d"), "dev": array("d")}
        self.lengths = {"duration_s": array("d"), "speech_length": array("d"), "text_length": array("d")}
        self.levels, self.activities = array("d"), array("d")
        self.source_rates: Counter[int] = Counter()
        self.channels = _Channels()
        self.samples: dict[str, dict[int, dict[str, Any]]] = {"train": {}, "dev": {}}


class _Channels:
    """What the drawn channels were."""

    def __init__(self) -> None:
        self.presets: Counter[str] = Counter()
        self.codecs: Counter[str] = Counter()
        self.noises: Counter[str] = Counter()
        self.recorders: Counter[str] = Counter()
        self.utterances = self.with_loss = 0
        self.loss_percent: list[float] = []

    def add(self, channel: Mapping[str, Any]) -> None:
        self.utterances += 1
        self.presets[str(channel.get("preset"))] += 1
        lost = frames = 0
        for leg in channel.get("legs") or ():
            if isinstance(leg, str):
                self.codecs[leg] += 1
                continue
            self.codecs[_codec_name(leg)] += 1
            lost += int(leg.get("lost_frames") or 0)
            frames = max(frames, int(leg.get("frames") or 0))
        noise = channel.get("noise")
        self.noises[str(noise.get("kind")) if isinstance(noise, Mapping) else "none"] += 1
        recorder = channel.get("recorder")
        self.recorders[_codec_name(recorder) if isinstance(recorder, Mapping) else "none"] += 1
        if lost:
            self.with_loss += 1
            self.loss_percent.append(100 * lost / max(1, frames))

    def as_dict(self) -> dict[str, Any]:
        return {
            "presets": dict(self.presets.most_common()),
            "codecs": dict(self.codecs.most_common()),
            "noise": dict(self.noises.most_common()),
            "recorders": dict(self.recorders.most_common()),
            "utterances": self.utterances,
            "utterances_with_loss": self.with_loss,
            "lost_percent": _histogram({"utterances": self.loss_percent}, "% of frames lost"),
            "lost_percent_summary": _summary(self.loss_percent),
        }


def _codec_name(leg: Mapping[str, Any]) -> str:
    parameters = leg.get("parameters") or {}
    kbps = parameters.get("kbps") if isinstance(parameters, Mapping) else None
    name = str(leg.get("codec"))
    return f"{name} {kbps}" if kbps is not None and name in ("amr_nb", "g726", "g722") else name


def _add_side(files: SetFiles, side: str, columns: _Columns) -> None:
    """Walk the manifest and the messages of a side together: rows without a line were dropped there."""
    lines = rows_in(files.messages(side))
    line = next(lines, None)
    for row in rows_in(files.manifest(side)):
        if line is None or str(line.get("key")) != str(row["id"]):
            continue
        columns.durations[side].append(row["duration"])
        characters = sum(not character.isspace() for character in row["text"])
        columns.rates[side].append(characters / row["duration"] if row["duration"] else 0.0)
        columns.lengths["duration_s"].append(row["duration"])
        for name in ("speech_length", "text_length"):
            columns.lengths[name].append(line[name])
        columns.levels.append(_number(row.get("source_level_dbov")))
        columns.activities.append(_number(row.get("source_activity")))
        if row.get("source_rate"):
            columns.source_rates[row["source_rate"]] += 1
        if isinstance(row.get("channel"), Mapping):
            columns.channels.add(row["channel"])
        _keep_sample(columns.samples[side], row, line)
        line = next(lines, None)
    if line is not None:
        raise ValueError(
            f"{files.messages(side)}: line {line.get('key')!r} has no row in {files.manifest(side)}; "
            f"run again with --redo messages-{side}"
        )


def _keep_sample(samples: dict[int, dict[str, Any]], row: Row, line: Mapping[str, Any]) -> None:
    samples[text_digest(row["id"])] = {
        "id": row["id"],
        "text": row["text"],
        "duration": round(row["duration"], 3),
        "speech_length": line["speech_length"],
        "text_length": line["text_length"],
        "channel": _in_words(row.get("channel")),
    }
    if len(samples) > SAMPLES:
        del samples[max(samples)]


def _in_words(channel: Any) -> str:
    if not isinstance(channel, Mapping):
        return ""
    legs = [leg if isinstance(leg, str) else _codec_name(leg) for leg in channel.get("legs") or ()]
    noise = channel.get("noise")
    words = [str(channel.get("preset")), " > ".join(legs) or "no codec"]
    if isinstance(noise, Mapping):
        words.append(f"{noise.get('kind')} at {float(noise.get('snr_db') or 0):.1f} dB")
    return ", ".join(words)


def _dropped_samples(files: SetFiles) -> list[dict[str, Any]]:
    """The first of each reason."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows_in(files.dropped):
        if row["reason"] not in found:
            found[row["reason"]] = {
                "id": row["id"],
                "reason": row["reason"],
                "detail": (row.get("details") or [""])[0],
                "text": row.get("text"),
                "place": row.get("place"),
            }
    return list(found.values())


def _histogram(series: Mapping[str, Sequence[float]], unit: str) -> dict[str, Any]:
    """Counts over at most BINS intervals of a round width; what is beyond the 99.9th percentile is in the
    last.  Of the dropped rows, which may state anything, none widens the picture to more than twice."""
    columns = {name: np.asarray(values, dtype=float) for name, values in series.items()}
    columns = {name: values[np.isfinite(values)] for name, values in columns.items()}
    kept = np.concatenate([values for name, values in columns.items() if name != "dropped"] or [np.zeros(0)])
    every = np.concatenate([kept, columns.get("dropped", np.zeros(0))])
    if len(kept):
        every = every[every <= 2 * kept.max()]
    top = float(np.quantile(every, 0.999)) if len(every) else 1.0
    width = _round_width(max(top, 1e-9) / BINS)
    number = max(1, int(np.ceil(top / width + 1e-9)))
    edges = np.round(np.arange(number + 1) * width, 6)
    counts = {
        name: np.histogram(np.clip(values, 0, edges[-1]), edges)[0].tolist()
        for name, values in columns.items()
    }
    beyond = sum(int(np.count_nonzero(values > edges[-1])) for values in columns.values())
    return {"unit": unit, "edges": edges.tolist(), "counts": counts, "beyond": beyond}


def _round_width(width: float) -> float:
    power = 10.0 ** np.floor(np.log10(width))
    return float(next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= width * (1 - 1e-9)))


def _summary(values: Iterable[float | None]) -> dict[str, float] | None:
    """Percentiles, mean and extremes of the values that there are; None for none."""
    there = np.fromiter(map(_number, values), dtype=float)
    there = there[np.isfinite(there)]
    if not len(there):
        return None
    quantiles = np.percentile(there, PERCENTILES)
    found = {
        "min": there.min(),
        **{f"p{share}": q for share, q in zip(PERCENTILES, quantiles, strict=True)},
        "max": there.max(),
        "mean": there.mean(),
    }
    return {name: round(float(value), 3) for name, value in found.items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _hours(seconds: Sequence[float]) -> float:
    return round(float(np.sum(np.asarray(seconds, dtype=float))) / 3600, 4)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
