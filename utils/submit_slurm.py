"""The Slurm back end of submit.py: one job array, watched until every shard has ended.

What is known of a shard comes from two places: the file task.N that slurm_task.py writes beside the log,
which alone says that a shard is done, and squeue, which says whether a task is still there. A squeue that
fails says nothing; a task that left the queue without its file is a failed shard, with Slurm's own word for
its end. Only the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import submit
from slurm_task import slurm

FIRST_WAIT_S = 0.5  # between two looks; it grows to --poll
FILE_LAG_S = 60.0  # a network file system may show another node's file that late
CANCEL_S = 10.0  # less than the recipe layer gives us
# States in which a task has left the queue for good; in any other it is there, or comes back.
OVER = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "somebody cancelled it",
    "COMPLETED": "",
    "DEADLINE": "its deadline passed",
    "FAILED": "",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "give it more with --mem",
    "PREEMPTED": "and not requeued",
    "REVOKED": "",
    "TIMEOUT": "give it more with --time, or let it save and go on with --signal=USR1@180",
}
# Facts of this process or of the Slurm job it may itself be in; the tasks get their own.
NOT_EXPORTED = re.compile(r"SLURM_(?!CONF$)|NEST_(RUN_ID|PROGRESS_FD|SHARD_REPORT|STAGE_KEY)$")


class SubmitError(Exception):
    """The job could not be handed over; the text says why and what to do."""


@dataclass
class Settings:
    """What the caller chose besides the shards."""

    flags: list[str]  # sbatch's own
    srun: bool
    poll_s: float


class SlurmRun:
    """The shards of a job as one Slurm array (and one more for each round of retries)."""

    def __init__(self, job: submit.Job, settings: Settings) -> None:
        self.job = job
        self.settings = settings
        key = hashlib.sha256(str(Path.cwd() / job.logs).encode()).hexdigest()[:12]
        self.folder = Path.cwd() / job.shards[0].log.parent / ".slurm" / key
        self.ids: dict[int, str] = {}  # shard number -> Slurm's name of its task, "12_3" or "12"
        self.open = {shard.number: shard for shard in job.shards}
        self.over_since: dict[int, float] = {}
        self.failed = 0
        self.states: dict[str, tuple[str, str]] = {}
        self.unknown = False
        self.said: set[str] = set()
        self.stopped_by = 0
        self.signals = 0
        self.wake, self.waker = os.pipe()
        self.progress_fd = submit.find_terminal(os.environ) if len(job.shards) > 1 else None
        self.told_at = time.time()

    # ---- the run

    def run(self) -> int:
        """Submit, wait for the end of all shards, set outcomes; gives the signal that stopped it, or 0."""
        os.set_blocking(self.waker, False)
        signal.set_wakeup_fd(self.waker)  # a signal ends the wait at once
        for number in submit.STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.on_signal)
        begin, total = time.time(), len(self.job.shards)
        if not self.take_over():
            self.submit(list(self.open.values()))
        wait_s = FIRST_WAIT_S
        while self.open and not self.stopped_by:
            self.draw()
            self.pause(wait_s)
            wait_s = min(wait_s * 1.5, self.settings.poll_s)
            self.look()
        if self.stopped_by:
            self.cancel()
        self.draw(clear=True)
        if not self.stopped_by:
            if total > 1:
                submit.say(f"{total - self.failed} of {total} shards done in {time.time() - begin:.0f} s")
            if not self.failed:  # the next call is a new one
                (self.folder / "job.json").unlink(missing_ok=True)
        return self.stopped_by

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = self.stopped_by or number
        self.signals += 1

    def pause(self, seconds: float) -> None:
        if not self.signals and select.select([self.wake], [], [], seconds)[0]:
            os.read(self.wake, 1024)

    # ---- handing over

    def submit(self, shards: list[submit.Shard]) -> None:
        """Hand these shards to sbatch as one job; SubmitError if it is refused."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for shard in shards:
            shard.tries += 1
            (self.folder / f"task.{shard.number}").unlink(missing_ok=True)
        (self.folder / "cancelled").unlink(missing_ok=True)
        self.write_job()
        script = self.folder / "script.sh"
        task = Path(__file__).with_name("slurm_task.py")
        script.write_text(f"#!/bin/bash\nexec {shlex.join([sys.executable, str(task), str(self.folder)])}\n")
        words = ["sbatch", "--parsable", f"--job-name={self.job.shards[0].log.name.split('.')[0]}"]
        words += [
            f"--output={self.folder}/slurm-%j.out",
            "--open-mode=append",
            "--requeue",
            *self.settings.flags,
        ]
        is_array = len(self.job.shards) > 1
        if is_array:
            limit = f"%{self.job.max_jobs_run}" if self.job.max_jobs_run else ""
            words.append(f"--array={ranges(shard.number for shard in shards)}{limit}")
        job_id = self.sbatch([*words, str(script)])
        for shard in shards:
            self.ids[shard.number] = f"{job_id}_{shard.number}" if is_array else job_id
        self.write_job()
        what = f"{len(shards)} shards" if is_array else shlex.join(shards[0].command)[:60]
        submit.say(f"{what} as Slurm job {job_id}, logs {self.job.logs}")

    def sbatch(self, words: list[str]) -> str:
        environment = {k: v for k, v in self.job.environment.items() if not NOT_EXPORTED.match(k)}
        answer = slurm(*words, environment=environment)
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.strip().split(";")[0]
        said = " ".join(line.removeprefix("sbatch: ") for line in answer.stderr.strip().splitlines())
        if answer.returncode == 127:
            raise SubmitError(
                "there is no sbatch here, so this is no machine of a Slurm cluster; without --cmd the recipe "
                f"runs on this machine alone ({said})"
            )
        hint = "its flags are in --flags of the file given as --cmd"
        if "array" in said.lower():
            hint = (
                "a cluster limits the shards of a job: see MaxArraySize in `scontrol show config`; take fewer"
            )
        raise SubmitError(
            f"sbatch refused the job: {said or 'it said nothing'}\n  {shlex.join(words)}\n  {hint}"
        )

    def write_job(self) -> None:
        content = {**self.identity(), "ids": {str(number): name for number, name in self.ids.items()}}
        content["srun"] = self.settings.srun
        temporary = self.folder / ".job.json.new"
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self.folder / "job.json")

    def identity(self) -> dict[str, Any]:
        shards = {
            str(s.number): {"log": str(Path.cwd() / s.log), "command": s.command} for s in self.job.shards
        }
        return {
            "cwd": str(Path.cwd()),
            "shards": shards,
            "stage": self.job.environment.get("NEST_STAGE_KEY", ""),
        }

    # ---- an earlier call of the same job

    def take_over(self) -> bool:
        """Look at what an earlier call with these logs left; true if there is nothing to submit."""
        try:
            before = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        same = {key: before[key] for key in ("cwd", "shards", "stage")} == self.identity()
        ids = {int(number): name for number, name in before["ids"].items()}
        alive = self.still_queued(ids)
        jobs = ", ".join(sorted({name.split("_")[0] for name in alive}))
        while alive and (self.folder / "cancelled").exists() and not self.stopped_by:
            self.pause(1.0)
            alive = self.still_queued(ids)
        if alive and not same:
            raise SubmitError(
                f"Slurm job {jobs} of an earlier call still writes {self.job.logs}, with another command or "
                f"other inputs; wait for it, or: scancel {jobs}"
            )
        if same and before["stage"]:  # a recipe's word that command and inputs are the same
            self.skip_done()
        if alive:
            self.ids = ids
            submit.say(f"Slurm job {jobs} of an earlier call goes on; waiting for it")
        return bool(alive) or not self.open

    def still_queued(self, ids: dict[int, str]) -> list[str]:
        """The tasks of an earlier call that Slurm still has and whose command runs or will; asks until it
        answers."""
        self.ids = ids
        while not self.ask() and not self.stopped_by:
            self.pause(self.settings.poll_s)
        self.ids = {}
        return [
            name
            for number, name in ids.items()
            if self.states.get(name, ("COMPLETED", ""))[0] not in OVER
            and not ((note := self.read_note(number)) and note["state"] == "ended")
        ]

    def skip_done(self) -> None:
        done = [
            n
            for n in self.open
            if (note := self.read_note(n)) and (note["state"], note["code"]) == ("ended", 0)
        ]
        for number in done:
            self.open.pop(number).outcome = ""
        if done:
            submit.say(
                f"{len(done)} of {len(self.job.shards)} shards were done before; --force runs all again"
            )

    # ---- watching

    def look(self) -> None:
        """See what has ended since the last look."""
        asked = self.ask()
        again = []
        for number, shard in list(self.open.items()):
            note = self.read_note(number)
            if note and note["array"] != self.ids[number].split("_")[0]:
                note = None  # of an earlier try
            if note and note["state"] == "ended":
                outcome = outcome_of(note["code"])
            elif asked:
                lost = self.lost(number, note)
                if lost is None:
                    continue
                outcome = lost
                with shard.log.open("a") as log:
                    log.write(self.slurm_output(number) + f"# {outcome}\n")
            else:
                continue
            if outcome and shard.tries <= self.job.retry:
                tries = self.job.retry + 1
                submit.say(f"shard {number} failed ({outcome}); try {shard.tries + 1} of {tries}")
                if shard.log.exists():
                    shard.log.replace(f"{shard.log}.backup.{shard.tries}")
                again.append(shard)
                continue
            shard.outcome = outcome
            self.failed += bool(outcome)
            del self.open[number]
        if again:
            self.submit(again)

    def ask(self) -> bool:
        """Ask squeue for the state of every task; False if it did not answer."""
        jobs = ",".join(sorted({name.split("_")[0] for name in self.ids.values()}))
        words = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={jobs}"]
        answer = slurm("squeue", *words) if jobs else None
        if answer and answer.returncode and "Invalid job id" not in answer.stderr:
            if not self.unknown:
                reason = " ".join(answer.stderr.split())[:200]
                submit.say(f"squeue does not answer ({reason}); the tasks are taken to be where they were")
            self.unknown = True
            return False
        if self.unknown:
            submit.say("squeue answers again")
        self.unknown = False
        lines = [line.split("|", 2) for line in answer.stdout.splitlines()] if answer else []
        self.states = {words[0]: (words[1].split()[0], words[2]) for words in lines if len(words) == 3}
        for name, (state, reason) in self.states.items():
            if state == "PENDING" and reason not in ("None", "Priority", "BeginTime", "JobArrayTaskLimit"):
                self.say_once(f"Slurm job {name.split('_')[0]} waits: {reason}")
        return True

    def lost(self, number: int, note: dict[str, Any] | None) -> str | None:
        """The outcome of a task that left the queue without its end; None while that may still come."""
        name = self.ids[number]
        state, _ = self.states.get(name, ("", ""))
        if state and state not in OVER:
            self.over_since.pop(number, None)
            return None
        since = self.over_since.setdefault(number, time.monotonic())
        if time.monotonic() - since < FILE_LAG_S and state in ("", "COMPLETED", "FAILED"):
            return None
        state = state or state_in_accounting(name)
        del self.over_since[number]
        if not state:
            return f"Slurm job {name} left the queue without a word"
        told = f": {OVER[state]}" if OVER.get(state) else ""
        return f"Slurm job {name} ended as {state}{told}"

    def slurm_output(self, number: int) -> str:
        """What the task's script itself printed, for a task that could not even start its command."""
        note = self.read_note(number)
        path = self.folder / f"slurm-{note['job'] if note else self.ids[number]}.out"
        return "".join(f"{line}\n" for line in submit.tail(path, 10)) if path.is_file() else ""

    def read_note(self, number: int) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / f"task.{number}").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    # ---- stopping

    def cancel(self) -> None:
        """Cancel what is left and wait until it has gone; a second signal does not wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "cancelled").touch()
        names = [self.ids[number] for number in self.open if number in self.ids]
        deadline = time.monotonic() + CANCEL_S
        first, told = self.signals, False
        while names and time.monotonic() < deadline and self.signals == first:
            told = told or slurm("scancel", *names).returncode == 0
            if self.ask() and all(self.states.get(n, ("COMPLETED", ""))[0] in OVER for n in names):
                return
            time.sleep(0.3)
        if names:
            state = (
                "told to end and still ending" if told else "NOT cancelled, since scancel failed; yourself"
            )
            jobs = " ".join(sorted({name.split("_")[0] for name in names}))
            submit.say(f"Slurm job {jobs}: {state}: scancel {jobs}")

    # ---- words

    def draw(self, clear: bool = False) -> None:
        """One line that overwrites itself on a terminal, or now and then one in a log."""
        counts = Counter(self.states.get(self.ids.get(n, ""), ("",))[0] for n in self.open)
        total, done = len(self.job.shards), len(self.job.shards) - len(self.open) - self.failed
        failed = f", {self.failed} failed" if self.failed else ""
        line = (
            f"{done} of {total} shards done, {counts['RUNNING']} running, {counts['PENDING']} waiting{failed}"
        )
        if self.progress_fd is None:
            if len(self.job.shards) > 1 and not clear and time.time() - self.told_at >= submit.LINE_S:
                self.told_at = time.time()
                submit.say(line)
            return
        try:
            os.write(self.progress_fd, ("\r\033[K" if clear else f"\r\033[K{line}\r").encode())
        except OSError:
            self.progress_fd = None

    def say_once(self, message: str) -> None:
        if message not in self.said:
            self.said.add(message)
            submit.say(message)


def outcome_of(code: int) -> str:
    """The outcome of an exit status, or of minus a signal's number, as for a shard on this machine."""
    if code == 0:
        return ""
    return f"status {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


def state_in_accounting(name: str) -> str:
    """Slurm's last word on a task that squeue no longer has; empty where the cluster keeps no accounts."""
    words = ["--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={name}"]
    answer = slurm("sacct", *words)
    found = answer.stdout.split() if answer.returncode == 0 else []
    return found[-1] if found and found[-1] in OVER else (found[0] if found else "")


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as sbatch --array takes them: 1,3-5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
