"""scores.json and utterances.jsonl as nest_ssl.bin.score writes them; of anything else it is said why not.

Beside them scores_NAME.json and utterances_NAME.jsonl are those of a further test set, NAME.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.report.json_lines import read_json_lines
from nest_ssl.text.scores import HEADLINE

ROW_WORDS = ("system", "field", "kind")
ROW_FIGURES = ("cer", "wer", "kwer", "gain", "step", "conditions", "keywords")
ROW_LISTS = ("failed", "missing", "absent")
COUNTS = ("utterances", "without_speech", "audio_s", "without_duration", "characters", "words")

MAIN = "main"  # how the set of scores.json is called where there are others


@dataclass(frozen=True)
class ScoredSet:
    """What systems scored on one test set."""

    name: str
    scores: dict[str, Any] | None
    utterances: list[dict[str, Any]] = field(default_factory=list)


def read_further_sets(folder: Path, missing: list[str]) -> list[ScoredSet]:
    """Give the test sets beside the main one, by name; what cannot be read is said in `missing`."""
    found = []
    for path in sorted(folder.glob("scores_*.json")):
        name = path.stem.removeprefix("scores_")
        if name == MAIN:
            missing.append(f"{path} has the name of the set of scores.json; call it otherwise")
        elif name and (scores := read_scores(path, missing)):
            rows = read_utterances(folder / f"utterances_{name}.jsonl", missing)
            found.append(ScoredSet(name, scores, rows))
    return found


def read_scores(path: Path, missing: list[str]) -> dict[str, Any] | None:
    """Give the object of a scores.json; None, with the reason added to `missing`, if there is none."""
    if not path.is_file():
        missing.append(f"no {path.name}: nothing has been scored (nest_ssl.bin.score --json {path})")
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        missing.append(f"{path} cannot be read ({error}); score again")
        return None
    fault = _fault(found)
    if fault:
        missing.append(f"{path} is not what nest_ssl.bin.score --json writes: {fault}; score again")
        return None
    return found


def read_utterances(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    """Give the rows of an utterances.jsonl; what cannot be read is counted in `missing`."""
    if not path.is_file():
        missing.append(f"no {path.name}, so no single utterances (nest_ssl.bin.score --utterances {path})")
        return []
    rows, torn = read_json_lines(path)
    found = [row for row in rows if {"system", "key"} <= row.keys()]
    if left_out := len(torn) + len(rows) - len(found):
        missing.append(
            f"{path}: {left_out} lines are no utterances of a system and are left out; score again"
        )
    return found


def headline_rows(scores: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Give the rows of the headline output, one a system, in the order of the table."""
    return [row for row in (scores or {}).get("rows") or () if row.get("field") == HEADLINE]


def _fault(found: Any) -> str:
    if not isinstance(found, Mapping) or not isinstance(found.get("rows"), list) or not found["rows"]:
        return "it has no rows"
    for number, row in enumerate(found["rows"]):
        if not isinstance(row, Mapping):
            return f"row {number} is no object"
        for name in ROW_WORDS:
            if not isinstance(row.get(name), str):
                return f"row {number} has no {name}"
        for name in ROW_FIGURES:
            if row.get(name) is not None and not isinstance(row[name], Mapping):
                return f"{name} of row {number} is no object"
        for name in ROW_LISTS:
            if not isinstance(row.get(name), list):
                return f"row {number} has no list {name}"
    if not isinstance(found.get("bootstrap"), Mapping):
        return "it has no bootstrap"
    counted = found.get("counted")
    absent = [name for name in COUNTS if not isinstance(counted, Mapping) or name not in counted]
    return f"counted has no {absent[0]}" if absent else ""
