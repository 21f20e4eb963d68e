"""utils/submit.py on one machine; tests/utils/test_submit_slurm.py has the Slurm back end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from .conftest import TIMEOUT_S, is_alive, wait_until


@pytest.fixture
def submit(checkout: Path, tmp_path: Path) -> list[str]:
    return [sys.executable, str(checkout / "utils" / "submit.py")]


def call(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_job_is_replaced_in_the_log_and_in_every_word(submit: list[str], tmp_path: Path) -> None:
    result = call(
        [*submit, "JOB=2:4", "my logs/a.JOB.log", "printf", "<%s>", "JOB/4", "a JOB b", "*"], tmp_path
    )
    assert result.returncode == 0, result.stderr
    logs = sorted(path.name for path in (tmp_path / "my logs").iterdir())
    assert logs == ["a.2.log", "a.3.log", "a.4.log"]
    assert "<3/4><a 3 b><*>" in (tmp_path / "my logs" / "a.3.log").read_text()


def test_a_log_has_kaldis_header_and_trailer(submit: list[str], tmp_path: Path) -> None:
    call([*submit, "a.log", "bash", "-c", "echo out; echo err >&2"], tmp_path)
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert lines[0] == "# bash -c 'echo out; echo err >&2'"
    assert lines[1].startswith("# Running on ")
    assert lines[2].startswith("# Started at ")
    assert lines[3:6] == ["#", "out", "err"]
    assert re.fullmatch(r"# Accounting: time=\d+ threads=1", lines[6])
    assert lines[7].startswith("# Finished at ") and lines[7].endswith(" with status 0")


def test_without_job_the_command_runs_once(submit: list[str], tmp_path: Path) -> None:
    result = call([*submit, "x/JOB.log", "echo", "JOB"], tmp_path)
    assert result.returncode == 0
    assert "\nJOB\n" in (tmp_path / "x" / "JOB.log").read_text()
    assert result.stdout == ""


def test_no_more_than_max_jobs_run_at_a_time(submit: list[str], tmp_path: Path) -> None:
    script = "mkdir alone && sleep 0.02 && rmdir alone"
    result = call([*submit, "--max-jobs-run", "1", "JOB=1:5", "JOB.log", "bash", "-c", script], tmp_path)
    assert result.returncode == 0, result.stderr


def test_shards_run_side_by_side(submit: list[str], tmp_path: Path) -> None:
    """Each waits for the other, so they end only if both run."""
    script = "touch here.JOB; until [ -e here.1 ] && [ -e here.2 ]; do sleep 0.01; done"
    result = call([*submit, "--max-jobs-run", "2", "JOB=1:2", "JOB.log", "bash", "-c", script], tmp_path)
    assert result.returncode == 0


def test_failed_shards_are_named_and_the_first_log_is_shown(submit: list[str], tmp_path: Path) -> None:
    script = "seq -f 'line %g' 50; case $1 in 2) exit 5 ;; 3) kill -KILL $$ ;; esac"
    result = call([*submit, "JOB=1:3", "a.JOB.log", "bash", "-c", script, "x", "JOB"], tmp_path)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert (
        lines[0]
        == "submit.py: 2 of 3 shards failed: 2 (status 5), 3 (killed by SIGKILL). The end of a.2.log:"
    )
    assert len(lines) == 26
    assert lines[1] == "    | line 28"
    assert lines[25].endswith("with status 5")
    assert "status 137 (killed by SIGKILL)" in (tmp_path / "a.3.log").read_text()
    assert "1 of 3 shards done" in result.stdout


def test_a_single_command_keeps_its_status(submit: list[str], tmp_path: Path) -> None:
    assert call([*submit, "a.log", "bash", "-c", "exit 3"], tmp_path).returncode == 3
    assert call([*submit, "JOB=1:2", "a.JOB.log", "bash", "-c", "exit 3"], tmp_path).returncode == 1


def test_retry_keeps_the_earlier_logs(submit: list[str], tmp_path: Path) -> None:
    script = "echo try; echo x >>tries; [ $(wc -l <tries) = 3 ]"
    result = call([*submit, "--retry", "2", "a.log", "bash", "-c", script], tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.glob("a.log*")) == [
        "a.log",
        "a.log.backup.1",
        "a.log.backup.2",
    ]
    assert "with status 1" in (tmp_path / "a.log.backup.2").read_text()
    assert "shard 1 failed (status 1); try 2 of 3" in result.stdout
    (tmp_path / "tries").unlink()
    assert call([*submit, "--retry", "1", "a.log", "bash", "-c", script], tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.log"], "the form is: submit.py [options] [JOB=1:N] LOG COMMAND..."),
        ([], "the form is: submit.py [options] [JOB=1:N] LOG COMMAND..."),
        (["JOB=1:2", "a.log", "true"], "a.log: 2 shards would write the same log; put JOB into its name"),
        (["JOB=0:2", "JOB.log", "true"], "JOB=0:2: shards count from 1"),
        (
            ["JOB=3:2", "JOB.log", "true"],
            "JOB=3:2: shards count from 1, and the last is not before the first",
        ),
        (["JOB=1:x", "JOB.log", "true"], "JOB=1:x: the shards are given as JOB=1:N"),
        (["--max-jobs-run", "0", "a.log", "true"], "--max-jobs-run 0: at least 1"),
        (["--retry", "-1", "a.log", "true"], "--retry -1: 0 or more"),
        (["--poll", "0", "a.log", "true"], "--poll 0.0: above 0"),
        (["--flags=--mem=1G", "a.log", "true"], "--flags and --srun are for --backend slurm"),
        (["--srun", "a.log", "true"], "--flags and --srun are for --backend slurm"),
    ],
)
def test_a_mistake_in_the_call_is_named(
    submit: list[str], tmp_path: Path, words: list[str], message: str
) -> None:
    result = call([*submit, *words], tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_does_not_exist_is_named(submit: list[str], tmp_path: Path) -> None:
    result = call([*submit, "--retry", "3", "a.log", "no_such_program"], tmp_path)
    assert result.returncode == 1
    assert "cannot start no_such_program: No such file or directory" in result.stderr
    assert "with status 127" in (tmp_path / "a.log").read_text()


def test_a_log_that_cannot_be_written_fails_its_shard(submit: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = call([*submit, "file/a.log", "true"], tmp_path)
    assert result.returncode == 1
    assert "cannot write file/a.log: File exists" in result.stderr
    (tmp_path / "full.log").symlink_to("/dev/full")
    result = call([*submit, "full.log", "true"], tmp_path)
    assert result.returncode == 1
    assert "cannot write full.log: No space left on device" in result.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_every_shard_and_starts_no_more(
    submit: list[str], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    script = "sleep 1000 & echo $! >child.$1.new; mv child.$1.new child.$1; wait $!"
    words = [
        *submit,
        "--max-jobs-run",
        "2",
        "--retry",
        "3",
        "JOB=1:4",
        "JOB.log",
        "bash",
        "-c",
        script,
        "x",
        "JOB",
    ]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = [tmp_path / "child.1", tmp_path / "child.2"]
    wait_until(lambda: all(path.exists() for path in children), "two shards to start")
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == status
    assert f"stopped by {number.name}" in errors
    assert not any(is_alive(int(path.read_text())) for path in children)
    assert not (tmp_path / "3.log").exists()
    assert "(killed by SIGTERM)" in (tmp_path / "1.log").read_text()


def test_a_second_signal_kills_what_ignores_the_first(submit: list[str], tmp_path: Path) -> None:
    script = 'trap "" TERM; echo $$ >pid.new; mv pid.new pid; while :; do sleep 0.05; done'
    process = subprocess.Popen(
        [*submit, "a.log", "bash", "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    wait_until((tmp_path / "pid").exists, "the shard to start")
    process.terminate()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=TIMEOUT_S) in (130, 143)  # whichever was seen first
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_progress_tells_how_far_the_running_shards_are(submit: list[str], tmp_path: Path) -> None:
    """Shard 1 has ended, 2 and 3 are at 20 and 30 of 200 with 2 and 3 minutes left: nothing else waits."""
    line = 'echo "2026-11-21 19:40:01 INFO decode shard $1/3 utterances $10/200 (5.0 %) eta 0:0$1:00"'
    hold = "[ $1 = 1 ] || until [ -e go ]; do sleep 0.01; done"
    words = [
        *submit,
        "--max-jobs-run",
        "3",
        "JOB=1:3",
        "JOB.log",
        "bash",
        "-c",
        f"{line}; {hold}",
        "x",
        "JOB",
    ]
    read, write = os.pipe()
    environment = {"PATH": os.environ["PATH"], "NEST_PROGRESS_FD": str(write)}
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment, pass_fds=[write], stdout=subprocess.PIPE, text=True
    )
    os.close(write)
    drawn = ""
    expected = "1 of 3 shards done, 2 running, these at utterances 50 of 400, eta 0:03:00"
    with open(read, encoding="utf-8", newline="") as terminal:
        while expected not in drawn:
            drawn += (some := terminal.read(1))
            assert some, drawn
        (tmp_path / "go").touch()
        terminal.read()
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert output.splitlines()[-1].startswith("submit.py: 3 of 3 shards done in ")


def test_progress_is_drawn_on_the_descriptor_of_the_recipe_layer(submit: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    words = [
        *submit,
        "--max-jobs-run",
        "1",
        "JOB=1:2",
        "JOB.log",
        "bash",
        "-c",
        'echo "fd $NEST_PROGRESS_FD"',
    ]
    environment = {"PATH": os.environ["PATH"], "NEST_PROGRESS_FD": str(write)}
    result = subprocess.run(
        words, cwd=tmp_path, env=environment, pass_fds=[write], capture_output=True, text=True, check=True
    )
    os.close(write)
    with open(read, newline="") as terminal:
        drawn = terminal.read()
    lines = [line.strip().partition(", eta ")[0] for line in drawn.split("\r\033[K")]
    assert [line for line, _ in groupby(lines)] == [  # on a busy machine one may be drawn again
        *("", "0 of 2 shards done, 1 running", "1 of 2 shards done, 1 running", "")
    ]
    assert "\r" not in result.stdout + result.stderr
    first, last = result.stdout.splitlines()
    assert first == "submit.py: 2 shards, 1 at a time, logs JOB.log"
    assert re.fullmatch(r"submit\.py: 2 of 2 shards done in \d+ s", last)
    assert "\nfd \n" in (tmp_path / "1.log").read_text()  # bars of several shards would overwrite each other


def test_a_single_job_may_draw_its_own_bar(submit: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    words = [*submit, "a.log", "bash", "-c", 'echo bar >&"$NEST_PROGRESS_FD"']
    environment = {"PATH": os.environ["PATH"], "NEST_PROGRESS_FD": str(write)}
    subprocess.run(words, cwd=tmp_path, env=environment, pass_fds=[write], check=True)
    os.close(write)
    with open(read) as terminal:
        assert terminal.read() == "bar\n"
