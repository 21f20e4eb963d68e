"""The verb status: what it shows, finds and refuses, and how a watch ends."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nest_ssl.bin import status

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    """exp/ of a recipe with one experiment, small: two stages, one of them done."""
    done = tmp_path / "exp" / "small" / ".done"
    done.mkdir(parents=True)
    (done / ".stages").write_text("3\tpretrain\t.\tlog/3-pretrain.log\n4\tbase\t.\tlog/4-base.log\n")
    (done / "3-pretrain").write_text("# 2026-11-22 10:00:30, took 12 s\n")
    return tmp_path / "exp"


def make_live(experiment: Path, pid: int) -> None:
    """Stage base is run by that process."""
    (experiment / ".done" / ".4-base.attempt").write_text("interrupted; it started 2026-11-22 10:00:30\n")
    start = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    facts = f"pid {pid}\nhost {os.uname().nodename}\nsince x\nstart {start}\nrun x\nstage stage 4 (base)\n"
    (experiment / ".lock").write_text(facts)


def test_the_page_of_an_experiment(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([str(experiments / "small")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"exp  {experiments / 'small'}"
    assert lines[2] == "  3 pretrain     done     2026-11-22 10:00:30            12 s"
    assert lines[3] == "  4 base         missing"
    assert lines[-1].endswith("  1 of 2 stages done, 12 s; nothing runs; next: 4 (base)")


def test_json_has_all_of_it(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status.main([str(experiments / "small"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["running"], found["runs"], found["shards"]) == (False, [], None)
    assert [(s["name"], s["state"], s["ended"], s["took_s"]) for s in found["stages"]] == [
        ("pretrain", "done", "2026-11-22 10:00:30", 12.0),
        ("base", "missing", None, None),
    ]


def test_the_only_experiment_is_found_from_the_recipe_and_from_exp(experiments: Path) -> None:
    for folder in (experiments, experiments.parent):
        assert status.experiment_of(folder) == experiments / "small"


def test_several_experiments_are_named(experiments: Path) -> None:
    (experiments / "big" / ".done").mkdir(parents=True)
    (experiments / "big" / ".done" / ".stages").write_text("")
    with pytest.raises(ValueError, match="holds 2 experiments: big, small"):
        status.experiment_of(experiments)


def test_runs_side_by_side_are_one_experiment(tmp_path: Path) -> None:
    for name in ("encoder", "adaptor"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "env.json").write_text("{}")
    assert status.experiment_of(tmp_path / "runs") == tmp_path / "runs"
    assert status.experiment_of(tmp_path) == tmp_path / "runs"


def test_what_is_no_experiment_is_refused_in_words(experiments: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder; in .*exp there is small"):
        status.experiment_of(experiments / "smal")
    with pytest.raises(ValueError, match="is a file; name the folder"):
        status.experiment_of(experiments / "small" / ".done" / ".stages")
    (experiments.parent / "empty" / "x").mkdir(parents=True)
    with pytest.raises(ValueError, match="no stage of a recipe and no training has left anything here"):
        status.experiment_of(experiments.parent / "empty" / "x")


@pytest.mark.parametrize("words", [["exp", "--watch", "0"], ["--watch", "exp"], ["exp", "--watch", "soon"]])
def test_a_time_that_is_none_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        status.main(words)
    assert "is no time in seconds (0.1 or more)" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process is told by /proc")
def test_a_watch_in_a_pipe_prints_pages_until_the_run_ends(
    experiments: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_live(experiments / "small", os.getpid())

    def end_the_run(seconds: float) -> None:
        assert seconds == 5
        (experiments / "small" / ".lock").unlink()
        (experiments / "small" / ".done" / ".4-base.attempt").write_text(
            "failed with status 2, 2026-11-22 10:01:30, after 1 min 0 s\n"
        )

    monkeypatch.setattr(status.time, "sleep", end_the_run)
    assert status.main([str(experiments / "small"), "--watch", "5"]) == 1  # a stage failed
    shown = capsys.readouterr().out
    assert "  4 base         running  since 11-22 10:00:30" in shown
    assert shown.count("exp  ") == 2 and "\033" not in shown
    assert re.search(r"^  4 base         failed   2026-11-22 10:01:30 +1 min 0 s  status 2$", shown, re.M)


@needs_pty
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_gives_the_terminal_back(experiments: Path, checkout: Path, how: signal.Signals) -> None:
    make_live(experiments / "small", os.getpid())
    main, side = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nest_ssl.bin.status", str(experiments / "small"), "--watch", "0.1"],
        cwd=checkout,
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(side)
    shown = read_until(main, "running: 4 (base)\033[K\033[J\033[H")  # drawn, and drawn again in place
    assert shown.startswith("\033[?1049h\033[?25l")
    process.send_signal(how)
    shown = read_until(main, None)
    assert process.wait(timeout=240) == (0 if how == signal.SIGINT else 143)
    assert "\033[?25h\033[?1049l" in shown and "Traceback" not in shown
    os.close(main)


def read_until(descriptor: int, expected: str | None) -> str:
    """What a terminal shows, up to a text or to its end."""
    shown = b""  # a read may end within a character
    while expected is None or expected.encode() not in shown:
        assert select.select([descriptor], [], [], 240)[0], shown
        try:
            some = os.read(descriptor, 65536)
        except OSError:  # Linux says so when the last writer has closed
            break
        if not some:
            break
        shown += some
    return shown.decode()


def test_a_frame_is_cut_to_the_screen(experiments: Path) -> None:
    found = status.read_status(experiments / "small", status.datetime(2026, 11, 22, 12))
    drawn = status.frame(found, 60, 4, False)
    lines = drawn.removeprefix("\033[H").removesuffix("\033[J").split("\r\n")
    assert len(lines) == 4
    assert lines[2] == "... 3 lines more\033[K"
    assert "1 of 2 stages done" in lines[3]
