"""What a person at a terminal sees, and what the log keeps."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from .conftest import TIMEOUT_S, Stub


def run_on_terminal(stub: Stub, *options: str, **environment: str) -> str:
    main, side = pty.openpty()
    process = subprocess.Popen(
        ["bash", "egs/stub/run.sh", *options],
        cwd=stub.root,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    stub.started.append(process)
    os.close(side)
    shown = b""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        readable, _, _ = select.select([main], [], [], 0.1)
        if readable:
            try:
                shown += os.read(main, 65536)
            except OSError:  # Linux says so when the last writer has closed
                break
        elif process.poll() is not None:
            break
    os.close(main)
    assert process.wait(timeout=TIMEOUT_S) == 0, shown
    return shown.decode()


def test_a_bar_reaches_the_terminal_and_never_the_log(stub: Stub) -> None:
    stub.write('work() { echo line; printf "\\r50 %%" >&"$NEST_PROGRESS_FD"; }\nstage 0 a at:"$data" -- work')
    shown = run_on_terminal(stub)
    assert "50 %" in shown and "line" in shown
    log = (stub.data / "log" / "0-a.log").read_text()
    assert "line\n" in log and "50 %" not in log


def test_a_line_overwrites_the_bar_whatever_its_colour(stub: Stub) -> None:
    lines = r'printf "line\n\033[1mbold\033[m\nERROR bad\n2026-11-22 10:00:00 WARNING odd\n"'
    stub.write(f'work() {{ {lines}; }}\nstage 0 a at:"$data" -- work')
    shown = run_on_terminal(stub).splitlines()
    for line in ("line", "\033[1mbold\033[m", "\033[31mERROR bad\033[m"):
        assert f"\033[K{line}" in shown
    assert "\033[K\033[33m2026-11-22 10:00:00 WARNING odd\033[m" in shown
    plain = run_on_terminal(stub, "--force", NO_COLOR="1").splitlines()
    assert {"\033[KERROR bad", "\033[K2026-11-22 10:00:00 WARNING odd"} <= set(plain)


def test_a_terminal_that_cannot_be_drawn_on_is_like_a_log(stub: Stub) -> None:
    stub.write('work() { echo "fd: ${NEST_PROGRESS_FD-none}"; }\nstage 0 a at:"$data" -- work')
    shown = run_on_terminal(stub, TERM="dumb")
    assert "fd: none" in shown and "\033" not in shown


def test_submit_draws_on_the_terminal_and_not_in_the_log(stub: Stub) -> None:
    stub.write('stage 0 a at:"$data" -- on_cpu JOB=1:2 "$data/log/a.JOB.log" true')
    assert "shards done, " in run_on_terminal(stub)
    assert "running" not in (stub.data / "log" / "0-a.log").read_text()


def test_without_a_terminal_there_is_no_descriptor_for_bars(stub: Stub) -> None:
    stub.write('work() { echo "fd: ${NEST_PROGRESS_FD-none}"; }\nstage 0 a at:"$data" -- work')
    status, output = stub.run(NEST_PROGRESS_FD="7")
    assert status == 0
    assert "fd: none" in output
