"""A function over many items on several processes, results in the order of the items, memory bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from nest_ssl.files.system import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

UNDER_WAY_PER_WORKER = 4


def worker_count(workers: int) -> int:
    """Give the number of processes: 0 stands for all processors that this process may use."""
    if workers < 0:
        raise ValueError(f"workers: {workers} is below 0; 0 means all cores")
    return workers or usable_cpus()


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Give function(item) of each item in order; with one worker in this process.

    `function` and items must be picklable.  On Ctrl-C the workers end with this process.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # spawned: codec libraries and thread pools of this process do not survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupt)
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            with _interrupts_held_back():  # submitting may start a worker
                under_way.append(pool.submit(function, item))
            if len(under_way) >= UNDER_WAY_PER_WORKER * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Give the items in lists of `size`, the last one shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Keep Ctrl-C for the end of the block; processes that are started within never see it (not on Windows).

    Without it a worker that is still importing would print a traceback.
    """
    set_mask = getattr(signal, "pthread_sigmask", None)
    if set_mask is None:
        yield
        return
    before = set_mask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        set_mask(signal.SIG_SETMASK, before)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the main process; a BLAS thread per core in each worker would only fight."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
