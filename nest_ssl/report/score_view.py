"""What the HTML page shows of the scores on one test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nest_ssl.report.plots import Style
from nest_ssl.report.score_figures import (
    NAMES,
    WHEN_FEW,
    condition_figures,
    conditions_of,
    keyword_rows,
    other_outputs,
    pairs_of,
    rate_figures,
)
from nest_ssl.report.scores_file import ScoredSet, headline_rows
from nest_ssl.report.training_figures import Figure
from nest_ssl.text.scoring import HEADLINE


@dataclass(frozen=True)
class ScoreView:
    """One test set for templates/scores.html.j2; empty lists where nothing was scored."""

    id: str  # of its section
    name: str
    scores: Mapping[str, Any]
    same: Mapping[str, Any]  # conditions that all utterances share
    system_styles: Mapping[str, Style]
    metrics: list[str]
    rate_figures: list[Figure]
    other_outputs: list[Figure]
    condition_figures: list[Figure]
    conditions: Mapping[str, Any]
    pairs: Mapping[tuple[str, str], Mapping[str, Any]]
    pair_metrics: list[str]
    lost: list[str]
    keyword_rows: list[dict[str, Any]]
    metric_names: Mapping[str, str]
    headline: str = HEADLINE
    when_few: str = WHEN_FEW


def score_view(each: ScoredSet, styles: Mapping[str, Style], section: str) -> ScoreView:
    """Give the view of a test set; section: its id on the page."""
    scores = each.scores or {}
    pairs = pairs_of(scores)
    systems = [str(row["system"]) for row in headline_rows(scores)]
    return ScoreView(
        section,
        each.name,
        scores,
        scores.get("same_for_all") or {},
        {name: styles[name] for name in systems},
        [metric for metric in NAMES if any(row.get(metric) for row in scores.get("rows", []))],
        rate_figures(scores, styles),
        other_outputs(scores, styles),
        condition_figures(scores, styles),
        conditions_of(scores),
        pairs,
        [metric for metric in NAMES if any(metric in found for found in pairs.values())],
        _lost(scores),
        keyword_rows(scores),
        NAMES,
    )


def _lost(scores: Mapping[str, Any]) -> list[str]:
    """Say which systems have utterances without a text: failed, missing in their file, or empty."""
    told = []
    for row in headline_rows(scores):
        counts = {word: row.get(word) or 0 for word in ("failed", "missing", "empty")}
        named = {word: n if isinstance(n, int) else len(n) for word, n in counts.items()}
        if any(named.values()):
            told.append(f"{row['system']}: " + ", ".join(f"{n} {word}" for word, n in named.items() if n))
    return told
