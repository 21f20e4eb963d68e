"""CER, WER and KWER of several systems on one set: intervals, comparisons, a breakdown by condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from nest_ssl.text.bootstrap import (
    ROUNDS,
    intervals,
    paired_p_value,
    resampled_rates,
    summed_by_unit,
    unit_numbers,
)
from nest_ssl.text.comparisons import add_gains, add_steps, comparisons, opponents, usual_pairs
from nest_ssl.text.conditions import CONDITIONS, NOT_STATED, conditions_of, groups
from nest_ssl.text.hypotheses import System, Utterance, outputs_of
from nest_ssl.text.keyword_counts import KeywordCounts
from nest_ssl.text.keywords import KeywordLists, Keywords
from nest_ssl.text.score_counts import METRICS, Counter
from nest_ssl.text.scored_text import ScoringRules
from nest_ssl.text.scores import FEW, FIELDS, HEADLINE, KINDS, UNITS, DomainScore, Group, Rate, Row, Scores

CONDITION_DRAWS = 20_000_000  # utterances drawn per condition at most, in at least 1000 rounds


Advance = Callable[[int], object]
Progress = Callable[[int, str, str], AbstractContextManager[Advance]]  # of (total, unit, what is done)


def no_progress(total: int, unit: str, what: str) -> AbstractContextManager[Advance]:
    """Give what shows nothing."""
    return nullcontext(lambda done: None)


def score(
    systems: Sequence[System],
    references: Mapping[str, Utterance],
    fields: Sequence[str] | None = None,
    keywords: KeywordLists | Keywords | None = None,
    baseline: Sequence[str] = (),
    rounds: int = ROUNDS,
    seed: int = 0,
    *,
    rules: ScoringRules | None = None,
    compare: Sequence[tuple[str, str]] | None = None,
    unit: str = UNITS[0],
    progress: Progress = no_progress,
) -> Scores:
    """Score each field of each system on all utterances of `references`.

    fields: None for those of FIELDS that any system has.
    baseline: names of systems; a gain counts against the one of them with the lowest CER in the same field.
    compare: pairs of systems; None for each against the one before it and against each baseline.
    unit: what is drawn, utterances or all those of a speaker together; utterances that state no speaker are
    drawn alone.  progress: shows how far the work is.
    Raises ValueError for an unknown system, where a system has no output at all, and for unit "speaker" where
    nobody states one.
    """
    names = [system.name for system in systems]
    for name in (*baseline, *(name for pair in compare or () for name in pair)):
        if name not in names:
            raise ValueError(f"baseline or compare: {name!r} is none of the systems {', '.join(names)}")
    lists = KeywordLists({"all": keywords}) if isinstance(keywords, Keywords) else keywords
    counter = Counter(references, lists, rules or ScoringRules())
    result = Scores([], dict(references), counter, tuple(baseline), rounds=rounds, seed=seed, unit=unit)
    result.rows = _rows(systems, counter, fields, result.absent, progress)
    numbers = _units(references, unit)
    result.units = len(counter.keys) if numbers is None else int(numbers.max()) + 1
    samples = _add_rates(result, numbers, progress)
    by_metric = {metric: samples[:, :, i] for i, metric in enumerate(counter.columns)}
    add_gains(result.rows, by_metric["cer"], baseline)
    add_steps(result.rows, by_metric["cer"], names, baseline)
    pairs = (
        usual_pairs(names, baseline) if compare is None else list(dict.fromkeys((a, b) for a, b in compare))
    )
    result.comparisons = comparisons(result, by_metric, pairs, numbers)
    _add_conditions(result, numbers, progress)
    return result


def _rows(
    systems: Sequence[System],
    counter: Counter,
    fields: Sequence[str] | None,
    absent: list[tuple[str, str]],
    progress: Progress,
) -> list[Row]:
    rows: list[Row] = []
    lacking: list[tuple[str, str]] = []
    for system in systems:
        for name in FIELDS if fields is None else fields:
            if name != HEADLINE and KINDS.get(name) == _kind(system, HEADLINE):
                continue  # the headline is this field
            outputs = outputs_of(system, counter.keys, name)
            if outputs is None:
                if name == HEADLINE:
                    raise ValueError(f"{system.path} ({system.name}): no row has {name!r}, and none an error")
                lacking.append((system.name, name))
                continue
            kind = _kind(system, name) if name == HEADLINE else KINDS.get(name, name)
            with progress(len(counter.keys), "utt", f"{system.name} {kind}") as advance:
                counts = counter.count(outputs.texts, advance)
            rows.append(Row(system.name, name, kind, {}, outputs, counts))
    there = {row.field for row in rows} | {
        field for field in KINDS if any(r.kind == KINDS[field] for r in rows)
    }
    absent += [(system, name) for system, name in lacking if fields is not None or name in there]
    return rows


def _units(references: Mapping[str, Utterance], unit: str) -> np.ndarray | None:
    """Give (N,) numbers of what is drawn together; None for utterances."""
    if unit == UNITS[0]:
        return None
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}, not one of {', '.join(UNITS)}")
    labels = [conditions_of(said.facts)["speaker"] for said in references.values()]
    if all(label == NOT_STATED for label in labels):
        raise ValueError(
            "no utterance states its speaker, so speakers cannot be drawn: rows need 'speaker'; a manifest "
            "that has it can be given by --metadata"
        )
    return unit_numbers([f"s{label}" if label != NOT_STATED else f"u{i}" for i, label in enumerate(labels)])


def _add_rates(result: Scores, units: np.ndarray | None, progress: Progress) -> np.ndarray:
    """Give every row its rates and keywords; gives (rounds, rows, columns) resampled rates."""
    counter, rows = result.counter, result.rows
    errors = np.concatenate([row.counts.errors for row in rows], axis=1)
    totals = np.tile(counter.totals, (1, len(rows)))
    errors, totals = summed_by_unit(errors, units), summed_by_unit(totals, units)
    with progress(result.rounds, "draw", "bootstrap") as advance:
        samples = resampled_rates(errors, totals, result.rounds, result.seed, advance)
    samples = samples.reshape(result.rounds, len(rows), len(counter.columns))
    for i, row in enumerate(rows):
        sums = zip(row.counts.errors.sum(axis=0), counter.totals.sum(axis=0), strict=True)
        bounds = intervals(samples[:, i])
        rates = [Rate(int(wrong), int(of), *bound) for (wrong, of), bound in zip(sums, bounds, strict=True)]
        row.rates = {
            metric: rates[counter.columns.index(metric)] for metric in METRICS if metric in counter.columns
        }
        for domain, counts in row.counts.keywords.items():
            row.keywords[domain] = DomainScore(
                rates[counter.column(domain)], KeywordCounts.total(counts), counter.false_alarms(counts)
            )
    return samples


def _add_conditions(result: Scores, units: np.ndarray | None, progress: Progress) -> None:
    """Break the rates of every row down by each condition that has several values."""
    said = list(result.references.values())
    stated = [conditions_of(utterance.facts, utterance.duration_s) for utterance in said]
    used = [name for name in CONDITIONS if any(one[name] != NOT_STATED for one in stated)]
    result.conditions = [{name: one[name] for name in used} for one in stated]
    result.condition_rounds = min(result.rounds, max(1000, CONDITION_DRAWS // len(said)))
    several = [name for name in used if len({one[name] for one in stated}) > 1]
    result.same_for_all = {name: stated[0][name] for name in used if name not in several}
    with progress(len(several), "condition", "conditions") as advance:
        for name in several:
            for value, places in groups([one[name] for one in stated], name).items():
                _add_group(result, units, name, value, np.array(places))
            advance(1)


def _add_group(result: Scores, units: np.ndarray | None, name: str, value: str, places: np.ndarray) -> None:
    """Give every row the rates of the utterances at `places`, drawn among themselves."""
    columns = np.flatnonzero([column in METRICS for column in result.counter.columns])
    own = None if units is None else units[places]
    totals = summed_by_unit(result.counter.totals[np.ix_(places, columns)], own)
    errors = [summed_by_unit(row.counts.errors[np.ix_(places, columns)], own) for row in result.rows]
    samples = resampled_rates(
        np.concatenate(errors, axis=1),
        np.tile(totals, (1, len(errors))),
        result.condition_rounds,
        result.seed,
    )
    bounds = intervals(samples)
    seconds = [result.counter.durations_s[place] or 0.0 for place in places]
    few = len(totals) < FEW
    place = [result.counter.columns[int(column)] for column in columns].index("cer")
    cer, silent = samples[:, place :: len(columns)], not totals[:, place].any()
    for i, (row, other) in enumerate(zip(result.rows, opponents(result.rows), strict=True)):
        rates = {}
        for j, column in enumerate(columns):
            rates[result.counter.columns[int(column)]] = Rate(
                int(errors[i][:, j].sum()), int(totals[:, j].sum()), *bounds[i * len(columns) + j]
            )
        against = "" if other is None else result.rows[other].system
        untold = other is None or few or silent
        p = math.nan if untold else paired_p_value(cer[:, i], cer[:, other])
        group = Group(len(places), sum(seconds) / 3600, few, rates, against, p)
        row.conditions.setdefault(name, {})[value] = group


def _kind(system: System, name: str) -> str:
    """What field `name` is: the kind of the other field that it repeats in every row, else its own name."""
    good = [row for row in system.rows.values() if not row.get("error")]
    for other, kind in KINDS.items():
        if good and all(isinstance(row.get(other), str) and row[other] == row.get(name) for row in good):
            return kind
    return name
