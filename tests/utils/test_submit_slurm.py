"""The Slurm back end of submit.py against an imitation of Slurm's commands; tests/slurm has the real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240  # only a failing test waits so long
# Jobs are processes, the queue is a folder: job.N holds the process group of task N.
COMMANDS = {
    "sbatch": """
echo "$*" >>"$FAKE/sbatch.calls"; env >"$FAKE/sbatch.env"
for word in "$@"; do case $word in --array=*) tasks=${word#--array=};; esac; done
first=$(ls "$FAKE" | grep -c '^job\\.') || true; first=$((first + 7))
list=$(python3 - "${tasks-}" <<'P'
import sys
for part in filter(None, sys.argv[1].partition("%")[0].split(",")):
    a, _, b = part.partition("-")
    print(*range(int(a), int(b or a) + 1))
P
)
for task in ${list:-single}; do
  export SLURM_JOB_ID=$first; unset SLURM_ARRAY_TASK_ID SLURM_ARRAY_JOB_ID; name=$first
  if [ "$task" != single ]; then
    export SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_JOB_ID=$first; name=${first}_$task
  fi
  setsid bash "${!#}" >/dev/null 2>&1 </dev/null & echo $! >"$FAKE/job.$name"
done
echo "$first"
""",
    "squeue": """
[ ! -e "$FAKE/down" ] || { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
for file in "$FAKE"/job.*; do
  state=RUNNING
  kill -0 "$(cat "$file")" 2>/dev/null || state=$(cat "$FAKE/end" 2>/dev/null || echo COMPLETED)
  case $* in *%T*) case $* in *%i*) echo "${file##*/job.}|$state|None";; *) echo "$state";; esac;; esac
done
""",
    "scancel": """
