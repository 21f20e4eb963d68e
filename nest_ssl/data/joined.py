"""Several corpora in one: the parts of a concat dataset, of bucketing lists, of an input_cfg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nest_ssl.data.corpus import Corpus, Utterance


class JoinedCorpus:
    """The utterances of `parts`, one part after the other; what Corpus has is here over all parts.

    starts: (parts + 1,) item at which each part begins, and the end.
    """

    def __init__(self, parts: Sequence[Corpus]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0] + [len(part) for part in self.parts])
        self._row_starts = np.cumsum([0] + [part.num_rows for part in self.parts])
        self.num_rows = int(self._row_starts[-1])
        self.manifests: list[Path] = [path for part in self.parts for path in part.manifests]
        self.dropped = dict(sum((Counter(part.dropped) for part in self.parts), Counter()))
        self.stated_durations = np.concatenate([part.stated_durations for part in self.parts])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, item: int) -> Utterance:
        part, inside = self._where(item)
        utterance = self.parts[part][inside]
        return replace(utterance, number=utterance.number + int(self._row_starts[part]))

    def place(self, item: int) -> str:
        """Give "manifest:line" of an item without reading it."""
        part, inside = self._where(item)
        return self.parts[part].place(inside)

    def lengths(self) -> np.ndarray:
        """Give (N,) float32 seconds; the audio header's where a row states none, or not a positive one."""
        return np.concatenate([part.lengths() for part in self.parts])

    def fingerprint(self) -> list[str]:
        """Give texts that differ between corpora of other content, wherever they are."""
        return [text for part in self.parts for text in part.fingerprint()]

    def _where(self, item: int) -> tuple[int, int]:
        if not 0 <= item < len(self):
            raise IndexError(f"there are {len(self)} utterances, so none is number {item}")
        part = int(np.searchsorted(self.starts, item, side="right")) - 1
        return part, int(item) - int(self.starts[part])
