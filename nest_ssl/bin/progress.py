"""Progress of a corpus: a bar with rate and time left on a terminal, a line a minute in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from nest_ssl.bin.terminal import SECONDS_PER_LINE, in_log, progress_bar
from nest_ssl.files.clock import clock

log = logging.getLogger(__name__)


class CorpusProgress:
    """Counts outputs and their audio; what earlier runs have done is in the count, not in the rate."""

    def __init__(self, total: int, name: str, bar: tqdm | None) -> None:
        self._total, self._name = total, name
        self._bar = bar
        self._logs = bar is None or bar.disable or in_log()
        self._done = self._earlier = 0
        self._audio_s = 0.0
        self._started = self._last_line = time.monotonic()

    def advance(self, count: int, audio_s: float) -> None:
        """Count outputs that are done, with their seconds of audio; 0 s for those not made by this run."""
        now = time.monotonic()
        if self._done == 0 and count > 1:  # a run begins with what earlier ones have done
            self._earlier, self._started = count, now
        self._done += count
        self._audio_s += audio_s
        elapsed = now - self._started
        bar = self._bar
        if bar is not None and not bar.disable:
            if elapsed > 1:
                bar.set_postfix_str(f"{self._audio_s / elapsed:.0f}x real time", refresh=False)
            bar.update(count)
        if self._logs and now - self._last_line >= SECONDS_PER_LINE and elapsed > 0:
            self._last_line = now
            self._log(elapsed)

    def _log(self, elapsed: float) -> None:
        made = self._done - self._earlier
        left_s = (self._total - self._done) * elapsed / made if made else 0.0
        log.info(
            "%s utterances %d/%d (%.1f %%) audio_s/s %.0f eta %s",
            self._name, self._done, self._total, 100 * self._done / max(1, self._total),
            self._audio_s / elapsed, clock(left_s),
        )  # fmt: skip


def training_bars(name: str) -> Callable[..., tqdm]:
    """Give what draws the bars of a training: of its steps, and of a validation while that lasts.

    In a log the steps have the lines of train.log; a long validation says now and then how far it is.
    """

    def bar(total: float, initial: float, validation: bool = False) -> tqdm:
        if validation:
            return progress_bar(total, "batch", f"{name} validation", initial)
        return progress_bar(total, "step", name, initial, lines=False)

    return bar


@contextmanager
def corpus_progress(total: int, verb: str, shard: tuple[int, int]) -> Iterator[CorpusProgress]:
    """Give the progress of one shard; only the first of several draws a bar, or they would overwrite it."""
    number, count = shard
    name = verb if count == 1 else f"{verb} shard {number}/{count}"
    if number > 1:
        yield CorpusProgress(total, name, None)
        return
    with progress_bar(total, "utt", name, lines=False) as bar:
        yield CorpusProgress(total, name, bar)
