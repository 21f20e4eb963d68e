"""The reports that data preparation writes: sets with their utterances, hours and what was dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.report.runs import finite

COUNTS = ("utterances", "prompts", "rows", "kept")  # how reports of recipes and verbs call a number of rows
CONTAINERS = {"sets", "splits", "manifests", "archives"}  # keys that only gather sets: no part of a name
NO_SETS = {"dropped", "options", "settings", "texts", "funasr_limits", "versions", "inputs"}
NAMES = ("*/report.json", "*/STAGE0_REPORT.json", "*.report.json")


@dataclass(frozen=True)
class DataSet:
    """What a data report says of one set; None where it does not."""

    name: str
    source: Path  # the report
    utterances: int | None = None
    hours: float | None = None
    characters: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)  # reason: utterances


def read_data_report(path: Path) -> list[DataSet]:
    """Give the sets of one report: STAGE0_REPORT.json of prepare, or a JSON object of sets with counts.

    Such an object names a set by a key; its value has a count (utterances, prompts, rows or kept), hours,
    minutes or neither, and maybe characters and dropped.  Raises FileNotFoundError for a missing file and
    ValueError for one that holds no set.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data report {path} does not exist")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"data report {path} is not JSON: {error}") from error
    sets = list(_sets(report, path)) if isinstance(report, dict) else []
    if not sets:
        raise ValueError(
            f"data report {path} names no set with a count ({', '.join(COUNTS)}); "
            "give STAGE0_REPORT.json of nest_ssl.bin.prepare or a report.json of a recipe's data"
        )
    return sets


def data_reports_near(folders: Sequence[Path]) -> list[Path]:
    """Give the reports that lie in data folders, by their usual names."""
    return sorted({path for folder in folders for name in NAMES for path in folder.glob(name)})


def _sets(report: Mapping[str, Any], path: Path) -> Iterator[DataSet]:
    for name, section in _named(report):
        if isinstance(section.get("counts"), Mapping):  # of stage 0
            yield from _stage0(name, section, path)
        else:
            yield _set(name, section, path)
    yield from _dropped_of_all(report.get("dropped"), path)


def _named(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in node.items():
        if key in NO_SETS or not isinstance(value, Mapping):
            continue
        name = prefix if key in CONTAINERS else f"{prefix}/{key}".lstrip("/")
        if "counts" in value or any(finite(value.get(count)) is not None for count in COUNTS):
            yield name, value
        else:
            yield from _named(value, name)


def _set(name: str, section: Mapping[str, Any], path: Path) -> DataSet:
    hours = finite(section.get("hours"))
    minutes = finite(section.get("minutes"))
    return DataSet(
        name=name,
        source=path,
        utterances=next(
            (_whole(section[key]) for key in COUNTS if finite(section.get(key)) is not None), None
        ),
        hours=hours if hours is not None else minutes / 60 if minutes is not None else None,
        characters=_whole(section.get("characters")),
        dropped=_reasons(section.get("dropped")),
    )


def _stage0(name: str, section: Mapping[str, Any], path: Path) -> Iterator[DataSet]:
    counts, hours = section["counts"], section.get("hours")
    hours = hours if isinstance(hours, Mapping) else {}
    parts = [finite(hours.get(side)) or 0.0 for side in ("train", "dev")]
    yield DataSet(
        name=name,
        source=path,
        utterances=_whole(counts.get("valid")),
        hours=sum(parts),
        dropped=_reasons(section.get("dropped")),
    )
    for side, part in zip(("train", "dev"), parts, strict=True):
        yield DataSet(name=f"{name}/{side}", source=path, utterances=_whole(counts.get(side)), hours=part)


def _dropped_of_all(dropped: Any, path: Path) -> Iterator[DataSet]:
    """What a report counts beside its sets: under "GROUP: reason", or of everything together."""
    groups: dict[str, dict[str, int]] = {}
    for reason, count in _reasons(dropped).items():
        group, colon, rest = reason.partition(": ")
        name = f"{group}, all splits" if colon else "all splits"
        groups.setdefault(name, {})[rest if colon else reason] = count
    for name, reasons in groups.items():
        yield DataSet(name=name, source=path, dropped=reasons)


def _reasons(dropped: Any) -> dict[str, int]:
    """{reason: count}, {reason: [keys]}, {reason: {"rows": count}} and [{"reason": ..., "rows": ...}]."""
    if isinstance(dropped, list):
        dropped = {str(row.get("reason")): row for row in dropped if isinstance(row, Mapping)}
    if not isinstance(dropped, Mapping):
        return {}
    found = {}
    for reason, what in dropped.items():
        count = what.get("rows") if isinstance(what, Mapping) else what
        number = len(count) if isinstance(count, list) else _whole(count)
        if number:
            found[str(reason)] = number
    return found


def _whole(value: Any) -> int | None:
    number = finite(value)
    return int(number) if number is not None else None
