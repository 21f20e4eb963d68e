"""How far a running experiment is: trainings, shards, and the page about them."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nest_ssl.report.live import read_shards, read_status
from nest_ssl.report.stages import StageState
from nest_ssl.report.status_page import status_lines

NOW = datetime(2026, 11, 22, 12, 0, 0)


def training(folder: Path, pid: int, last_s_ago: float = 10, steps: int = 450, every_s: float = 5) -> None:
    """A run directory whose last line is that old, with one validation at step 400."""
    folder.mkdir(parents=True)
    (folder / ".lock").write_text(f"process {pid} on {socket.gethostname()}")
    rows = []
    for step in range(50, steps + 1, 50):
        time = NOW - timedelta(seconds=last_s_ago + every_s * (steps - step) / 50)
        row = {"time": f"{time:%Y-%m-%d %H:%M:%S}", "kind": "train", "step": step, "max_steps": 2000}
        rows.append(
            {
                **row,
                "loss": 5 - step / 1000,
                "lr": 1e-3,
                "audio_s/s": 100.4,
                "mem_gb": 1.25,
                "eta": "01:00:00",
            }
        )
        if step in (300, 400):
            rows.append(
                {**row, "kind": "validation", "val_loss": 4.0 + step / 1000, "val_acc": 0.5, "seconds": 3.0}
            )
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text + '{"time": "2026-11')  # being written


def test_a_live_training_has_its_last_figures_and_the_time_left_from_now(tmp_path: Path) -> None:
    training(tmp_path / "pretrain", os.getpid())
    status = read_status(tmp_path, NOW)
    (run,) = status.runs
    assert status.running and run.state == "trains"
    assert (run.name, run.step, run.max_steps, run.loss, run.lr) == ("pretrain", 450, 2000, 4.55, 1e-3)
    assert (run.val_loss, run.best_val_loss, run.best_step) == (4.4, 4.3, 300)
    assert run.eta_s == 3590.0
    assert run.quiet_s is None
    assert run.metrics == {"val_acc": 0.5}


def test_a_training_is_quiet_after_several_times_its_usual_interval(tmp_path: Path) -> None:
    training(tmp_path / "often", os.getpid(), last_s_ago=90, every_s=5)
    training(tmp_path / "seldom", os.getpid(), last_s_ago=90, every_s=40)
    quiet = {run.name: run.quiet_s for run in read_status(tmp_path, NOW).runs}
    assert quiet == {"often": 90.0, "seldom": None}
    page = "\n".join(status_lines(read_status(tmp_path, NOW)))
    assert "    often: no line for 1 min 30 s; has it hung?\n" in page
    assert "seldom: no line" not in page


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process is told by /proc")
def test_a_training_whose_process_is_gone_has_stopped_or_is_done(tmp_path: Path) -> None:
    gone = 2**22 + 1  # above the largest process number of Linux
    training(tmp_path / "a", gone)
    training(tmp_path / "b", gone, steps=2000)
    status = read_status(tmp_path, NOW)
    assert {run.name: run.state for run in status.runs} == {"a": "stopped", "b": "done"}
    assert not status.running


def test_shards_are_counted_by_their_logs(tmp_path: Path) -> None:
    log = tmp_path / "8-decode.log"
    log.write_text(
        f"submit.py: 9 shards, 2 at a time, logs {tmp_path}/old.JOB.log\n"
        "submit.py: 9 of 9 shards done in 3 s\n"
        f"submit.py: 5 shards, 2 at a time, logs {tmp_path}/decode.JOB.log\n"
        "submit.py: 1 of 5 shards done, 2 running\n"
    )
    head = "# python3 x\n# Running on vm\n# Started at Sun\n#\n"
    at = "2026-11-22 11:00:00 INFO decode utterances {}/200 (1.0 %) audio_s/s 9 eta {}\n"
    (tmp_path / "decode.1.log").write_text(head + "# Finished at Sun Nov 22 with status 0\n")
    (tmp_path / "decode.2.log").write_text(head + at.format(10, "0:09:00") + at.format(50, "0:02:10"))
    (tmp_path / "decode.3.log").write_text(head + at.format(25, "10:00:00"))
    (tmp_path / "decode.4.log").write_text(head + "# Finished at Sun Nov 22 with status 137 (killed)\n")
    (tmp_path / "decode.5.log").write_text("of an earlier attempt")
    began = datetime.fromtimestamp(int((tmp_path / "decode.1.log").stat().st_mtime))
    os.utime(tmp_path / "decode.5.log", (began.timestamp() - 60,) * 2)
    stage = StageState(8, "decode", "running", began, None, None, log, "", tmp_path)
    shards = read_shards(stage)
    assert shards is not None
    assert (shards.total, shards.done, shards.running, shards.failed) == (5, 1, 2, 1)
    assert (shards.unit, shards.made, shards.planned, shards.eta) == ("utterances", 75, 400, "10:00:00")
    log.write_text(log.read_text() + "submit.py: 4 of 5 shards done in 60 s\n")
    assert read_shards(stage) is None


@pytest.mark.parametrize("width", [40, 62, 80, 100, 200])
def test_the_page_fits_the_width_and_drops_the_least_first(tmp_path: Path, width: int) -> None:
    training(tmp_path / "control_encoder_with_a_long_name", os.getpid())
    (tmp_path / ".done").mkdir()
    (tmp_path / ".done" / "3-pretrain").write_text("# 2026-11-22 10:00:30, took 2 h 0 min 5 s\n")
    lines = status_lines(read_status(tmp_path, NOW), width)
    assert max(map(len, lines)) <= width
    (head,) = [line for line in lines if line.startswith("    training")]
    assert ("mem_gb" in head) == (width >= 100 + 12) and ("loss" in head) == (width >= 62)


def test_a_stale_stage_says_what_changed_and_fits_the_width(tmp_path: Path) -> None:
    (tmp_path / ".done").mkdir()
    (tmp_path / "x.jsonl").write_text("{}")
    facts = "".join(f"input @exp@/x.jsonl = sha256 {number}\n" for number in range(10))
    (tmp_path / ".done" / "3-pretrain").write_text(f"{facts}# 2026-11-22 10:00:30, took 5 s\n")
    status = read_status(tmp_path, NOW)
    lines = status_lines(status, 100, above=tmp_path)
    assert lines[2].endswith("  5 s  changed since it was done")
    assert lines[3:12] == ["      changed: input x.jsonl"] * 8 + ["      ... and 2 more"]
    assert lines[-1] == "2026-11-22 12:00:00  0 of 1 stages done; nothing runs; next: 3 (pretrain)"
    narrow = status_lines(status, 70, above=tmp_path)
    assert narrow[2].endswith("  5 s") and narrow[3] == "      changed since it was done"
    assert narrow[-1] == "12:00:00  0 of 1 stages done; nothing runs; next: 3 (pretrain)"


def test_a_folder_within_another_path_is_not_taken_from_it(tmp_path: Path) -> None:
    (tmp_path / ".done").mkdir()
    (tmp_path / ".done" / "3-pretrain").write_text("input /mnt/work/x = a\n# 2026-11-22 10:00:30, took 5 s\n")
    lines = status_lines(read_status(tmp_path, NOW), above=Path("/work"))
    assert lines[3].strip() == "its input /mnt/work/x is missing or empty"


def test_chinese_names_take_two_columns_a_character(tmp_path: Path) -> None:
    training(tmp_path / "实验" / "编码器", os.getpid())
    training(tmp_path / "实验" / "lora", os.getpid())
    lines = status_lines(read_status(tmp_path / "实验", NOW))
    head = next(line for line in lines if line.startswith("    training"))
    one, other = (next(line for line in lines if f"{name}  " in line) for name in ("编码器", "lora"))
    assert head.index("state") == other.index("trains") == one.index("trains") + len("编码器")
    far = dataclasses.replace(read_status(tmp_path / "实验", NOW), folder=Path("实验" * 20))
    narrow = status_lines(far, 40)
    assert narrow[0] == "exp  " + "实验" * 8 + "..."  # 5 + 32 + 3 columns


def test_colours_are_nothing_but_colours(tmp_path: Path) -> None:
    training(tmp_path / "a", os.getpid(), last_s_ago=500)
    status = read_status(tmp_path, NOW)
    plain, coloured = status_lines(status), status_lines(status, colour=True)
    assert plain != coloured and "\033" not in "".join(plain)
    stripped = [line.replace("\033[m", "") for line in coloured]
    for code in ("2", "32", "33", "36", "1;31", "1;33", "1;36"):
        stripped = [line.replace(f"\033[{code}m", "") for line in stripped]
    assert stripped == plain
