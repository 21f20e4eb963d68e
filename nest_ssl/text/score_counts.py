"""What is counted of every utterance: errors on characters, words and keywords, against its reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nest_ssl.text.error_rates import Edit, alignments, edit_distances
from nest_ssl.text.hypotheses import Utterance
from nest_ssl.text.keyword_counts import COLUMNS, FalseAlarms, false_alarms, keyword_table
from nest_ssl.text.keywords import KeywordLists, Keywords, Occurrence, covered
from nest_ssl.text.reading import Languages
from nest_ssl.text.scored_text import ScoringRules, words_of

CHUNK = 2000  # utterances between two steps of a progress bar
METRICS = ("cer", "wer", "kwer", "cer_outside_keywords")


@dataclass(frozen=True)
class Counts:
    """Of one field of one system, utterance by utterance.

    hypotheses: as scored by characters.  errors: (N, C) int32, in the order of Counter.columns.  keywords: by
    domain, as keyword_counts.keyword_table.
    """

    hypotheses: list[str]
    errors: np.ndarray
    keywords: dict[str, np.ndarray] = field(default_factory=dict)


class Counter:
    """Counts errors against one set of references.

    keys, durations_s, characters, words: (N,) of the references, the texts as scored.
    languages: by which language's rules texts are read.
    domains: name -> keywords, the first is what KWER is of; expected: where they stand in each reference.
    columns: what `errors` and `totals` count:
    "cer", "wer", with keywords "kwer" and "cer_outside_keywords", and "kwer NAME" of domains after the first.
    totals: (N, C) int64, the units that errors are counted over.
    """

    def __init__(
        self, references: Mapping[str, Utterance], keywords: KeywordLists | None, rules: ScoringRules
    ) -> None:
        self.rules = rules
        self.keys = list(references)
        said = list(references.values())
        self.languages = Languages(said)
        self.durations_s = [utterance.duration_s for utterance in said]
        texts = [utterance.text for utterance in said]
        self.characters = self._scored(texts)
        self.words = [words_of(text) for text in self.characters]
        self.domains: dict[str, Keywords] = dict(keywords) if keywords is not None else {}
        self.expected = {name: self._expected(listed) for name, listed in self.domains.items()}
        self.columns = ["cer", "wer"]
        sizes = [[len(text) for text in self.characters], [len(text.split()) for text in self.words]]
        if self.domains:
            first, *others = self.domains
            within = {name: [len(covered(o)) for o in found] for name, found in self.expected.items()}
            self.columns += ["kwer", "cer_outside_keywords", *(f"kwer {name}" for name in others)]
            outside = [size - inside for size, inside in zip(sizes[0], within[first], strict=True)]
            sizes += [within[first], outside, *(within[name] for name in others)]
        self.totals = np.array(sizes, dtype=np.int64).T.reshape(len(texts), len(self.columns))

    def column(self, domain: str) -> int:
        """Give the column of the KWER of a domain."""
        first = next(iter(self.domains))
        return self.columns.index("kwer" if domain == first else f"kwer {domain}")

    def count(self, texts: Sequence[str], advance: Callable[[int], object] | None = None) -> Counts:
        """Count the errors of (N,) hypotheses as written; `advance` is told how many more are done."""
        keywords = {name: np.zeros((len(texts), len(COLUMNS)), np.int32) for name in self.domains}
        found = Counts([], np.zeros((len(texts), len(self.columns)), np.int32), keywords)
        for start in range(0, len(texts), CHUNK):
            end = min(start + CHUNK, len(texts))
            self._count(texts, start, end, found)
            if advance is not None:
                advance(end - start)
        return found

    def _count(self, texts: Sequence[str], start: int, end: int, found: Counts) -> None:
        said = self.characters[start:end]
        heard = self._scored(texts[start:end], start)
        errors = edit_distances(said, heard, "characters")
        columns: list[Sequence[int] | np.ndarray] = [
            errors,
            edit_distances(self.words[start:end], map(words_of, heard), "words"),
        ]
        edits = self._edits_at_keywords(said, heard, start)
        for name, listed in self.domains.items():
            table = keyword_table(listed, said, heard, errors, edits, self.expected[name][start:end])
            found.keywords[name][start:end] = table
            columns.append(table[:, COLUMNS.index("errors")])
            if len(columns) == 3:
                columns.append(table[:, COLUMNS.index("outside_errors")])
        found.errors[start:end] = np.array(columns).T
        found.hypotheses.extend(heard)

    def _edits_at_keywords(self, said: Sequence[str], heard: Sequence[str], start: int) -> list[list[Edit]]:
        """Align the pairs whose reference has a keyword of the first domain, which has those of all."""
        edits: list[list[Edit]] = [[]] * len(said)
        for expected in [self.expected[name] for name in self.domains][:1]:
            places = [i for i in range(len(said)) if expected[start + i]]
            aligned = alignments([said[i] for i in places], [heard[i] for i in places], "characters")
            for i, one in zip(places, aligned, strict=True):
                edits[i] = one
        return edits

    def false_alarms(self, counts: np.ndarray) -> FalseAlarms:
        """Give the false keywords per hour of speech without keywords and of silence."""
        return false_alarms(self.characters, counts, self.durations_s)

    def facts(self) -> dict[str, float]:
        """Give what the references are made of."""
        known = [s for s in self.durations_s if s is not None]
        sums = self.totals.sum(axis=0)
        facts: dict[str, float] = {
            "utterances": len(self.keys),
            "without_speech": sum(1 for text in self.characters if not text),
            "audio_s": round(sum(known), 2),
            "without_duration": len(self.keys) - len(known),
            "characters": int(sums[0]),
            "words": int(sums[1]),
        }
        if self.domains:
            first = next(iter(self.domains))
            facts["keywords"] = len(self.domains[first].words)
            facts["keyword_occurrences"] = sum(map(len, self.expected[first]))
            facts["keyword_characters"] = int(sums[2])
        return facts

    def unsaid(self) -> list[str]:
        """Give the keywords that stand in no reference, of the first domain."""
        for name, listed in self.domains.items():
            said = {found.keyword for here in self.expected[name] for found in here}
            return [word for word in listed.words if word not in said]
        return []

    def _scored(self, texts: Sequence[str], start: int = 0) -> list[str]:
        of = self.languages.of
        return [self.rules.characters(text, of(text, place)) for place, text in enumerate(texts, start)]

    def _expected(self, listed: Keywords) -> list[Sequence[Occurrence]]:
        return [listed.find(text) or () for text in self.characters]
