#!/usr/bin/env python3
"""Run a command as N shards, each with a log of its own, on this machine or as a Slurm array.

    utils/submit.py JOB=1:4 data/log/simulate.JOB.log python3 -m nest_ssl.bin.simulate --shard JOB/4

Kaldi's line: JOB is replaced by 1, 2, 3, 4 in LOG and in every word of the command. Without JOB=1:N the
command runs once. The words reach the program as they are, through no shell; for a pipe: bash -c '... | ...'.
Ends with status 0 only if every shard did, with the command's own where it ran once, otherwise with 1. Only
the standard library: it runs before the environment exists.

With --backend slurm the shards are tasks of one job array. --flags has sbatch's own flags, untranslated:

    utils/submit.py --backend slurm --flags="--partition=cpu --mem=4G" JOB=1:4 LOG COMMAND...
    utils/submit.py --backend slurm --srun --flags="--nodes=2 --ntasks-per-node=8 --gpus=16" LOG COMMAND...
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

DRAW_S = 1.0  # between two looks at the logs of the shards, where a person watches
LINE_S = 60.0  # between two lines about them in a log
# how far a shard is, as our verbs say it: `utterances 34/102 (33.3 %) ... eta 0:02:10`, `step 2/6 epoch ...`
AT = re.compile(rb" (step|[a-z]+(?= \d+/\d+ \()) (\d+)/(\d+) [^\n]*? eta (\d+):(\d\d):(\d\d)")
GRACE_S = 10  # between the polite signal and SIGKILL; less than the recipe layer gives us
TAIL_LINES = 25
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Shard:
    """One run of the command."""

    number: int
    log: Path
    command: list[str]
    tries: int = 0
    started: float = 0.0
    outcome: str = "not started"  # "" once it ended with status 0


@dataclass
class Job:
    """What was asked for. Back ends fill in the outcome of every shard."""

    shards: list[Shard]
    logs: str  # the LOG word with its JOB in place, for messages
    max_jobs_run: int | None  # None: as many as the back end can
    retry: int
    environment: dict[str, str] = field(default_factory=dict)


def main() -> int:
    arguments = parse_arguments(sys.argv[1:])
    try:
        job = build_job(arguments)
    except ValueError as error:
        print(f"submit.py: {error}", file=sys.stderr)
        return 2
    report_path = os.environ.get("NEST_SHARD_REPORT")
    if report_path:
        Path(report_path).unlink(missing_ok=True)
    if arguments.backend == "slurm":
        from submit_slurm import Settings, SlurmRun, SubmitError

        settings = Settings(arguments.flags, arguments.srun, arguments.poll)
        try:
            stopped_by = SlurmRun(job, settings).run()
        except SubmitError as error:
            print(f"submit.py: {error}", file=sys.stderr)
            return 1
    else:
        stopped_by = LocalRun(job).run()
    if stopped_by:
        print(f"submit.py: stopped by {signal.Signals(stopped_by).name}", file=sys.stderr)
        return 128 + stopped_by
    return report_failures(job, report_path)


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="submit.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] [JOB=1:N] LOG COMMAND...",
        allow_abbrev=False,
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--backend", default="local", choices=["local", "slurm"], help="where to run (default: local)"
    )
    parser.add_argument(
        "--max-jobs-run",
        type=int,
        metavar="N",
        help=f"shards at a time (default: cores, here {cores}; with slurm as many as Slurm gives)",
    )
    parser.add_argument(
        "--retry",
        type=int,
        default=0,
        metavar="N",
        help="start a failed shard again up to N times; earlier logs stay as LOG.backup.1, ...",
    )
    slurm = parser.add_argument_group("with --backend slurm")
    slurm.add_argument(
        "--flags", type=shlex.split, default=[], action="extend", help="of sbatch; write --flags='...'"
    )
    slurm.add_argument(
        "--srun", action="store_true", help="start the command with srun: once per task of the job"
    )
    slurm.add_argument(
        "--poll",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds between two looks (default: %(default)g)",
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.backend == "local" and (arguments.flags or arguments.srun):
        parser.error("--flags and --srun are for --backend slurm")
    if arguments.backend == "local" and arguments.max_jobs_run is None:
        arguments.max_jobs_run = cores
    if arguments.poll <= 0:
        parser.error(f"--poll {arguments.poll}: above 0")
    if arguments.max_jobs_run is not None and arguments.max_jobs_run < 1:
        parser.error(f"--max-jobs-run {arguments.max_jobs_run}: at least 1")
    if arguments.retry < 0:
        parser.error(f"--retry {arguments.retry}: 0 or more")
    return arguments


def build_job(arguments: argparse.Namespace) -> Job:
    """Turn the words after the options into shards; ValueError says what does not fit."""
    words: list[str] = arguments.words
    numbers = [1]
    name = ""
    array = re.fullmatch(r"([A-Za-z_]\w*)=(.*)", words[0]) if words else None
    if array:
        bounds = re.fullmatch(r"(\d+)(?::(\d+))?", array[2])
        if not bounds:
            raise ValueError(f"{words[0]}: the shards are given as {array[1]}=1:N")
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if first < 1 or last < first:
            raise ValueError(f"{words[0]}: shards count from 1, and the last is not before the first")
        name, numbers, words = array[1], list(range(first, last + 1)), words[1:]
    if len(words) < 2:
        raise ValueError("the form is: submit.py [options] [JOB=1:N] LOG COMMAND...; see --help")
    log, command = words[0], words[1:]
    if len(numbers) > 1 and name not in log:
        raise ValueError(f"{log}: {len(numbers)} shards would write the same log; put {name} into its name")
    here = str(Path(__file__).resolve().parent.parent)
    if name and name in here and any(here in word for word in words):
        raise ValueError(f"{here}: this path contains {name}, which every shard replaces; move the checkout")

    def fill(word: str, number: int) -> str:
        return word.replace(name, str(number)) if name else word

    shards = [Shard(n, Path(fill(log, n)), [fill(word, n) for word in command]) for n in numbers]
    environment = dict(os.environ)
    if len(shards) > 1:
        environment.pop("NEST_PROGRESS_FD", None)  # bars of several shards would overwrite each other
    return Job(shards, log, arguments.max_jobs_run, arguments.retry, environment)


class LocalRun:
    """The shards of a job as processes of this machine, each the leader of its own process group."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.max_jobs_run = job.max_jobs_run or len(job.shards)
        self.running: dict[int, Shard] = {}  # by process id, which is also the process group
        self.waiting = list(job.shards)
        self.ended = 0
        self.failed = 0
        self.stopped_by = 0
        self.over = threading.Event()
        self.drawing = threading.Lock()
        self.begin = time.time()
        self.progress_fd = find_terminal(os.environ) if len(job.shards) > 1 else None

    def run(self) -> int:
        """Run all shards to their end; returns the number of the signal that stopped it, or 0."""
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.on_signal)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may ignore it, and wait() with it
        signal.signal(signal.SIGALRM, lambda *_: self.signal_shards(signal.SIGKILL))
        total = len(self.job.shards)
        if total > 1:
            say(f"{total} shards, {min(total, self.max_jobs_run)} at a time, logs {self.job.logs}")
            threading.Thread(target=self.keep_telling, daemon=True).start()
        self.begin = time.time()
        while self.running or (self.waiting and not self.stopped_by):
            while self.waiting and len(self.running) < self.max_jobs_run and not self.stopped_by:
                self.start(self.waiting.pop(0))
            self.draw()
            if self.running:
                pid, status = os.wait()
                shard = self.running.pop(pid, None)
                if shard:
                    self.finish(shard, os.waitstatus_to_exitcode(status))
                if self.stopped_by:
                    kill_group(pid, signal.SIGKILL)  # what the shard itself had started
        signal.alarm(0)
        self.over.set()
        self.draw(clear=True)
        if total > 1 and not self.stopped_by:
            say(f"{total - self.failed} of {total} shards done in {time.time() - self.begin:.0f} s")
        return self.stopped_by

    def start(self, shard: Shard) -> None:
        shard.tries += 1
        shard.started = time.time()
        host = socket.gethostname()
        header = f"# {shlex.join(shard.command)}\n# Running on {host}\n# Started at {now()}\n#\n"
        try:
            shard.log.parent.mkdir(parents=True, exist_ok=True)
            if shard.tries > 1:
                shard.log.replace(f"{shard.log}.backup.{shard.tries - 1}")
            shard.log.write_text(header)
        except OSError as error:
            self.give_up(shard, f"cannot write {shard.log}: {error.strerror}")
            return
        try:
            pid = os.posix_spawnp(
                shard.command[0],
                shard.command,
                self.job.environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.fspath(shard.log), os.O_WRONLY | os.O_APPEND, 0),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setpgroup=0,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these; the command should not
            )
        except OSError as error:
            self.give_up(shard, f"cannot start {shard.command[0]}: {error.strerror}")
            return
        self.running[pid] = shard
        if self.stopped_by:  # the signal came while the shard was being started
            kill_group(pid, signal.SIGTERM)

    def give_up(self, shard: Shard, outcome: str) -> None:
        shard.tries = self.job.retry + 1  # the next try would find the same
        self.end(shard, 127, outcome)

    def finish(self, shard: Shard, code: int) -> None:
        """code: exit status, or minus the number of the signal that killed it."""
        outcome = f"status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        self.end(shard, code, outcome if code else "")

    def end(self, shard: Shard, code: int, outcome: str) -> None:
        shard.outcome = outcome
        seconds = round(time.time() - shard.started)
        status = f"status {code}" if code >= 0 else f"status {128 - code} ({outcome})"
        trailer = f"# Accounting: time={seconds} threads=1\n# Finished at {now()} with {status}\n"
        if outcome.startswith("cannot"):
            trailer = f"{outcome}\n{trailer}"
        try:
            with shard.log.open("a") as log:
                log.write(trailer)
        except OSError as error:
            shard.outcome = shard.outcome or f"cannot write {shard.log}: {error.strerror}"
        if shard.outcome and shard.tries <= self.job.retry and not self.stopped_by:
            tries = self.job.retry + 1
            say(f"shard {shard.number} failed ({shard.outcome}); try {shard.tries + 1} of {tries}")
            self.waiting.append(shard)
            return
        self.ended += 1
        self.failed += bool(shard.outcome)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        first = not self.stopped_by
        self.stopped_by = self.stopped_by or number
        self.signal_shards(signal.SIGTERM if first else signal.SIGKILL)
        if first:
            signal.alarm(GRACE_S)

    def signal_shards(self, number: int) -> None:
        for pid in list(self.running):
            kill_group(pid, number)

    def keep_telling(self) -> None:
        """Draw how far the shards are, or without a terminal say it now and then; a thread of its own."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [*STOP_SIGNALS, signal.SIGALRM])  # they end the wait of main
        while not self.over.wait(LINE_S if self.progress_fd is None else DRAW_S):
            if self.progress_fd is None:
                say(self.line())
            else:
                self.draw()

    def line(self) -> str:
        """`3 of 8 shards done, 2 running, these at utterances 340 of 1020, eta 0:04:12`."""
        done, total = self.ended - self.failed, len(self.job.shards)
        running = list(self.running.values())
        words = [f"{done} of {total} shards done", f"{len(running)} running"]
        if self.failed:
            words.append(f"{self.failed} failed")
        found = [at[-1] for shard in running if (at := AT.findall(end_of(shard.log)))]
        if found and len({unit for unit, *_ in found}) == 1:
            unit, made, planned = found[0][0].decode(), *(sum(int(at[i]) for at in found) for i in (1, 2))
            words.append(f"these at {unit} {made} of {planned}")
        left = None
        if self.ended and total > self.ended:
            left = (time.time() - self.begin) * (total - self.ended) / self.ended
        if found and len(found) == total - self.ended:  # all that is left runs, and says for how long
            left = max(int(h) * 3600 + int(m) * 60 + int(s) for *_, h, m, s in found)
        if left is not None:
            words.append(f"eta {int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}")
        return ", ".join(words)

    def draw(self, clear: bool = False) -> None:
        """One line that overwrites itself, on a terminal only."""
        with self.drawing:
            if self.progress_fd is None or (self.over.is_set() and not clear):
                return
            try:
                line = "" if clear else self.line()[: columns_of(self.progress_fd) - 1]
                os.write(self.progress_fd, f"\r\033[K{line}{'' if clear else chr(13)}".encode())
            except (OSError, ValueError):  # the terminal is gone; the work is not about it
                self.progress_fd = None


def report_failures(job: Job, report_path: str | None) -> int:
    """Name the failed shards and show the end of the first one's log, or leave that to the recipe layer."""
    failed = [shard for shard in job.shards if shard.outcome]
    if not failed:
        return 0
    message = failed[0].outcome
    if len(job.shards) > 1:
        named = [f"{shard.number} ({shard.outcome})" for shard in failed]
        message = f"{len(failed)} of {len(job.shards)} shards failed: {', '.join(named[:8])}"
        message += ", ..." if len(named) > 8 else ""
    if report_path:
        Path(report_path).write_text(f"{message}\n{failed[0].log}\n")
        say(message if len(job.shards) > 1 else f"failed: {message}")
        return status_of(job)
    print(f"submit.py: {message}. The end of {failed[0].log}:", file=sys.stderr)
    for line in tail(failed[0].log, TAIL_LINES):
        print(f"    | {line}", file=sys.stderr)
    return status_of(job)


