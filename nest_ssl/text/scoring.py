"""CER, WER and KWER of several systems on one set: intervals, comparisons, a breakdown by condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from dataclasses import field as default

import numpy as np

from nest_ssl.text.bootstrap import (
    ROUNDS,
    interval,
    paired_p_value,
    permutation_p_value,
    resampled_rates,
    summed_by_unit,
    unit_numbers,
)
from nest_ssl.text.conditions import CONDITIONS, NOT_STATED, conditions_of, groups
from nest_ssl.text.hypotheses import Outputs, System, Utterance, outputs_of
from nest_ssl.text.keyword_counts import FalseAlarms, KeywordCounts
from nest_ssl.text.keywords import KeywordLists, Keywords
from nest_ssl.text.score_counts import METRICS, Counter, Counts
from nest_ssl.text.scored_text import ScoringRules

HEADLINE = "text"
FIELDS = (HEADLINE, "text_llm", "text_ctc")
KINDS = {"text_joint": "joint", "text_llm": "LLM only", "text_ctc": "CTC only"}
COMPARED = ("cer", "wer", "kwer")
UNITS = ("utterance", "speaker")  # what is drawn
FEW = 30  # utterances (or speakers) below which an interval says little
CONDITION_DRAWS = 100_000_000  # utterances drawn per condition at most, in at least 1000 rounds

Advance = Callable[[int], object]
Progress = Callable[[int, str, str], AbstractContextManager[Advance]]  # of (total, unit, what is done)


def no_progress(total: int, unit: str, what: str) -> AbstractContextManager[Advance]:
    """Give what shows nothing."""
    return nullcontext(lambda done: None)


@dataclass(frozen=True)
class Rate:
    """Errors over units, and the 95 % interval of their ratio over resampled utterances."""

    errors: int
    total: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.errors / self.total if self.total else math.nan


@dataclass(frozen=True)
class Gain:
    """By how much CER is below that of `against`, relative; p_value of "the two are equally good"."""

    against: str
    gain: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """The rate of system `b` less that of `a`, in one field, with its interval; below 0 `b` is better.

    p: of "the two are equally good", from the draws of the interval; p_permutation: from swapping the two
    systems at random (bootstrap.permutation_p_value).
    """

    a: str
    b: str
    field: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_permutation: float


@dataclass(frozen=True)
class DomainScore:
    """The keywords of one domain."""

    kwer: Rate
    counts: KeywordCounts
    false_alarms: FalseAlarms


@dataclass(frozen=True)
class Group:
    """The utterances of one value of a condition; few: too few for the intervals to say much."""

    utterances: int
    hours: float
    few: bool
    rates: dict[str, Rate]


@dataclass
class Row:
    """One system and field."""

    system: str
    field: str
    kind: str
    rates: dict[str, Rate]
    outputs: Outputs
    counts: Counts
    gain: Gain | None = None
    step: Gain | None = None
    keywords: dict[str, DomainScore] = default(default_factory=dict)
    conditions: dict[str, dict[str, Group]] = default(default_factory=dict)

    @property
    def empty(self) -> int:
        """How many texts are empty though they came out well."""
        lost = len(self.outputs.failed) + len(self.outputs.missing) + len(self.outputs.absent)
        return sum(1 for text in self.outputs.texts if not text.strip()) - lost


@dataclass
class Scores:
    """All rows, and what was counted: `counted` has the facts of the references.

    conditions: of each utterance, those that any utterance states; same_for_all: the ones that have a single
    value, by which nothing can be broken down.  units: of `unit` that were drawn from.
    """

    rows: list[Row]
    references: dict[str, Utterance]
    counter: Counter
    baseline: tuple[str, ...] = ()
    absent: list[tuple[str, str]] = default(default_factory=list)  # (system, field) that no row has
    comparisons: list[Comparison] = default(default_factory=list)
    conditions: list[dict[str, str]] = default(default_factory=list)
    same_for_all: dict[str, str] = default(default_factory=dict)
    rounds: int = ROUNDS
    condition_rounds: int = ROUNDS
    seed: int = 0
    unit: str = UNITS[0]
    units: int = 0

    @property
    def counted(self) -> dict[str, float]:
        return self.counter.facts()


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
    _add_gains(result.rows, by_metric["cer"], baseline)
    _add_steps(result.rows, by_metric["cer"], names, baseline)
    pairs = (
        _usual_pairs(names, baseline) if compare is None else list(dict.fromkeys((a, b) for a, b in compare))
    )
    result.comparisons = _comparisons(result, by_metric, pairs, numbers)
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
        raise ValueError("no utterance states its speaker, so speakers cannot be drawn; rows need 'speaker'")
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
        rates = [
            Rate(
                int(row.counts.errors[:, j].sum()),
                int(counter.totals[:, j].sum()),
                *interval(samples[:, i, j]),
            )
            for j in range(len(counter.columns))
        ]
        row.rates = {
            metric: rates[counter.columns.index(metric)] for metric in METRICS if metric in counter.columns
        }
        for domain, counts in row.counts.keywords.items():
            row.keywords[domain] = DomainScore(
                rates[counter.column(domain)], sum(counts, KeywordCounts()), counter.false_alarms(counts)
            )
    return samples


def _usual_pairs(names: Sequence[str], baseline: Sequence[str]) -> list[tuple[str, str]]:
    """Give each system with the one before it, of the baselines the first alone, and with each baseline."""
    pairs = [(before, name) for name, before in _steps(names, baseline).items()]
    pairs += [(before, name) for before in baseline for name in names if name not in baseline]
    return sorted(dict.fromkeys(pairs), key=lambda pair: (names.index(pair[1]), names.index(pair[0])))


def _comparisons(
    result: Scores,
    by_metric: Mapping[str, np.ndarray],
    pairs: Sequence[tuple[str, str]],
    units: np.ndarray | None,
) -> list[Comparison]:
    place = {(row.system, row.field): i for i, row in enumerate(result.rows)}
    fields = list(dict.fromkeys(row.field for row in result.rows))
    columns = result.counter.columns
    found = []
    for a, b in pairs:
        for name in fields:
            i, j = place.get((a, name)), place.get((b, name))
            if i is None or j is None:
                continue
            old, new = result.rows[i], result.rows[j]
            changes = summed_by_unit(new.counts.errors - old.counts.errors, units)
            for metric in (metric for metric in COMPARED if metric in old.rates):
                before, now = by_metric[metric][:, i], by_metric[metric][:, j]
                found.append(
                    Comparison(
                        a, b, name, metric,
                        new.rates[metric].rate - old.rates[metric].rate,
                        *interval(now - before),
                        paired_p_value(now, before),
                        permutation_p_value(changes[:, columns.index(metric)], result.rounds, result.seed),
                    )
                )  # fmt: skip
    return found


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
    seconds = [result.counter.durations_s[place] or 0.0 for place in places]
    for i, row in enumerate(result.rows):
        rates = {}
        for j, column in enumerate(columns):
            bounds = interval(samples[:, i * len(columns) + j])
            rates[result.counter.columns[int(column)]] = Rate(
                int(errors[i][:, j].sum()), int(totals[:, j].sum()), *bounds
            )
        group = Group(len(places), sum(seconds) / 3600, len(totals) < FEW, rates)
        row.conditions.setdefault(name, {})[value] = group


def _kind(system: System, name: str) -> str:
    """What field `name` is: the kind of the other field that it repeats in every row, else its own name."""
    good = [row for row in system.rows.values() if not row.get("error")]
    for other, kind in KINDS.items():
        if good and all(isinstance(row.get(other), str) and row[other] == row.get(name) for row in good):
            return kind
    return name


def _add_gains(rows: list[Row], cer: np.ndarray, baseline: Sequence[str]) -> None:
    for i, row in enumerate(rows):
        if row.system in baseline:
            continue
        against = [j for j, r in enumerate(rows) if r.system in baseline and r.field == row.field]
        if against:
            row.gain = _gain(rows, cer, min(against, key=lambda j: rows[j].rates["cer"].rate), i)


def _steps(names: Sequence[str], baseline: Sequence[str]) -> dict[str, str]:
    """Give the system before each; of the baselines only the first is a step."""
    chain = [name for name in names if name not in baseline[1:]]
    return dict(zip(chain[1:], chain, strict=False))


def _add_steps(rows: list[Row], cer: np.ndarray, names: Sequence[str], baseline: Sequence[str]) -> None:
    before = _steps(names, baseline)
    place = {(row.system, row.field): i for i, row in enumerate(rows)}
    for i, row in enumerate(rows):
        former = place.get((before.get(row.system, ""), row.field))
        if former is not None:
            row.step = _gain(rows, cer, former, i)


def _gain(rows: list[Row], cer: np.ndarray, old: int, new: int) -> Gain:
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = np.where(cer[:, old] > 0, 1 - cer[:, new] / cer[:, old], np.nan)
    before, now = rows[old].rates["cer"].rate, rows[new].rates["cer"].rate
    gain = 1 - now / before if before else math.nan
    return Gain(rows[old].system, gain, *interval(samples), paired_p_value(cer[:, new], cer[:, old]))
