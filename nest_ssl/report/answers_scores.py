"""Answers from the scores: what each stage did to CER, the rates, keywords, and where it helped most.

The test set of scores.json decides; what further sets say stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from nest_ssl.report.answer import CHANCE, MET, NOT_MET, P_LIMIT, UNKNOWN, Aims, Answer
from nest_ssl.report.runs import finite
from nest_ssl.report.scores_file import MAIN, ScoredSet, headline_rows
from nest_ssl.report.words import counted, p_value, percent
from nest_ssl.text.conditions import NOT_STATED
from nest_ssl.text.scoring import FEW, HEADLINE

NO_SCORES = "No system has been scored yet."
SHOWN = 16  # conditions that are listed: large ones before small ones, of too many the best and the worst

Scores = Mapping[str, Any] | None
Row = Mapping[str, Any]


def rate_of(row: Row, metric: str) -> float | None:
    """Give a rate of a row as a share; None where it has none."""
    return _rate(row.get(metric))


def compared(scores: Scores) -> tuple[Row, Row] | None:
    """Give the row that the last system counts against and the last system's; None with fewer than two.

    The baseline is the one that its gain is over; without a baseline the first system of the table.
    """
    rows = headline_rows(scores)
    if len(rows) < 2:
        return None
    against = (rows[-1].get("gain") or {}).get("against")
    first = next((row for row in rows if row["system"] == against), rows[0])
    return first, rows[-1]


def cer_change(scores: Scores, aim: float | None, further: Sequence[ScoredSet] = ()) -> Answer:
    """Answer what each stage did to CER, and whether that may be chance."""
    question = "Did the character error rate fall?"
    if aim is not None:
        question = f"Did the character error rate fall by {percent(aim, 0)} or more?"
    pair = compared(scores)
    if pair is None:
        rows = headline_rows(scores)
        text = (
            f"There is one system, {rows[0]['system']}, and nothing to compare it with."
            if rows
            else NO_SCORES
        )
        return Answer(question, text, UNKNOWN)
    details = list(_steps(scores))
    for other in further:
        told = _change_of(other.scores)
        details += [f"on the test set {other.name}: {told.words}"] if told else []
    change = _change_of(scores)
    if change is None:
        return Answer(question, "The references have no characters to count.", UNKNOWN, details)
    gain, p = change.gain, change.p
    if aim is not None:
        verdict = MET if gain >= aim else NOT_MET
    elif p is None:
        verdict = ""
    else:
        verdict = CHANCE if p >= P_LIMIT else MET if gain > 0 else NOT_MET
    return Answer(question, f"{change.words}.", verdict, details)


@dataclass(frozen=True)
class _CerChange:
    gain: float  # relative
    p: float | None
    words: str


def _change_of(scores: Scores) -> _CerChange | None:
    """What became of CER from the baseline to the last system; None where it cannot be told."""
    pair = compared(scores)
    if pair is None:
        return None
    before, after = pair
    then, now = rate_of(before, "cer"), rate_of(after, "cer")
    if then is None or now is None:
        return None
    found = after.get("gain") or _comparison(scores, before["system"], after["system"]) or {}
    gain = 1 - now / then if then else -inf if now else 0.0
    words = f"{percent(then, 2)} ({before['system']}) -> {percent(now, 2)} ({after['system']}): "
    words += f"{_lower(gain, now)}{_certainty(found)}"
    p = _p(found)
    if p is not None and p >= P_LIMIT:
        words += ", which may be chance"
    return _CerChange(gain, p, words)


def rates(scores: Scores, aims: Aims, further: Sequence[ScoredSet] = ()) -> Answer:
    """Answer the rates of the last system, and of all of them."""
    question = "What are the error rates now?"
    rows = headline_rows(scores)
    if not rows:
        return Answer(question, NO_SCORES, UNKNOWN)
    last, verdicts = rows[-1], []
    parts = []
    for metric in ("cer", "wer", "kwer"):
        rate, aim = rate_of(last, metric), getattr(aims, metric)
        if rate is None:
            continue
        word = f"{metric.upper()} {percent(rate, 2)}{_interval(last[metric])}"
        if aim is not None:
            verdicts.append(MET if rate <= aim else NOT_MET)
            word += f" (aim: {percent(aim, 0)} or less, {verdicts[-1]})"
        parts.append(word)
    verdict = NOT_MET if NOT_MET in verdicts else MET if verdicts else ""
    details = [f"{row['system']}: {_all_rates(row)}" for row in rows]
    for other in further:
        details += [
            f"{other.name}, {row['system']}: {_all_rates(row)}" for row in headline_rows(other.scores)
        ]
    text = f"{last['system']}: {', '.join(parts)}." if parts else "The references are empty."
    return Answer(question, text, verdict, details)


def keywords(scores: Scores) -> Answer:
    """Answer how well keywords are heard, by domain where there are several."""
    question = "Does it hear the keywords of the business?"
    rows = headline_rows(scores)
    if not rows:
        return Answer(question, NO_SCORES, UNKNOWN)
    last = rows[-1]
    if rate_of(last, "kwer") is None:
        return Answer(
            question, "It cannot be told: no keywords were given to the scoring, or none is said.", UNKNOWN
        )
    pair = compared(scores)
    text = f"KWER {percent(rate_of(last, 'kwer') or 0.0, 2)} ({last['system']})"
    if pair and rate_of(pair[0], "kwer") is not None:
        text += f", before {percent(rate_of(pair[0], 'kwer') or 0.0, 2)} ({pair[0]['system']})"
        text += _overlap(pair[0]["kwer"], last["kwer"])
    details = []
    for name, domain in (last.get("keywords") or {}).items():
        former = (pair[0].get("keywords") or {}).get(name) if pair else None
        details.append(f"{name}: {_domain(domain, former)}")
    return Answer(question, f"{text}.", details=details)


def conditions(scores: Scores, further: Sequence[ScoredSet] = ()) -> Answer:
    """Answer on which channels and in which domains the adaptation changed most, on all test sets.

    Where the scores have no p for a condition, overlapping intervals are said.
    """
    question = "Where did it help most, and where did it harm?"
    main = ScoredSet(MAIN, dict(scores) if scores else None, [])
    sets = {each.name: each for each in (main, *further)}
    pairs = {name: pair for name, each in sets.items() if (pair := compared(each.scores))}
    if not pairs:
        rows = headline_rows(scores)
        return Answer(question, "There is one system alone." if rows else NO_SCORES, UNKNOWN)
    alike = {name: told for name in pairs if (told := _same_for_all(sets[name].scores))}
    changes = sorted(
        (change for name, pair in pairs.items() for change in _condition_changes(*pair, name)),
        key=lambda change: change.points,
    )
    if not changes:
        text = "It cannot be told: the scored rows do not state channel, codec, language or speaker."
        told = "; ".join(alike.values())
        return Answer(question, f"All utterances are alike: {told}." if told else text, UNKNOWN)
    enough = [change for change in changes if change.utterances >= FEW]
    shown = _ends(enough, SHOWN)
    shown += _ends([change for change in changes if change.utterances < FEW], SHOWN - len(shown))
    told_of = {*shown, *enough[:1], *enough[-1:]}
    words = {change: change.words + _chance(change) for change in told_of}
    name = (lambda change: f"{change.of}: {change.name}") if further else (lambda change: change.name)
    details = [f"{name(change)}: {words[change]}" for change in shown]
    if len(shown) < len(changes):
        details.append(f"{counted(len(changes) - len(shown), 'more condition')}: see the scores")
    for of, told in alike.items():
        details.append(f"the same for all{f' of {of}' if further else ''}: {told}")
    if not enough:
        text = f"It cannot be told: no condition has {FEW} utterances, from which on its rate says something."
        return Answer(question, text, UNKNOWN, details)
    best, worst = enough[0], enough[-1]
    parts = [f"Most in {name(best)}: {words[best]}" if best.points < 0 else "It helped nowhere"]
    if worst.points > 0:
        parts.append(f"it harmed most in {name(worst)}: {words[worst]}")
    elif best.points < 0:
        least = f"; least in {name(worst)}: {words[worst]}" if worst != best else ""
        parts.append(f"it harmed nowhere{least}")
    return Answer(question, f"{'; '.join(parts)}.", details=details)


def _ends(changes: Sequence[_Change], most: int) -> list[_Change]:
    """The first and the last of a list that is longer than `most`."""
    if len(changes) <= most:
        return list(changes)
    last = most // 2
    return [*changes[: most - last], *changes[len(changes) - last :]]


def _same_for_all(scores: Scores) -> str:
    same = (scores or {}).get("same_for_all") or {}
    return ", ".join(f"{name} {value}" for name, value in same.items() if value != NOT_STATED)


@dataclass(frozen=True)
class _Change:
    """What became of CER in one condition; `points` as a share, below 0 for fewer errors."""

    of: str  # the test set
    condition: str
    value: str
    points: float
    utterances: int
    words: str
    overlap: str  # in words, if the intervals of the two rates overlap
    p: float | None

    @property
    def name(self) -> str:
        return f"{self.condition} {self.value}"


def _steps(scores: Scores) -> Iterator[str]:
    """One sentence for each stage: from which system, by how much, and whether it may be chance."""
    rows = {row["system"]: row for row in headline_rows(scores)}
    for name, row in rows.items():
        step = row.get("step") or {}
        former = rows.get(step.get("against", ""))
        now, then = rate_of(row, "cer"), rate_of(former, "cer") if former else None
        if now is None or then is None:
            continue
        gain, p = 1 - now / then if then else -inf if now else 0.0, _p(step)
        if p is None:
            judged = ""
        elif p >= P_LIMIT:
            judged = ": within chance"
        else:
            judged = ": it helps" if gain > 0 else ": it harms"
        yield (
            f"{name} after {step['against']}: {percent(then, 2)} -> {percent(now, 2)}, "
            f"{_lower(gain, now)}{_certainty(step)}{judged}"
        )


def _comparison(scores: Scores, a: str, b: str) -> Mapping[str, Any] | None:
    """The paired test between two systems: its p alone, for its interval is of the difference."""
    for row in (scores or {}).get("comparisons") or ():
        if (
            row.get("field") == HEADLINE
            and row.get("metric") == "cer"
            and {row.get("a"), row.get("b")} == {a, b}
        ):
            return {"p": row.get("p")}
    return None


def _condition_changes(before: Row, after: Row, of: str) -> Iterator[_Change]:
    """Every value of every condition that both systems have; what no row states is no condition."""
    for condition, values in (after.get("conditions") or {}).items():
        for value, now in values.items():
            then = ((before.get("conditions") or {}).get(condition) or {}).get(value) or {}
            rates = _rate(then.get("cer")), _rate(now.get("cer"))
            if rates[0] is None or rates[1] is None or value == NOT_STATED:
                continue
            number = int(finite(now.get("utterances")) or 0)
            words = f"CER {percent(rates[0], 2)} -> {percent(rates[1], 2)} on {counted(number, 'utterance')}"
            overlap = _overlap(then["cer"], now["cer"])
            p = _p(now) if now.get("against") == before["system"] else None
            yield _Change(of, condition, value, rates[1] - rates[0], number, words, overlap, p)


def _chance(change: _Change) -> str:
    """Give p of "no change in this condition"; of few utterances draws say too little for one."""
    if change.utterances < FEW:
        return ", too few for a test"
    return change.overlap if change.p is None else f", {p_value(change.p)}"


def _domain(domain: Mapping[str, Any], former: Mapping[str, Any] | None) -> str:
    parts = []
    for key in ("kwer", "recall", "precision", "f1"):
        rate, then = _rate(domain.get(key)), _rate((former or {}).get(key))
        if rate is not None:
            name = key.upper() if key in ("kwer", "f1") else key
            parts.append(
                f"{name} {percent(rate)}" + (f" (before {percent(then)})" if then is not None else "")
            )
    for key, where in (("without_keywords", "speech without them"), ("silence", "silence")):
        false = finite(domain.get(f"false_per_hour_{key}"))
        if false is not None:
            parts.append(f"{false:.1f} false an hour of {where}")
    return ", ".join(parts) or "none of its keywords is said"


def _all_rates(row: Row) -> str:
    told = [
        f"{metric.upper()} {percent(rate, 2)}{_interval(row[metric])}"
        for metric in ("cer", "wer", "kwer")
        if (rate := rate_of(row, metric)) is not None
    ]
    lost = len(row.get("failed") or ()) + len(row.get("missing") or ())
    if lost:
        told.append(f"{counted(lost, 'utterance')} failed or missing, counted as deleted")
    return ", ".join(told)


def _lower(gain: float, now: float) -> str:
    """A relative gain in words; in points where there was no error before."""
    if gain == -inf:
        return f"{100 * now:.2f} points higher"
    return f"{percent(gain)} lower" if gain >= 0 else f"{percent(-gain)} higher"


def _certainty(found: Mapping[str, Any]) -> str:
    """[low, high] of a relative gain, and p."""
    low, high, p = finite(found.get("low")), finite(found.get("high")), _p(found)
    words = f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None and high is not None else ""
    return words + (f", {p_value(p)}" if p is not None else "")


def _p(found: Mapping[str, Any]) -> float | None:
    return finite(found.get("p_value", found.get("p")))


def _interval(rate: Any) -> str:
    low, high = (
        (finite(rate.get(key)) for key in ("low", "high")) if isinstance(rate, Mapping) else (None, None)
    )
    return f" [{100 * low:.2f}, {100 * high:.2f}]" if low is not None and high is not None else ""


def _overlap(before: Any, after: Any) -> str:
    """Say where the intervals of two rates overlap: the difference may be chance."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return ""
    ends = [finite(rate.get(key)) for rate in (before, after) for key in ("low", "high")]
    if any(end is None for end in ends):
        return ""
    low_1, high_1, low_2, high_2 = ends
    return ", intervals overlap" if low_1 <= high_2 and low_2 <= high_1 else ""  # type: ignore[operator]


def _rate(value: Any) -> float | None:
    return finite(value.get("rate")) if isinstance(value, Mapping) else finite(value)
