"""Scores for programs: one object of all figures, and a row for each utterance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from nest_ssl.text.error_rates import Edit, alignments
from nest_ssl.text.keyword_counts import FalseAlarms
from nest_ssl.text.score_counts import Counter
from nest_ssl.text.scores import HEADLINE, DomainScore, Group, Rate, Row, Scores


def as_json(scores: Scores) -> dict[str, Any]:
    """Give all figures as an object for json.dumps; a rate without units is null.

    docs/scoring.md describes it; score_table makes pages of it.
    """
    domains = scores.counter.domains
    found = {
        "counted": scores.counted,
        "rules": scores.counter.rules.described(),
        "domains": list(domains),
        "keywords": {name: list(listed.words) for name, listed in domains.items()} or None,
        "keywords_not_said": scores.counter.unsaid(),
        "baseline": list(scores.baseline),
        "rows": [_row(row) for row in scores.rows],
        "comparisons": [asdict(comparison) for comparison in scores.comparisons],
        "same_for_all": scores.same_for_all,
        "not_decoded": [{"system": system, "field": name} for system, name in scores.absent],
        "bootstrap": {
            "rounds": scores.rounds,
            "seed": scores.seed,
            "unit": scores.unit,
            "units": scores.units,
            "condition_rounds": scores.condition_rounds,
        },
    }
    return _without_nan(found)


def utterance_rows(scores: Scores) -> Iterator[dict[str, Any]]:
    """Give a row for each system and utterance, of the headline field.

    `reference` and `hypothesis` are the texts as scored by characters; `edits` are [kind, part of the
    reference, part of the hypothesis], whose parts joined are the two texts.
    """
    counter = scores.counter
    for row in scores.rows:
        if row.field != HEADLINE:
            continue
        lost = dict.fromkeys(row.outputs.missing, "missing") | row.outputs.errors
        for i, key in enumerate(counter.keys):
            said, heard = counter.characters[i], row.counts.hypotheses[i]
            [edits] = alignments([said], [heard], "characters")
            utterance = scores.references[key]
            found = {
                "system": row.system,
                "key": key,
                "audio_filepath": utterance.facts.get("audio_filepath"),
                "duration": utterance.duration_s,
                "reference": said,
                "hypothesis": heard,
                "edits": [_edit(edit, said, heard) for edit in edits],
                "errors": sum(edit.errors for edit in edits),
                "characters": len(said),
                "words": int(counter.totals[i, 1]),
                "word_errors": int(row.counts.errors[i, 1]),
                "keywords": _keywords(counter, i, heard),
                "conditions": scores.conditions[i],
            }
            if utterance.facts.get("offset"):
                found["offset"] = utterance.facts["offset"]  # seconds; the audio is a part of the file
            if key in lost:
                found["error"] = lost[key]
            yield found


def _row(row: Row) -> dict[str, Any]:
    outputs = row.outputs
    return {
        "system": row.system,
        "field": row.field,
        "kind": row.kind,
        **{name: _rate(rate) for name, rate in row.rates.items()},
        "gain": asdict(row.gain) if row.gain else None,
        "step": asdict(row.step) if row.step else None,
        "failed": outputs.failed,
        "missing": outputs.missing,
        "absent": outputs.absent,
        "empty": row.empty,
        "keywords": {name: _domain(domain) for name, domain in row.keywords.items()},
        "conditions": {
            name: {value: _group(group) for value, group in values.items()}
            for name, values in row.conditions.items()
        },
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {"rate": rate.rate, **asdict(rate)}


def _domain(domain: DomainScore) -> dict[str, Any]:
    counts = domain.counts
    return {
        "kwer": _rate(domain.kwer),
        "recall": counts.recall,
        "precision": counts.precision,
        "f1": counts.f1,
        "expected": counts.expected,
        "heard": counts.heard,
        "recalled": counts.recalled,
        "false": counts.false,
        **_false_alarms(domain.false_alarms),
    }


def _false_alarms(found: FalseAlarms) -> dict[str, Any]:
    return {
        "false_per_hour_without_keywords": found.speech.per_hour,
        "hours_without_keywords": found.speech.hours,
        "false_without_keywords": found.speech.false,
        "false_per_hour_silence": found.silence.per_hour,
        "hours_silence": found.silence.hours,
        "false_silence": found.silence.false,
        "without_duration": found.speech.without_duration + found.silence.without_duration,
    }


def _group(group: Group) -> dict[str, Any]:
    rates = {name: _rate(rate) for name, rate in group.rates.items()}
    other = {"against": group.against, "p": group.p} if group.against else {}
    return {"utterances": group.utterances, "hours": group.hours, "few": group.few, **rates, **other}


def _edit(edit: Edit, said: str, heard: str) -> list[str]:
    return [
        edit.kind,
        said[edit.reference_start : edit.reference_end],
        heard[edit.hypothesis_start : edit.hypothesis_end],
    ]


def _keywords(counter: Counter, place: int, heard: str) -> dict[str, list[str]] | None:
    for name, listed in counter.domains.items():
        found = listed.compare(counter.characters[place], heard, counter.expected[name][place])
        return {
            "expected": [o.keyword for o in found.expected],
            "missed": [o.keyword for o in found.missed],
            "false": [o.keyword for o in found.false],
        }
    return None


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list) else value