def status_of(job: Job) -> int:
    """The exit status of a failed job: its command's, which recipes tell apart, or 1 for many shards.

    One that a signal stopped (128 and more) is 1 as well: a recipe would take it for a signal of its own.
    """
    word, _, code = job.shards[0].outcome.partition(" ")
    if len(job.shards) > 1 or word != "status" or not code.isdigit() or int(code) >= 128:
        return 1
    return int(code)


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a file, read from its end: a log may have gigabytes."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            return file.read(65536).decode(errors="replace").splitlines()[-count:]
    except OSError as error:
        return [f"(cannot be read: {error.strerror})"]


def end_of(path: Path) -> bytes:
    """The last 4 kB of a file, nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            return file.read()
    except OSError:
        return b""


def columns_of(descriptor: int) -> int:
    """The width of a terminal, 80 where it is none or does not say."""
    try:
        return os.get_terminal_size(descriptor).columns or 80
    except OSError:
        return 80


def find_terminal(environment: Mapping[str, str]) -> int | None:
    """Where progress is drawn: where the recipe layer says, else standard error if it is a terminal."""
    named = environment.get("NEST_PROGRESS_FD", "")
    if named.isdecimal():
        return int(named)
    return 2 if os.isatty(2) and environment.get("TERM") != "dumb" else None


def kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def say(message: str) -> None:
    print(f"submit.py: {message}", flush=True)


def now() -> str:
    return time.strftime("%a %b %d %H:%M:%S %Z %Y")


if __name__ == "__main__":
    sys.exit(main())
