"""What is counted of every utterance: errors on characters, words and keywords, against its reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nest_ssl.text.error_rates import Edit, alignments, edit_distances
from nest_ssl.text.hypotheses import Utterance
from nest_ssl.text.keyword_counts import FalseAlarms, KeywordCounts, false_alarms, keyword_counts
from nest_ssl.text.keywords import KeywordLists, Keywords, covered
from nest_ssl.text.reading import Languages
from nest_ssl.text.scored_text import ScoringRules

CHUNK = 2000  # utterances between two steps of a progress bar
METRICS = ("cer", "wer", "kwer", "cer_outside_keywords")


@dataclass(frozen=True)
class Counts:
    """Of one field of one system, utterance by utterance.

    hypotheses: as scored by characters, and `edits` their alignments.  errors: (N, C) int64, in the order of
    Counter.columns.  keywords: by domain.
    """

    hypotheses: list[str]
    edits: list[list[Edit]]
    errors: np.ndarray
    keywords: dict[str, list[KeywordCounts]] = field(default_factory=dict)


class Counter:
    """Counts errors against one set of references.

    keys, durations_s, characters, words: (N,) of the references, the texts as scored.
    languages: by which language's rules texts are read.
    domains: name -> keywords, the first is what KWER is of.  columns: what `errors` and `totals` count:
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
        self.characters = self._scored(rules.characters, texts)
        self.words = self._scored(rules.words, texts)
        self.domains: dict[str, Keywords] = dict(keywords) if keywords is not None else {}
        self.columns = ["cer", "wer"]
        sizes = [[len(text) for text in self.characters], [len(text.split()) for text in self.words]]
        if self.domains:
            first, *others = self.domains
            within = {name: self._within(listed) for name, listed in self.domains.items()}
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
        found = Counts(
            [], [], np.zeros((len(texts), len(self.columns)), np.int64), {n: [] for n in self.domains}
        )
        for start in range(0, len(texts), CHUNK):
            end = min(start + CHUNK, len(texts))
            self._count(texts, start, end, found)
            if advance is not None:
                advance(end - start)
        return found

    def _count(self, texts: Sequence[str], start: int, end: int, found: Counts) -> None:
        said = self.characters[start:end]
        heard = self._scored(self.rules.characters, texts[start:end], start)
        words = self._scored(self.rules.words, texts[start:end], start)
        edits = alignments(said, heard, "characters")
        columns = [
            [sum(edit.errors for edit in one) for one in edits],
            edit_distances(self.words[start:end], words, "words"),
        ]
        for name, listed in self.domains.items():
            counts = [keyword_counts(listed, *pair) for pair in zip(said, heard, edits, strict=True)]
            columns.append([count.errors for count in counts])
            if len(columns) == 3:
                columns.append([count.outside_errors for count in counts])
            found.keywords[name] += counts
        found.errors[start:end] = np.array(columns, dtype=np.int64).T
        found.hypotheses.extend(heard)
        found.edits.extend(edits)

    def false_alarms(self, counts: Sequence[KeywordCounts]) -> FalseAlarms:
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
            listed = next(iter(self.domains.values()))
            facts["keywords"] = len(listed.words)
            facts["keyword_occurrences"] = sum(len(listed.find(text)) for text in self.characters)
            facts["keyword_characters"] = int(sums[2])
        return facts

    def unsaid(self) -> list[str]:
        """Give the keywords that stand in no reference, of the first domain."""
        listed = next(iter(self.domains.values()), None)
        if listed is None:
            return []
        said = {found.keyword for text in self.characters for found in listed.find(text)}
        return [word for word in listed.words if word not in said]

    def _scored(
        self, cut: Callable[[str, str | None], str], texts: Sequence[str], start: int = 0
    ) -> list[str]:
        return [cut(text, self.languages.of(text, place)) for place, text in enumerate(texts, start)]

    def _within(self, listed: Keywords) -> list[int]:
        return [len(covered(listed.find(text))) for text in self.characters]
