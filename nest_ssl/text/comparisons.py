"""One system against another on the same utterances: by how much, and whether it may be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from nest_ssl.text.bootstrap import interval, paired_p_value, permutation_p_value, summed_by_unit
from nest_ssl.text.scores import COMPARED, Comparison, Gain, Row, Scores


def usual_pairs(names: Sequence[str], baseline: Sequence[str]) -> list[tuple[str, str]]:
    """Give each system with the one before it, of the baselines the first alone, and with each baseline."""
    pairs = [(before, name) for name, before in _steps(names, baseline).items()]
    pairs += [(before, name) for before in baseline for name in names if name not in baseline]
    return sorted(dict.fromkeys(pairs), key=lambda pair: (names.index(pair[1]), names.index(pair[0])))


def comparisons(
    result: Scores,
    by_metric: Mapping[str, np.ndarray],
    pairs: Sequence[tuple[str, str]],
    units: np.ndarray | None,
) -> list[Comparison]:
    """Compare the systems of each pair in every field that both have.

    by_metric: (rounds, rows) resampled rates; units: (N,) what is drawn together, None for utterances.
    """
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


def add_gains(rows: list[Row], cer: np.ndarray, baseline: Sequence[str]) -> None:
    """Compare each row with the baseline of the lowest CER in its field; cer: (rounds, rows)."""
    for i, row in enumerate(rows):
        if row.system in baseline:
            continue
        against = [j for j, r in enumerate(rows) if r.system in baseline and r.field == row.field]
        if against:
            row.gain = _gain(rows, cer, min(against, key=lambda j: rows[j].rates["cer"].rate), i)


def opponents(rows: Sequence[Row]) -> list[int | None]:
    """Give the place of the row that each is told against where one is enough.

    It is that of its gain, and where no row of its field has one, without a baseline, the first one; that
    one and baselines have none.
    """
    found: list[int | None] = []
    for i, row in enumerate(rows):
        same = [j for j, other in enumerate(rows) if other.field == row.field]
        if row.gain:
            found.append(next(j for j in same if rows[j].system == row.gain.against))
        else:
            found.append(None if i == same[0] or any(rows[j].gain for j in same) else same[0])
    return found


def _steps(names: Sequence[str], baseline: Sequence[str]) -> dict[str, str]:
    """Give the system before each; of the baselines only the first is a step."""
    chain = [name for name in names if name not in baseline[1:]]
    return dict(zip(chain[1:], chain, strict=False))


def add_steps(rows: list[Row], cer: np.ndarray, names: Sequence[str], baseline: Sequence[str]) -> None:
    """Compare each row with the system before it; cer: (rounds, rows)."""
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
