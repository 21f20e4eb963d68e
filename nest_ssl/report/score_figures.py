"""Error rates as figures and tables: by stage, by condition, of keywords, from what `score --json` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nest_ssl.report.plots import Bar, Style, group_plot, interval_plot
from nest_ssl.report.runs import finite
from nest_ssl.report.scores_file import headline_rows
from nest_ssl.report.training_figures import Figure
from nest_ssl.text.conditions import MEANINGS
from nest_ssl.text.scoring import FEW, HEADLINE

WHEN_FEW = f"*: fewer than {FEW} utterances, too few for their rate to say much"
METRICS = ("cer", "wer", "kwer", "cer_outside_keywords")
NAMES = {"cer": "CER", "wer": "WER", "kwer": "KWER", "cer_outside_keywords": "CER outside keywords"}
MOST_VALUES = 12  # of one condition in a figure; the table has all


def rate_figures(scores: Mapping[str, Any], styles: Mapping[str, Style]) -> list[Figure]:
    """Draw CER, WER and KWER of every system, each in its own figure."""
    rows = headline_rows(scores)
    figures = []
    for metric in METRICS:
        bars = [bar for row in rows if (bar := _bar(row["system"], row.get(metric), styles))]
        if bars:
            figures.append(
                Figure(f"{NAMES[metric]} by stage", interval_plot(bars, _alt(NAMES[metric], bars)))
            )
    return figures


def other_outputs(scores: Mapping[str, Any], styles: Mapping[str, Style]) -> list[Figure]:
    """Draw the CER of the outputs that are not the headline: of the LLM alone, of CTC alone."""
    kinds: dict[str, list[Bar]] = {}
    for row in scores.get("rows", []):
        bar = _bar(row["system"], row.get("cer"), styles)
        if row.get("field") != HEADLINE and bar:
            kinds.setdefault(str(row.get("kind")), []).append(bar)
    return [
        Figure(f"CER, {kind}", interval_plot(bars, _alt(f"CER, {kind}", bars)))
        for kind, bars in kinds.items()
    ]


def condition_figures(scores: Mapping[str, Any], styles: Mapping[str, Style]) -> list[Figure]:
    """Draw for each condition (codec, loss, SNR ...) the CER of its values, all systems below one another."""
    drawn: dict[str, dict[str, list[Bar]]] = {}
    found_values = conditions_of(scores)
    for condition, values in found_values.items():
        groups: dict[str, list[Bar]] = {}
        numbers = {
            v: max(int(c.get("utterances") or 0) for c in found.values()) for v, found in values.items()
        }
        largest = sorted(numbers, key=lambda value: -numbers[value])[:MOST_VALUES]
        for value, found in values.items():
            bars = [bar for system, cell in found.items() if (bar := _bar(system, cell.get("cer"), styles))]
            if bars and value in largest:
                number = numbers[value]
                few = " *" if any(cell.get("few") for cell in found.values()) else ""
                groups[f"{value} · {number} utt.{few}"] = bars
        if groups:
            drawn[condition] = groups
    every = [bar for groups in drawn.values() for bars in groups.values() for bar in bars]
    highest = max((max(bar.value, bar.high or 0.0) for bar in every), default=0.0)
    figures = []
    for condition, groups in drawn.items():
        told = "; ".join(f"{name}: {100 * bars[-1].value:.1f} %" for name, bars in groups.items())
        number = len(found_values[condition])
        notes = [meaning] if (meaning := MEANINGS.get(condition)) != condition and meaning else []
        if number > MOST_VALUES:
            notes.append(f"the {MOST_VALUES} largest of {number} groups, the table has all")
        svg = group_plot(groups, f"CER by {condition}; {told}", highest)
        figures.append(Figure(condition, svg, "; ".join(notes)))
    return figures


def conditions_of(scores: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Mapping[str, Any]]]]:
    """Give {condition: {value: {system: figures}}} of the headline output, in the order of the scores."""
    found: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for row in headline_rows(scores):
        for condition, values in (row.get("conditions") or {}).items():
            for value, figures in values.items():
                found.setdefault(condition, {}).setdefault(str(value), {})[row["system"]] = figures
    return {condition: values for condition, values in found.items() if values}


def pairs_of(scores: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
    """Give {(from, to): {metric: comparison}} of the headline output."""
    pairs: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for one in scores.get("comparisons") or []:
        if one.get("field", HEADLINE) == HEADLINE:
            pairs.setdefault((str(one["a"]), str(one["b"])), {})[str(one["metric"])] = one
    return pairs


def keyword_rows(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give a row for each system and domain: KWER, recall, precision, F1, counts, false ones an hour."""
    rows = []
    for row in headline_rows(scores):
        domains = row.get("keywords") or {}
        if not domains and isinstance(row.get("kwer"), Mapping):
            domains = {"all": {"kwer": row["kwer"]}}
        for domain, found in domains.items():
            rows.append(
                {"system": row["system"], "domain": domain, **found, "kwer": _rate(found.get("kwer"))}
            )
    return rows


def rate_text(found: Any, digits: int = 1) -> str:
    """Give "62.2 [59.3, 65.1]" in per cent; "–" for a rate that is not there."""
    rate = _rate(found)
    if rate is None:
        return "–"
    text = _in_percent(rate, digits)
    low, high = (finite(found.get(key)) if isinstance(found, Mapping) else None for key in ("low", "high"))
    if low is None or high is None:
        return text
    return f"{text} [{_in_percent(low, digits)}, {_in_percent(high, digits)}]"


def _in_percent(share: float, digits: int) -> str:
    text = f"{100 * share:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text  # no "-0.0"


def _rate(found: Any) -> float | None:
    return finite(found.get("rate")) if isinstance(found, Mapping) else finite(found)


def _bar(system: str, found: Any, styles: Mapping[str, Style]) -> Bar | None:
    rate = _rate(found)
    if rate is None:
        return None
    low, high = (finite(found.get(key)) if isinstance(found, Mapping) else None for key in ("low", "high"))
    return Bar(system, rate, low, high, styles.get(system, Style()))


def _alt(title: str, bars: Sequence[Bar]) -> str:
    return f"{title}: " + ", ".join(f"{bar.name} {100 * bar.value:.1f} %" for bar in bars)
