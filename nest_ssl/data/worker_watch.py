"""The death of a data worker is raised where a batch is asked for, and nowhere else."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import weakref
from collections.abc import Generator, Iterable, Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
PYTORCHS = "torch.utils.data._utils.signal_handling"  # the module of its handler


class DeadWorkerError(RuntimeError):
    """A worker process has ended by itself: its message names the process and what ended it."""


class WorkerWatch:
    """Watch the worker processes of one loader.

    PyTorch raises from its handler of SIGCHLD, so wherever the main thread is just then: in the middle of a
    checkpoint, or in somebody's `except Exception`, where it is lost.  Without any handler, a main thread
    that reads what a killed worker had half written waits for ever.  So the handler set here raises while a
    batch is asked for, and a worker that died before is found when the next one is.

    The workers do not hear SIGTERM, by which an interpreter ends those that nobody closed, and waits: it
    kills them here.
    """

    def __init__(self) -> None:
        self._processes: list[BaseProcess] = []

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Watch the processes started within, in place of earlier ones; none if that fails."""
        self._processes = []
        before, handler = set(multiprocessing.active_children()), _current_handler()
        try:
            yield
            self._processes = list(set(multiprocessing.active_children()) - before)
            Finalize(None, _kill, [weakref.WeakSet(self._processes)], exitpriority=0)
        finally:
            _handle_ended_children(handler)

    def next_of(self, results: Generator[T, None, None]) -> T:
        """Give next(results); raise DeadWorkerError if a worker is dead, or dies meanwhile."""
        global _asking
        in_main_thread = threading.current_thread() is threading.main_thread()
        outer = _asking  # of a loader whose own process reads from this one
        try:
            if in_main_thread:  # handlers of signals run there
                _asking = self
            self.check()
            return next(results)
        except DeadWorkerError:
            raise
        except RuntimeError:  # PyTorch's, where no signal tells
            self.check()
            raise
        finally:
            if in_main_thread:
                _asking = outer

    def check(self) -> None:
        """Raise DeadWorkerError if a worker has ended."""
        for process in self._processes:
            if not process.is_alive():
                raise DeadWorkerError(f"process {process.pid} {_how_it_ended(process.exitcode)}")

    def forget(self) -> None:
        """Let the workers end: from here on that is nobody's error."""
        self._processes = []


_asking: WorkerWatch | None = None  # the main thread waits for a batch of this one's workers


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        process.kill()


def _how_it_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def _current_handler() -> Any:
    return signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None


def _handle_ended_children(previous: Any) -> None:
    """Put a handler of ours in PyTorch's place, which calls the one that was there before as PyTorch does.

    Not PyTorch's, there since an earlier DataLoader: it would raise for our workers, too, and that loader
    looks for dead workers every few seconds anyway.
    """
    if isinstance(previous, _ChildEnded):
        previous = previous.previous
    if getattr(previous, "__module__", None) == PYTORCHS:
        previous = None
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _ChildEnded(previous))


class _ChildEnded:
    def __init__(self, previous: Any) -> None:
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        global _asking
        watch = _asking
        if watch is not None:  # in a worker it has no processes
            try:
                watch.check()
            except DeadWorkerError:
                _asking = None  # raise once, whatever that interrupts
                raise
        if callable(self.previous):
            self.previous(number, frame)
