"""Ctrl-C, kill, hang-up and kill -9: nothing stays behind, and the next run goes on cleanly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from .conftest import TIMEOUT_S, Stub, is_alive, wait_until

# The stage leaves the numbers of its processes, then waits until data/go exists.
BODY = r"""
work() {
  [ ! -e "$data/go" ] || { echo made >"$data/out"; return; }
  sleep 1000 &
  echo $! >"$data/child"
  echo "$BASHPID" >"$data/leader"
  wait $!
}
stage 0 first at:"$data" -- true
stage 1 work at:"$data" out:"$data/out" -- work
"""
# As above, but the shards are in process groups of their own, under submit.py.
SHARDS = r"""
stage 0 first at:"$data" -- true
stage 1 work at:"$data" out:"$data/out" -- on_cpu JOB=1:2 "$data/log/work.JOB.log" bash -c '
  [ ! -e "$1/go" ] || { echo made >"$1/out"; exit; }
  sleep 1000 & echo $! >"$1/child$2"; echo $$ >"$1/shard$2"; wait $!' x "$data" JOB
"""


@pytest.fixture(params=["function", "shards"])
def working(stub: Stub, request: pytest.FixtureRequest) -> tuple[Stub, subprocess.Popen[str], list[int]]:
    """A recipe in the middle of its stage 1: the stub, run.sh, and the processes that the stage started."""
    if request.param == "function":
        stub.write(BODY)
        process = stub.start()
        pids = [stub.pid("leader"), stub.pid("child")]
    else:
        stub.write(SHARDS)
        process = stub.start("--cmd", cores(stub))
        pids = [stub.pid(name) for name in ("shard1", "child1", "shard2", "child2")]
    assert all(map(is_alive, pids))
    return stub, process, pids


def cores(stub: Stub) -> str:
    """A cmd.sh that runs two shards at a time on a machine with one core, too."""
    text = (
        (stub.root / "utils" / "cmd.sh")
        .read_text()
        .replace('submit.py" "$@"', 'submit.py" --max-jobs-run 2 "$@"')
    )
    (stub.root / "cmd.sh").write_text(text)
    return "cmd.sh"


def assert_clean_continuation(stub: Stub) -> str:
    """Stage 0 is kept, stage 1 has no marker, and a second run does it; returns what that one printed."""
    assert stub.marker("0-first").exists()
    assert not stub.marker("1-work").exists()
    (stub.data / "go").touch()
    output = stub.succeed()
    assert "stage 0 (first) already done, skipped" in output
    assert "stage 1 (work) done" in output
    assert (stub.data / "out").read_text() == "made\n"
    assert not (stub.data / ".lock").exists()
    return output


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_a_signal_stops_all_of_the_stage(
    working: tuple[Stub, subprocess.Popen[str], list[int]], number: signal.Signals, status: int
) -> None:
    stub, process, pids = working
    process.send_signal(number)
    got, output = stub.finish(process)
    assert got == status, output
    assert not any(map(is_alive, pids))
    assert not (stub.data / ".lock").exists()
    assert (
        f"stage 1 (work) stopped by {number.name} and is not done; to resume: bash egs/stub/run.sh" in output
    )
    assert "--stage 1\n" in output
    shown = stub.succeed("--status")
    assert re.search(
        rf"^  1 work         stopped  20[0-9: -]+ s  by {number.name}\n      log egs/stub/", shown, re.M
    )
    assert_clean_continuation(stub)


def test_kill_9_of_run_sh_stops_the_stage_and_the_next_run_goes_on(
    working: tuple[Stub, subprocess.Popen[str], list[int]],
) -> None:
    stub, process, pids = working
    process.kill()
    process.wait()
    assert f"run {process.pid} (since 20" in assert_clean_continuation(stub)
    assert not any(map(is_alive, pids))


def test_kill_9_of_the_whole_process_group_of_run_sh(
    working: tuple[Stub, subprocess.Popen[str], list[int]],
) -> None:
    stub, process, pids = working
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(map(is_alive, pids)), "the stage to be stopped by its guard")
    assert_clean_continuation(stub)


def test_a_stage_that_ignores_the_polite_signal_is_killed_by_a_second_one(stub: Stub) -> None:
    stub.write(
        'work() {\n  trap "" TERM\n  (while :; do sleep 1000; done) &\n  echo $! >"$data/child"\n'
        '  echo "$BASHPID" >"$data/leader"\n  while :; do wait $!; done\n}\nstage 1 work at:"$data" -- work'
    )
    process = stub.start()
    pids = [stub.pid("leader"), stub.pid("child")]
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    wait_until(lambda: "stopping the stage" in process.stdout.readline(), "the first signal to be seen")  # type: ignore[union-attr]
    assert is_alive(pids[0])
    process.send_signal(signal.SIGINT)
    status, output = stub.finish(process)
    assert status == 130
    assert "killing what did not stop" in output
    assert not any(map(is_alive, pids))


def test_a_stage_that_ignores_the_polite_signal_is_killed_after_the_grace_period(stub: Stub) -> None:
    stub.write(
        'recipe_grace_s=1\nwork() {\n  trap "" TERM\n  echo "$BASHPID" >"$data/leader"\n'
        '  while :; do sleep 1000 & wait $!; done\n}\nstage 1 work at:"$data" -- work'
    )
    process = stub.start()
    pid = stub.pid("leader")
    process.terminate()
    status, _ = stub.finish(process)
    assert status == 143
    assert not is_alive(pid)


FLEE = """
import os, pathlib, subprocess, sys
os.setsid()
os.closerange(0, 1000)
child = subprocess.Popen(["sleep", "1000"])
pathlib.Path(sys.argv[1]).write_text(f"{child.pid}\\n")
child.wait()
"""


def test_a_survivor_of_a_killed_run_is_named_until_it_is_gone(stub: Stub) -> None:
    """A process that left group and descriptors behind, whose guard was killed too, still counts."""
    (stub.recipe / "flee.py").write_text(FLEE)
    stub.write(
        'work() {\n  [ -e "$data/go" ] || python3 "$recipe/flee.py" "$data/child"\n}\n'
        'stage 1 work at:"$data" -- work'
    )
    process = stub.start()
    child = stub.pid("child")
    group = group_of_job(stub, process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    os.killpg(group, signal.SIGKILL)
    process.wait()
    output = stub.fail()
    assert (
        f"the run with pid {process.pid} was killed at stage 1 (work), but processes of it still run"
        in output
    )
    assert f"{child}  sleep 1000" in output
    command = output[output.index("kill ") :].splitlines()[0]
    assert "stop them, then start again: kill " in output and str(child) in command
    (stub.data / "go").touch()
    assert "still run" in stub.fail()
    for pid in command.removeprefix("kill ").split("(")[0].split():
        os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: not is_alive(child), "the survivor to end")
    stub.succeed()


def group_of_job(stub: Stub, parent: int) -> int:
    """The process group of the job: the child of run.sh that leads one."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent and int(fields[2]) == int(path.parent.name):
            return int(fields[2])
    raise AssertionError("run.sh has no job")


def test_a_closed_pipe_behind_the_output_does_not_stop_the_stage(stub: Stub) -> None:
    stub.write("""
work() {
  until [ -e "$data/go" ]; do sleep 0.01; done
  seq 100000 >&2
  echo x >"$data/out"
}
stage 1 work at:"$data" -- work""")
    process = stub.start()
    wait_until(lambda: (stub.data / "log" / "1-work.log").exists(), "the stage to start")
    assert process.stdout is not None
    process.stdout.close()
    (stub.data / "go").touch()
    process.wait(timeout=TIMEOUT_S)
    assert (stub.data / "out").exists()
    assert (stub.data / "log" / "1-work.log").read_text().endswith("\n100000\n")


def test_a_signal_during_set_up_ends_it(stub: Stub) -> None:
    stub.write(BODY)
    stub.data.mkdir()
    (stub.root / "path.sh").write_text(f"bash -c 'echo $$ >\"$1\"; exec sleep 1000' x '{stub.data}/setup'\n")
    process = stub.start()
    pid = stub.pid("setup")
    process.terminate()
    status, output = stub.finish(process)
    assert status == 143, output
    assert not is_alive(pid)
    assert not (stub.data / ".lock").exists()
