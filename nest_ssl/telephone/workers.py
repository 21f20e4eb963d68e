"""Worker processes that a damaged input may kill: what they were given is tried again, alone, and then named.

The result of a unit of work does not depend on which worker makes it, nor on how many there are: BLAS keeps
to one thread in each.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

from nest_ssl.files.system import loaded_libraries, starts_processes_by_fork

Unit = tuple[int, ...]  # one piece of work, as it is sent to a worker

AHEAD = 16  # units that a worker has left when it is given more
PAUSE_S = 0.03
STILLBORN = 3  # workers that may die before they are ready
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)


class Work(Protocol):
    """What a worker does; pickled where processes cannot fork."""

    def start(self) -> Callable[[Unit], bytes]:
        """Give the function that does one unit, made within the worker."""


class Report(NamedTuple):
    """What became of a unit: its result, or None and how it killed its worker.

    cpu_s: processor time of the worker since its last report.
    """

    unit: Unit
    result: bytes | None
    cpu_s: float = 0.0
    death: str = ""


def run_tasks(
    work: Work,
    tasks: Iterator[Sequence[Unit]],
    num_workers: int,
    close_in_workers: Sequence[Any] = (),
) -> Iterator[Report]:
    """Have every unit of all tasks done by `num_workers` processes, and give their reports as they come.

    A worker that dies costs what it was at: that unit is done again by a worker of its own when all others
    have ended, and if it kills that one too it is reported as dead.  An exception that `work` raises ends
    everything and is raised here; so does closing the iterator, which leaves no process behind.
    close_in_workers: files that forked workers inherit and must not keep open.
    """
    pool = _Pool(work, num_workers, close_in_workers)
    try:
        yield from pool.run(tasks)
    finally:
        pool.stop()


@dataclass
class _Worker:
    process: Any
    connection: Connection
    pending: deque[Unit]  # given to it and not reported, in order
    alone: bool
    ready: bool = False


class _Pool:
    def __init__(self, work: Work, num_workers: int, close_in_workers: Sequence[Any]) -> None:
        self.work = work
        self.num_workers = num_workers
        self.close_in_workers = close_in_workers
        self.forks = starts_processes_by_fork()
        self.context = multiprocessing.get_context("fork" if self.forks else "spawn")
        self.workers: dict[Any, _Worker] = {}
        self.again: deque[list[Unit]] = deque()  # what dead workers had not come to
        self.suspects: deque[Unit] = deque()
        self.stillborn = 0

    def run(self, tasks: Iterator[Sequence[Unit]]) -> Iterator[Report]:
        while True:
            while len(self.workers) < self.num_workers and (task := self.next_task(tasks)):
                self.begin(task)
            if not self.workers and self.suspects:
                self.begin([self.suspects.popleft()], alone=True)
            if not self.workers:
                return
            ready = wait(list(self.workers))
            if all(len(worker.pending) >= AHEAD for worker in self.workers.values()):
                time.sleep(PAUSE_S)  # to wake once for the results of all files of that time
            for connection in ready:
                yield from self.receive(self.workers[connection], tasks)

    def receive(self, worker: _Worker, tasks: Iterator[Sequence[Unit]]) -> Iterator[Report]:
        """Give what a worker has reported by now, and see that it has work."""
        while True:
            try:
                kind, content, cpu_s = worker.connection.recv()
            except (EOFError, OSError):
                yield from self.bury(worker)
                return
            if kind == "raised":
                raise content
            worker.ready = True
            if kind == "ready":
                self.stillborn = 0
            else:
                yield Report(worker.pending.popleft(), content, cpu_s)
            if len(worker.pending) < AHEAD and not worker.alone and (task := self.next_task(tasks)):
                self.give(worker, task)
            if not worker.pending:
                self.give(worker, [])
                return
            if not worker.connection.poll():
                return

    def next_task(self, tasks: Iterator[Sequence[Unit]]) -> list[Unit]:
        return self.again.popleft() if self.again else list(next(tasks, ()))

    def begin(self, units: list[Unit], alone: bool = False) -> None:
        """Start a worker on its first task."""
        ours, theirs = self.context.Pipe()
        inherited = [ours, *(worker.connection for worker in self.workers.values()), *self.close_in_workers]
        arguments = (self.work, theirs, os.getpid(), inherited if self.forks else [])
        with _one_thread_each() if not self.forks else contextlib.nullcontext():
            process = self.context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
            process.start()
        theirs.close()
        worker = self.workers[ours] = _Worker(process, ours, deque(), alone)
        self.give(worker, units)

    def give(self, worker: _Worker, units: list[Unit]) -> None:
        """Send a worker its next task; without one it ends."""
        worker.pending.extend(units)
        with contextlib.suppress(OSError):  # it has died, which its connection tells next
            worker.connection.send(units)
        if not units:
            del self.workers[worker.connection]
            worker.connection.close()
            worker.process.join()

    def bury(self, worker: _Worker) -> Iterator[Report]:
        """Take back what a dead worker had not done; a unit that killed it alone is given as dead."""
        del self.workers[worker.connection]
        worker.connection.close()
        worker.process.join()
        how = _way_of_death(worker.process.exitcode)
        if not worker.ready:
            self.stillborn += 1
            if self.stillborn > STILLBORN:
                raise ChildProcessError(f"worker processes end before they are ready: {how}")
            self.again.append(list(worker.pending))
        elif worker.alone:
            yield Report(worker.pending[0], None, death=how)
        else:
            self.suspects.append(worker.pending.popleft())
            if worker.pending:
                self.again.append(list(worker.pending))

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.process.terminate()
        for worker in self.workers.values():
            worker.process.join()
            worker.connection.close()
        self.workers.clear()


def _serve(work: Work, connection: Connection, parent: int, inherited: list[Any]) -> None:
    """The life of a worker: tasks in, results out, until the parent has no more or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for file in inherited:
        file.close()
    limit_blas_threads()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            function = work.start()
            connection.send(("ready", None, 0.0))
            cpu_before = time.process_time()
            while units := connection.recv():
                for unit in units:
                    if starts_processes_by_fork() and os.getppid() != parent:
                        os._exit(1)  # the parent was killed
                    result = function(unit)
                    cpu = time.process_time()
                    connection.send(("done", result, cpu - cpu_before))
                    cpu_before = cpu
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            connection.send(("raised", _sendable(error), 0.0))


def _sendable(error: Exception) -> Exception:
    """Give an exception that can be unpickled by the parent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def limit_blas_threads() -> None:
    """Have OpenBLAS, which numpy and scipy bring along, work with one thread in this process.

    Sums of several threads are added in another order, so the last bit would depend on the machine.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    for path in loaded_libraries("openblas"):  # none where processes are spawned: the variables are set there
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for prefix in ("scipy_", ""):
                for suffix in ("64_", ""):
                    set_threads = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
                    if set_threads is not None:
                        set_threads(1)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are spawned meanwhile load their libraries with one thread."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _way_of_death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
