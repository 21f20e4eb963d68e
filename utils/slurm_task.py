#!/usr/bin/env python3
"""One task of a Slurm job of utils/submit.py: runs on the compute node, started by the job's script.

    slurm_task.py FOLDER             what job.json in FOLDER says, as submit_slurm.py laid it out
    slurm_task.py FOLDER COMMAND...  one rank of such a task, started by srun

Runs the shard's command with its log, and leaves FOLDER/task.N for submit.py: how it went. A task that was
told to stop (SIGUSR1 before the time limit, SIGTERM at preemption) never counts as done, whatever the status
of its command; while Slurm still has it as running, it is put back into the queue from here.
Only the standard library.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

STOPS = (signal.SIGTERM, signal.SIGUSR1)
# Of a command that saved its work and ended because of a signal: as a shell says it, and as Python does.
STOPPED = {128 + number for number in STOPS} | {-number for number in STOPS}
MAX_REQUEUES = 500  # a job whose time limit is shorter than its start-up would go round for ever


def main() -> int:
    folder, command = Path(sys.argv[1]), sys.argv[2:]
    if command:
        return run_rank(folder, command)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    number = os.environ.get("SLURM_ARRAY_TASK_ID") or next(iter(job["shards"]))
    task = Task(folder, number, job)
    code = task.run()
    return code if code >= 0 else 128 - code


class Task:
    """The shard `number` of the job, on this node."""

    def __init__(self, folder: Path, number: str, job: dict[str, Any]) -> None:
        self.folder = folder
        self.path = folder / f"task.{number}"
        self.log = Path(job["shards"][number]["log"])
        self.command: list[str] = job["shards"][number]["command"]
        self.srun: bool = job["srun"]
        self.job_id = os.environ["SLURM_JOB_ID"]
        self.restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        self.told_to_stop = 0
        self.child: subprocess.Popen | None = None

    def run(self) -> int:
        """Run the command and write down how it ended; gives its status, or minus a signal's number."""
        for number in STOPS:
            signal.signal(number, self.on_signal)
        started = time.time()
        self.note("running")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab" if self.restarts else "wb") as log:
            log.write(self.header().encode())
            log.flush()
            code = self.start_and_wait(log)
            if self.srun:
                code = self.code_of_ranks(code)
            took = (
                f"# Accounting: time={time.time() - started:.0f} threads=1\n# Finished at {now()} with status"
            )
            log.write(f"{took} {code if code >= 0 else 128 - code}\n".encode())
            if self.told_to_stop or code in STOPPED:
                return self.stopped(code, log)
        self.note("ended", code)
        return code

    def header(self) -> str:
        again = f" again, requeued {self.restarts} times" if self.restarts else ""
        words = shlex.join(["srun", *self.command] if self.srun else self.command)
        return f"# {words}\n# Running on {socket.gethostname()}\n# Started{again} at {now()}\n#\n"

    def words(self) -> list[str]:
        if not self.srun:
            return self.command
        # A rank that fails ends the others: they would wait for it until the time limit.
        rank = [sys.executable, str(Path(__file__).resolve()), str(self.folder)]
        return ["srun", "--kill-on-bad-exit=1", *rank, *self.command]

    def start_and_wait(self, log: Any) -> int:
        environment = dict(os.environ)
        if self.srun and "SLURM_CPUS_PER_TASK" in environment:  # srun does not take it over by itself
            environment.setdefault("SRUN_CPUS_PER_TASK", environment["SLURM_CPUS_PER_TASK"])
        try:
            self.child = subprocess.Popen(
                self.words(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        except OSError as error:
            log.write(f"cannot start {self.words()[0]}: {error.strerror}\n".encode())
            return 127
        if self.told_to_stop:  # while it was being started
            self.pass_on(self.told_to_stop)
        return self.child.wait()

    def code_of_ranks(self, code: int) -> int:
        """The status of the rank that failed by itself: srun gives the largest, and that may be 143 of the
        others, which it ended for that reason."""
        codes = []
        for path in self.folder.glob(f"rank.*.{self.job_id}.{self.restarts}"):
            codes.append(int(path.read_text()))
            path.unlink()
        return next((each for each in codes if each and each not in STOPPED), code)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.told_to_stop = number
        self.pass_on(number)

    def pass_on(self, number: int) -> None:
        # Slurm itself sends SIGTERM to the tasks of a step; an srun that gets one kills them.
        if self.child and not (self.srun and number == signal.SIGTERM):
            self.child.send_signal(number)

    def stopped(self, code: int, log: Any) -> int:
        """Ask for another turn, unless Slurm or a person is ending the job anyway."""
        if (self.folder / "cancelled").exists() or job_state(self.job_id) != "RUNNING":
            self.note("stopped", code)
            return code or 128 + self.told_to_stop
        if self.restarts >= MAX_REQUEUES:
            problem = f"it was requeued {self.restarts} times already"
        else:
            # Written first: after the request Slurm may end this process at any moment.
            self.note("requeued", code)
            answer = slurm("scontrol", "requeue", self.job_id)
            if answer.returncode == 0:
                log.write(
                    f"# Stopped before its end; put back into the queue as job {self.job_id}\n".encode()
                )
                return code or 128 + self.told_to_stop
            problem = answer.stderr.strip()
        log.write(f"# Stopped before its end, and not requeued: {problem}\n".encode())
        code = code or 128 + self.told_to_stop
        self.note("ended", code)
        return code

    def note(self, state: str, code: int | None = None) -> None:
        """Write the task's file: complete or not at all."""
        content = {"state": state, "code": code, "job": self.job_id, "restarts": self.restarts}
        content["array"] = os.environ.get("SLURM_ARRAY_JOB_ID") or self.job_id
        temporary = self.path.with_name(f".{self.path.name}.{self.job_id}")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def run_rank(folder: Path, command: list[str]) -> int:
    """Run one rank's command and leave its status as FOLDER/rank.RANK.JOB.RESTARTS."""
    told: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if child:
            child.send_signal(number)

    child = None
    for stop in STOPS:
        signal.signal(stop, pass_on)
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr)
        code = 127
    else:
        for number in told:  # while it was being started
            child.send_signal(number)
        code = child.wait()
    names = (os.environ[name] for name in ("SLURM_PROCID", "SLURM_JOB_ID"))
    name = ".".join(["rank", *names, os.environ.get("SLURM_RESTART_COUNT") or "0"])
    (folder / f".{name}").write_text(str(code))
    (folder / f".{name}").replace(folder / name)
    return code if code >= 0 else 128 - code


def job_state(job_id: str) -> str:
    """What Slurm says of a job: RUNNING, COMPLETING, ...; empty if it says nothing."""
    answer = slurm("squeue", "--noheader", "--format=%T", f"--jobs={job_id}")
    return answer.stdout.split()[0] if answer.returncode == 0 and answer.stdout.split() else ""


def slurm(*words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a Slurm command, out of reach of a Ctrl-C; one that is missing or hangs is one that failed."""
    try:
        return subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))


def now() -> str:
    return time.strftime("%a %b %d %H:%M:%S %Z %Y")


if __name__ == "__main__":
    sys.exit(main())
