"""The choice among candidate texts by CTC and language model together, and its weights from a dev set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MODES = ("joint", "llm", "ctc")  # of decoding
WEIGHTS = tuple(n / 20 for n in range(21))
BONUSES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # nats per CTC token
LEAST_GAIN = 0.01  # of the errors; a bonus that saves less stays out, it would only fit the dev set


@dataclass(frozen=True)
class Candidate:
    """A text; log_prob_llm and log_prob_ctc: nats of the whole text, None where it was not scored.

    length: CTC tokens of the text.  source: "llm", "greedy" or "ctc", whoever named it first.
    """

    text: str
    log_prob_llm: float | None
    log_prob_ctc: float | None
    length: int = 0
    source: str = "llm"

    def as_row(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "logp_llm": rounded(self.log_prob_llm),
            "logp_ctc": rounded(self.log_prob_ctc),
            "length": self.length,
            "source": self.source,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Candidate:
        """Read what as_row gave."""
        return cls(row["text"], row["logp_llm"], row["logp_ctc"], row["length"], row["source"])


@dataclass(frozen=True)
class JointWeights:
    """score = ctc_weight * ln P_ctc + (1 - ctc_weight) * ln P_llm + length_bonus * length, of whole texts."""

    ctc_weight: float = 0.7
    length_bonus: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise ValueError(f"the weight of CTC is a number from 0 to 1, not {self.ctc_weight}")
        if not math.isfinite(self.length_bonus):
            raise ValueError(f"the bonus per token is a number of nats, not {self.length_bonus}")

    def score(self, candidate: Candidate) -> float:
        """Give the score in nats; -inf where a part that counts is impossible or was not scored."""
        found = self.length_bonus * candidate.length
        for weight, part in (
            (self.ctc_weight, candidate.log_prob_ctc),
            (1.0 - self.ctc_weight, candidate.log_prob_llm),
        ):
            if weight > 0.0:
                found += weight * (-math.inf if part is None else part)
        return found

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Give the candidate of the highest score, the first of equal ones.

        Where all of them are impossible, the one that the language model likes best.
        """
        if not candidates:
            raise ValueError("there is no candidate to choose from")
        found = max(candidates, key=self.score)
        if self.score(found) > -math.inf:
            return found
        return max(candidates, key=lambda one: -math.inf if one.log_prob_llm is None else one.log_prob_llm)


@dataclass(frozen=True)
class Tuning:
    """What a dev set says: the chosen weights, their errors, and errors by CTC weight without a bonus."""

    weights: JointWeights
    errors: int
    characters: int
    utterances: int
    by_weight: Mapping[float, int]

    def as_dict(self) -> dict[str, Any]:
        rate = self.characters or math.nan
        return {
            "ctc_weight": self.weights.ctc_weight,
            "length_bonus": self.weights.length_bonus,
            "cer": round(self.errors / rate, 6),
            "errors": self.errors,
            "characters": self.characters,
            "utterances": self.utterances,
            "cer_by_ctc_weight": {
                f"{weight:g}": round(errors / rate, 6) for weight, errors in self.by_weight.items()
            },
        }


def tune(
    utterances: Sequence[tuple[Sequence[Candidate], str]], count_errors: Callable[[str, str], tuple[int, int]]
) -> Tuning:
    """Choose weights by the errors of (candidates, reference) pairs.

    count_errors(reference, hypothesis) gives (errors, units of the reference).  Of equally good weights the
    middle one of the longest run is taken, as the least likely to be an accident.  A length bonus is
    taken only where it saves LEAST_GAIN of the errors.  Raises ValueError without utterances.
    """
    if not utterances:
        raise ValueError("there is no utterance with a reference and candidates to choose the weight by")
    table = [
        {one.text: count_errors(reference, one.text) for one in candidates}
        for candidates, reference in utterances
    ]
    characters = sum(next(iter(errors.values()))[1] for errors in table)

    def errors_of(weights: JointWeights) -> int:
        return sum(
            errors[weights.best(candidates).text][0]
            for errors, (candidates, _) in zip(table, utterances, strict=True)
        )

    plain = {weight: errors_of(JointWeights(weight)) for weight in WEIGHTS}
    chosen, fewest = JointWeights(_middle_of_best(plain)), min(plain.values())
    for bonus in BONUSES[1:]:
        found = {weight: errors_of(JointWeights(weight, bonus)) for weight in WEIGHTS}
        least = min(found.values())
        if least < fewest and least <= min(plain.values()) * (1 - LEAST_GAIN):
            chosen, fewest = JointWeights(_middle_of_best(found), bonus), least
    return Tuning(chosen, fewest, characters, len(utterances), plain)


def _middle_of_best(errors: Mapping[float, int]) -> float:
    """Give the middle key of the longest run of the fewest errors; keys are in order."""
    fewest, keys = min(errors.values()), list(errors)
    runs: list[list[float]] = [[]]
    for key in keys:
        if errors[key] == fewest:
            runs[-1].append(key)
        elif runs[-1]:
            runs.append([])
    longest = max(runs, key=len)
    return longest[(len(longest) - 1) // 2]


def rounded(value: float | None) -> float | None:
    """Give nats to four places for a row; None for what JSON cannot say."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
