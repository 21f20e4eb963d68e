"""What the recipe layer leaves about stages, as programs read it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from nest_ssl.files.system import process_is_alive
from nest_ssl.report.stages import Call, read_calls, read_stages, seconds_of


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """exp/small of a recipe with two stages on the data and three of its own."""
    folder = tmp_path / "exp" / "small"
    for at in (folder, tmp_path / "data"):
        (at / ".done").mkdir(parents=True)
    (folder / ".done" / ".stages").write_text(
        "0\tdata\t../../data\t../../data/log/0-data.log\n"
        "3\tpretrain\t.\tlog/3-pretrain.log\n"
        "4\tbase\t.\tlog/4-base.log\n"
    )
    return folder


def mark(folder: Path, name: str, text: str) -> None:
    (folder / ".done" / name).write_text(text)


def lock(folder: Path, pid: int, start: str, stage: str, host: str | None = None) -> None:
    host = host or socket.gethostname()
    (folder / ".lock").write_text(
        f"pid {pid}\nhost {host}\nsince 2026-11-22 10:00:00\nstart {start}\nrun x.1\nstage stage {stage}\n"
    )


def born(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]


def states(folder: Path) -> dict[str, str]:
    return {stage.name: stage.state for stage in read_stages(folder)}


def test_a_marker_tells_when_and_how_long(experiment: Path) -> None:
    mark(
        experiment.parent.parent / "data", "0-data", "command x\n# 2026-11-22 10:00:30, took 1 h 0 min 5 s\n"
    )
    stage = read_stages(experiment)[0]
    assert (stage.number, stage.name, stage.state, stage.took_s) == (0, "data", "done", 3605.0)
    assert stage.started == datetime(2026, 11, 22, 9, 0, 25)
    assert stage.ended == datetime(2026, 11, 22, 10, 0, 30)
    assert stage.log == experiment.parent.parent / "data" / "log" / "0-data.log"


@pytest.mark.parametrize(
    ("attempt", "state", "detail", "took_s"),
    [
        ("failed with status 6, 2026-11-22 10:00:30, after 12 s", "failed", "failed with status 6", 12.0),
        ("stopped by SIGINT, 2026-11-22 10:00:30, after 1 min 0 s", "stopped", "stopped by SIGINT", 60.0),
        ("failed with status 6, 2026-11-22 10:00:30", "failed", "failed with status 6", None),
        ("interrupted; it started 2026-11-22 10:00:30", "stopped", "interrupted", None),
        ("it ended well, but x is missing or empty, 2026-11-22 10:00:30, after 2 s", "failed",
         "it ended well, but x is missing or empty", 2.0),
    ],
)  # fmt: skip
def test_an_attempt_that_did_not_end_well(
    experiment: Path, attempt: str, state: str, detail: str, took_s: float | None
) -> None:
    mark(experiment, ".3-pretrain.attempt", attempt + "\n")
    stage = read_stages(experiment)[1]
    assert (stage.state, stage.detail, stage.took_s) == (state, detail, took_s)


def test_a_stage_without_any_trace_is_missing(experiment: Path) -> None:
    assert states(experiment) == {"data": "missing", "pretrain": "missing", "base": "missing"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process is told by /proc")
def test_the_holder_of_the_lock_runs_its_stage_only_while_it_lives(experiment: Path) -> None:
    mark(experiment, ".3-pretrain.attempt", "interrupted; it started 2026-11-22 10:00:30\n")
    lock(experiment, os.getpid(), born(os.getpid()), "3 (pretrain)")
    stage = read_stages(experiment)[1]
    assert (stage.state, stage.started) == ("running", datetime(2026, 11, 22, 10, 0, 30))
    assert stage.detail == f"pid {os.getpid()} on {socket.gethostname()}"
    lock(experiment, os.getpid(), "1", "3 (pretrain)")  # the number was given to another process
    stage = read_stages(experiment)[1]
    assert (stage.state, stage.detail) == ("stopped", "the run was killed")
    lock(experiment, 1, "1", "3 (pretrain)", host="elsewhere")  # nobody can be asked there
    assert states(experiment)["pretrain"] == "running"
    log = read_stages(experiment)[1].log
    log.parent.mkdir(exist_ok=True)
    log.write_text("a line")
    assert read_stages(experiment)[1].detail == "pid 1 on elsewhere"
    os.utime(log, (log.stat().st_mtime - 3600,) * 2)
    assert read_stages(experiment)[1].detail == (
        "pid 1 on elsewhere; no line in its log for 60 min: was it killed?"
    )


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process is told by /proc")
def test_a_process_that_has_ended_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not process_is_alive(process.pid)
    assert process_is_alive(os.getpid())


def test_without_the_list_markers_and_attempts_tell(experiment: Path) -> None:
    (experiment / ".done" / ".stages").unlink()
    mark(experiment.parent.parent / "data", "0-data", "# 2026-11-22 10:00:30, took 5 s\n")
    mark(experiment, "10-report", "# 2026-11-22 10:02:30, took 5 s\n")
    mark(experiment, ".4-base.attempt", "failed with status 1, 2026-11-22 10:01:30\n")
    mark(experiment, "4-base.new", "half written")
    assert [(s.number, s.name, s.state) for s in read_stages(experiment)] == [
        *((0, "data", "done"), (4, "base", "failed"), (10, "report", "done"))
    ]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing: there is no such folder"):
        read_stages(tmp_path / "nothing")
    assert read_stages(tmp_path) == []


def test_calls_are_given_in_order_with_time_machine_and_folder(experiment: Path) -> None:
    mark(
        experiment,
        ".command",
        "# 2026-11-22 10:00:00 on vm in /a b\nbash run.sh\n"
        "# 2026-11-22 11:00:00 on vm in /c\nbash run.sh --stage 4\n",
    )
    assert read_calls(experiment) == [
        Call(datetime(2026, 11, 22, 10), "vm", "/a b", "bash run.sh"),
        Call(datetime(2026, 11, 22, 11), "vm", "/c", "bash run.sh --stage 4"),
    ]
    assert read_calls(experiment / "nothing") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("12 s", 12),
        ("5 min 22 s", 322),
        ("2 h 10 min", 7800),
        ("2 h 10 min 5 s", 7805),
        ("soon", None),
        ("", None),
    ],
)
def test_spelled_times(words: str, expected: float | None) -> None:
    assert seconds_of(words) == expected
