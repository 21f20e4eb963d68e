"""CER, WER and KWER of several systems on one set, with bootstrap intervals and gains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nest_ssl.text.bootstrap import ROUNDS, interval, paired_p_value, resampled_rates
from nest_ssl.text.error_rates import alignments
from nest_ssl.text.hypotheses import Outputs, System, Utterance, outputs_of
from nest_ssl.text.keywords import Keywords
from nest_ssl.text.scored_text import scored_characters, scored_words

METRICS = ("cer", "wer", "kwer")
HEADLINE = "text"
FIELDS = (HEADLINE, "text_llm", "text_ctc")
KINDS = {"text_joint": "joint", "text_llm": "LLM only", "text_ctc": "CTC only"}


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


@dataclass
class Row:
    """One system and field."""

    system: str
    field: str
    kind: str
    rates: dict[str, Rate]
    outputs: Outputs
    gain: Gain | None = None
    step: Gain | None = None

    @property
    def empty(self) -> int:
        """How many texts are empty though they came out well."""
        lost = len(self.outputs.failed) + len(self.outputs.missing) + len(self.outputs.absent)
        return sum(1 for text in self.outputs.texts if not text.strip()) - lost


@dataclass
class Scores:
    """All rows, and what was counted: `counted` has the facts of the references."""

    rows: list[Row]
    counted: dict[str, float]
    absent: list[tuple[str, str]] = field(default_factory=list)  # (system, field) that no row has
    rounds: int = ROUNDS
    seed: int = 0


def score(
    systems: Sequence[System],
    references: Mapping[str, Utterance],
    fields: Sequence[str] = FIELDS,
    keywords: Keywords | None = None,
    baseline: Sequence[str] = (),
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Scores:
    """Score each field of each system on all utterances of `references`.

    baseline: names of systems; a gain counts against the one of them with the lowest CER in the same field.
    Raises ValueError for an unknown baseline, and where a system has no output at all.
    """
    names = [system.name for system in systems]
    unknown = [name for name in baseline if name not in names]
    if unknown:
        raise ValueError(f"baseline {unknown[0]!r} is none of the systems {', '.join(names)}")
    keys = list(references)
    said = [references[key].text for key in keys]
    counter = _Counter(said, keywords)
    rows: list[Row] = []
    counts: list[np.ndarray] = []
    result = Scores(rows, counter.facts(references), rounds=rounds, seed=seed)
    for system in systems:
        for name in fields:
            if name != HEADLINE and KINDS.get(name) == _kind(system, HEADLINE):
                continue  # the headline is this field
            outputs = outputs_of(system, keys, name)
            if outputs is None:
                if name == HEADLINE:
                    raise ValueError(f"{system.path} ({system.name}): no row has {name!r}, and none an error")
                result.absent.append((system.name, name))
                continue
            kind = _kind(system, name) if name == HEADLINE else KINDS.get(name, name)
            rows.append(Row(system.name, name, kind, {}, outputs))
            counts.append(counter.errors(outputs.texts))
    totals = np.tile(counter.totals, (1, len(rows)))
    samples = resampled_rates(np.concatenate(counts, axis=1), totals, rounds, seed)
    for i, row in enumerate(rows):
        for j, metric in enumerate(METRICS):
            if metric == "kwer" and keywords is None:
                continue
            low, high = interval(samples[:, i * len(METRICS) + j])
            errors, total = int(counts[i][:, j].sum()), int(counter.totals[:, j].sum())
            row.rates[metric] = Rate(errors, total, low, high)
    cer = samples[:, :: len(METRICS)]
    _add_gains(rows, cer, baseline)
    _add_steps(rows, cer, names, baseline)
    return result


class _Counter:
    """Counts errors against one set of references."""

    def __init__(self, said: Sequence[str], keywords: Keywords | None) -> None:
        self.keywords = keywords
        self.characters = [scored_characters(text) for text in said]
        self.words = [scored_words(text) for text in said]
        within = [0] * len(said)
        if keywords is not None:
            within = [sum(o.end - o.start for o in keywords.find(text)) for text in self.characters]
        sizes = [
            [len(c), len(w.split()), k] for c, w, k in zip(self.characters, self.words, within, strict=True)
        ]
        self.totals = np.array(sizes, dtype=np.int64)  # (N, 3), in the order of METRICS

    def errors(self, texts: Sequence[str]) -> np.ndarray:
        """Give (N, 3) counts, in the order of METRICS."""
        characters = [scored_characters(text) for text in texts]
        words = [scored_words(text) for text in texts]
        by_character = alignments(self.characters, characters, "characters")
        by_word = alignments(self.words, words, "words")
        found = np.zeros((len(texts), len(METRICS)), dtype=np.int64)
        found[:, 0] = [sum(edit.errors for edit in edits) for edits in by_character]
        found[:, 1] = [sum(edit.errors for edit in edits) for edits in by_word]
        if self.keywords is not None:
            pairs = zip(self.characters, characters, by_character, strict=True)
            found[:, 2] = [self.keywords.errors(said, heard, edits)[0] for said, heard, edits in pairs]
        return found

    def facts(self, references: Mapping[str, Utterance]) -> dict[str, float]:
        seconds = [u.duration_s for u in references.values()]
        known = [s for s in seconds if s is not None]
        characters, words, within = (int(n) for n in self.totals.sum(axis=0))
        facts: dict[str, float] = {
            "utterances": len(references),
            "without_speech": sum(1 for text in self.characters if not text),
            "audio_s": round(sum(known), 2),
            "without_duration": len(seconds) - len(known),
            "characters": characters,
            "words": words,
        }
        if self.keywords is not None:
            facts["keywords"] = len(self.keywords.words)
            facts["keyword_occurrences"] = sum(len(self.keywords.find(text)) for text in self.characters)
            facts["keyword_characters"] = within
        return facts


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


def _add_steps(rows: list[Row], cer: np.ndarray, names: Sequence[str], baseline: Sequence[str]) -> None:
    """Compare each system with the one before it; of the baselines only the first is a step."""
    chain = [name for name in names if name not in baseline[1:]]
    before = dict(zip(chain[1:], chain, strict=False))
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