echo "$*" >>"$FAKE/scancel.calls"
for name in "$@"; do kill -TERM -- "-$(cat "$FAKE/job.$name")" 2>/dev/null; done; echo CANCELLED >"$FAKE/end"
""",
    "scontrol": 'echo "$*" >>"$FAKE/scontrol.calls"; exit 1',
    "sacct": "exit 1",
}


class Fake:
    """submit.py --backend slurm in a folder, with the imitation first in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "fake"
        self.state.mkdir()
        commands = folder / "bin"
        commands.mkdir()
        for name, text in COMMANDS.items():
            (commands / name).write_text(f"#!/bin/bash\n{text}")
            (commands / name).chmod(0o755)
        self.environment = {"PATH": f"{commands}:{os.environ['PATH']}", "FAKE": str(self.state)}

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        script = str(ROOT / "utils" / "submit.py")
        return subprocess.Popen(
            [sys.executable, script, "--backend", "slurm", "--poll", "0.1", *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        process = self.start(*words, **environment)
        output, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output

    def calls(self, name: str) -> list[str]:
        path = self.state / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []

    def end(self) -> None:
        for path in self.state.glob("job.*"):
            try:
                os.killpg(int(path.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def slurm(tmp_path):
    fake = Fake(tmp_path)
    yield fake
    fake.end()


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.01)


def test_shards_become_one_array_with_the_schedulers_flags_as_they_are(slurm):
    flags = "--partition=cpu --comment='two words' -c 2"
    status, output = slurm.run(
        f"--flags={flags}", "--max-jobs-run", "3", "JOB=1:2", "l/a.JOB.log", "echo", "<JOB>"
    )
    assert status == 0, output
    [call] = slurm.calls("sbatch")
    assert "--partition=cpu --comment=two words -c 2 --array=1-2%3 " in call
    assert "\n<2>\n" in (slurm.folder / "l" / "a.2.log").read_text()


def test_a_task_learns_nothing_of_the_run_that_submitted_it(slurm):
    status, _ = slurm.run(
        "a.log", "true", NEST_RUN_ID="x", SLURM_STEP_NUM_TASKS="4", SLURM_CONF="c", KEPT="y"
    )
    assert status == 0
    names = {line.partition("=")[0] for line in (slurm.state / "sbatch.env").read_text().splitlines()}
    assert {"SLURM_CONF", "KEPT"} <= names and not {"NEST_RUN_ID", "SLURM_STEP_NUM_TASKS"} & names


def test_the_failed_shard_is_named_and_only_it_runs_again(slurm):
    words = ["JOB=1:3", "a.JOB.log", "bash", "-c", "echo shard JOB; [ JOB != 2 ] || [ -e mended ] || exit 5"]
    status, output = slurm.run(*words, NEST_STAGE_KEY="k")
    assert status == 1
    assert "1 of 3 shards failed: 2 (status 5). The end of a.2.log:" in output and "| shard 2" in output
    (slurm.folder / "mended").touch()
    status, output = slurm.run(*words, NEST_STAGE_KEY="k")
    assert status == 0 and "2 of 3 shards were done before" in output
    assert "--array=2 " in slurm.calls("sbatch")[1]
    assert slurm.run(*words, NEST_STAGE_KEY="k")[0] == 0
    assert "--array=1-3 " in slurm.calls("sbatch")[2]


@pytest.mark.parametrize("key", ["", "other inputs"])
def test_all_shards_run_again_when_nobody_vouches_for_the_inputs(slurm, key):
    words = ["JOB=1:2", "a.JOB.log", "bash", "-c", "exit $((JOB - 1))"]
    slurm.run(*words, NEST_STAGE_KEY="k" if key else "")
    slurm.run(*words, NEST_STAGE_KEY=key)
    assert "--array=1-2 " in slurm.calls("sbatch")[1]


def test_a_squeue_that_fails_ends_nothing(slurm):
    (slurm.state / "down").touch()
    process = slurm.start("a.log", "bash", "-c", "until [ -e go ]; do sleep 0.05; done")
    seen = [process.stdout.readline(), process.stdout.readline()]
    assert "squeue does not answer (slurm_load_jobs error: Unable to contact" in seen[1]
    (slurm.state / "down").unlink()
    assert "squeue answers again" in process.stdout.readline()
    (slurm.folder / "go").touch()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output


def test_a_task_that_slurm_ended_has_failed_with_slurms_word(slurm):
    (slurm.state / "end").write_text("TIMEOUT")
    status, output = slurm.run("a.log", "bash", "-c", "kill -KILL $PPID")
    assert status == 1
    assert "Slurm job 7 ended as TIMEOUT: give it more with --time" in output


@pytest.mark.parametrize("script", ["kill -USR1 $PPID; sleep 0.3", "exit 143", "kill -TERM $$"])
def test_a_task_that_was_stopped_is_not_done_and_asks_for_another_turn(slurm, script):
    """Whatever its status: here Slurm refuses the requeue, so the shard has failed."""
    status, output = slurm.run("a.log", "bash", "-c", script)
    assert status == 1, output
    assert slurm.calls("scontrol") == ["requeue 7"]
    assert "# Stopped before its end, and not requeued" in (slurm.folder / "a.log").read_text()


def test_a_stop_signal_cancels_the_array(slurm):
    process = slurm.start("JOB=1:2", "JOB.log", "bash", "-c", "touch here.JOB; exec sleep 1000")
    wait_until(lambda: len(list(slurm.folder.glob("here.*"))) == 2, "two tasks to run")
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in output
    assert slurm.calls("scancel")[0] == "7_1 7_2"
    assert slurm.calls("scontrol") == []  # a cancelled task asks for no other turn


def test_the_job_of_a_call_that_was_killed_is_found_again(slurm):
    words = ["a.log", "bash", "-c", "touch here; until [ -e go ]; do sleep 0.05; done"]
    process = slurm.start(*words)
    wait_until((slurm.folder / "here").exists, "the task to run")
    assert "as Slurm job 7" in process.stdout.readline()
    process.kill()
    process.communicate()
    status, output = slurm.run("a.log", "echo", "another command")
    assert status == 1
    assert "Slurm job 7 of an earlier call still writes a.log, with another command" in output
    process = slurm.start(*words)
    assert "Slurm job 7 of an earlier call goes on" in process.stdout.readline()
    (slurm.folder / "go").touch()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert len(slurm.calls("sbatch")) == 1


def test_retry_submits_only_what_failed(slurm):
    script = "echo x >>tries.JOB; [ JOB != 2 ] || [ $(wc -l <tries.JOB) = 2 ]"
    status, output = slurm.run("--retry", "1", "JOB=1:3", "JOB.log", "bash", "-c", script)
    assert status == 0, output
    assert "shard 2 failed (status 1); try 2 of 2" in output
    assert "--array=2 " in slurm.calls("sbatch")[1]
    assert (slurm.folder / "2.log.backup.1").exists()


def test_a_refusal_is_told_in_sbatchs_words(slurm):
    sbatch = slurm.folder / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2; exit 1\n")
    status, output = slurm.run("--flags=-p x", "a.log", "true")
    assert status == 1
    assert "sbatch refused the job: error: invalid partition specified: x" in output
    assert "--requeue -p x " in output and "--flags of the file given as --cmd" in output
    sbatch.unlink()
    status, output = slurm.run("a.log", "true", PATH=f"{slurm.folder}/bin:/nowhere")
    assert status == 1 and "there is no sbatch here" in output
