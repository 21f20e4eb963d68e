from __future__ import annotations

import fcntl
import logging
import os
import select
import struct
import termios

import pytest

from nest_ssl.bin import terminal
from nest_ssl.bin.progress import corpus_progress, training_bars


@pytest.fixture
def pseudo_terminal(monkeypatch):
    """(master, slave) descriptors of a terminal of 80 columns."""
    monkeypatch.setenv("TERM", "xterm")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield master, slave
    os.close(master)
    os.close(slave)


def drawn_until(master: int, expected: str) -> str:
    """What the terminal shows, read until `expected` and what follows it in the same drawing."""
    drawn = b""  # a read may end within a character
    while expected.encode() not in drawn or not drawn.endswith(b"\r"):
        assert select.select([master], [], [], 240)[0], drawn
        drawn += os.read(master, 10000)
    return drawn.decode()


def draw() -> None:
    with terminal.progress_bar(3, "step", "pretrain") as bar:
        bar.update(2)
        bar.refresh()


def test_a_bar_goes_to_the_terminal_that_the_recipe_names_and_ends_at_the_margin(
    pseudo_terminal, monkeypatch, capfd
):
    master, slave = pseudo_terminal
    monkeypatch.delenv("NEST_PROGRESS_TTY", raising=False)
    monkeypatch.setenv("NEST_PROGRESS_FD", str(slave))
    draw()
    drawn = drawn_until(master, "67%")
    assert "\r\033[Kpretrain:  67%" in drawn
    assert drawn.endswith("\r")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_that_cannot_be_drawn_on_gets_no_bar(pseudo_terminal, monkeypatch):
    monkeypatch.setenv("NEST_PROGRESS_FD", str(pseudo_terminal[1]))
    monkeypatch.setenv("TERM", "dumb")
    draw()
    assert not select.select([pseudo_terminal[0]], [], [], 0)[0]


def test_a_process_started_by_the_verb_finds_the_terminal_by_its_path(pseudo_terminal, monkeypatch):
    master, slave = pseudo_terminal
    monkeypatch.setenv("NEST_PROGRESS_FD", str(slave))
    terminal.share_terminal()
    assert os.environ["NEST_PROGRESS_TTY"] == os.ttyname(slave)
    monkeypatch.setenv("NEST_PROGRESS_FD", "987")  # closed in a spawned process
    draw()
    assert "67%" in drawn_until(master, "67%")
    monkeypatch.delenv("NEST_PROGRESS_TTY")


def test_no_bar_reaches_a_log(monkeypatch, capfd):
    monkeypatch.delenv("NEST_PROGRESS_FD", raising=False)
    monkeypatch.delenv("NEST_PROGRESS_TTY", raising=False)
    draw()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def clock_of(monkeypatch):
    """Set the time that the bars see."""
    monkeypatch.delenv("NEST_PROGRESS_FD", raising=False)
    monkeypatch.delenv("NEST_PROGRESS_TTY", raising=False)
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute_instead_of_a_bar(clock_of, caplog, capfd):
    caplog.set_level(logging.INFO)
    with terminal.progress_bar(500, "utt", "extract", initial=100) as bar:
        for _ in range(5):
            clock_of[0] += 20
            bar.update(20)
    assert [record.getMessage() for record in caplog.records] == [
        "extract utt 160/500 (32.0 %) 1 utt/s eta 0:05:40"
    ]
    assert capfd.readouterr().out == ""


def test_the_log_of_a_stage_gets_its_lines_though_the_bar_is_on_the_terminal(
    clock_of, pseudo_terminal, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    master, slave = pseudo_terminal
    monkeypatch.setenv("NEST_PROGRESS_FD", str(slave))
    with terminal.progress_bar(500, "utt", "extract", initial=100) as bar:
        for _ in range(5):
            clock_of[0] += 20
            bar.update(20)
        bar.refresh()
        assert "40%" in drawn_until(master, "40%")
    with corpus_progress(1000, "simulate", (1, 2)) as progress:
        for _ in range(3):
            clock_of[0] += 50
            progress.advance(1, 25.0)
    with training_bars("pretrain")(1000, 0) as steps:  # train.log has these
        clock_of[0] += 100
        steps.update(10)
    assert [record.getMessage() for record in caplog.records] == [
        "extract utt 160/500 (32.0 %) 1 utt/s eta 0:05:40",
        "simulate shard 1/2 utterances 2/1000 (0.2 %) audio_s/s 0 eta 13:51:40",
    ]


def test_on_a_terminal_alone_there_is_a_bar_and_no_line(clock_of, pseudo_terminal, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    master, slave = pseudo_terminal
    with os.fdopen(os.dup(slave), "w", buffering=1) as stream:
        monkeypatch.setattr(terminal.sys, "stderr", stream)
        with terminal.progress_bar(500, "utt", "extract") as bar:
            clock_of[0] += 200
            bar.update(250)
            bar.refresh()
        assert "50%" in drawn_until(master, "50%")
    assert not caplog.records


def test_lines_of_downloads_are_in_megabytes_and_an_unknown_total_has_no_eta(clock_of, caplog):
    caplog.set_level(logging.INFO)
    for total in (4e9, None):
        with terminal.progress_bar(total, "B", "fetch") as bar:
            clock_of[0] += 100
            bar.update(1e9)
    assert [record.getMessage() for record in caplog.records] == [
        "fetch 1000.0 MB/4000.0 MB (25.0 %) 10.0 MB/s eta 0:05:00",
        "fetch 1000.0 MB 10.0 MB/s",
    ]


def test_work_with_a_log_of_its_own_gets_no_lines(clock_of, caplog):
    caplog.set_level(logging.INFO)
    steps = training_bars("pretrain")(1000, 0)
    clock_of[0] += 100
    steps.update(10)
    steps.set_postfix_str("loss 1.0")
    steps.close()
    validation = training_bars("pretrain")(200, 0, validation=True)
    clock_of[0] += 100
    validation.update(50)
    assert [record.getMessage() for record in caplog.records] == [
        "pretrain validation batch 50/200 (25.0 %) 0.5 batch/s eta 0:05:00"
    ]


def test_a_validation_takes_the_line_of_the_training_meanwhile(pseudo_terminal, monkeypatch):
    """Nested bars of tqdm move the cursor down and up, which would tear the lines of the log apart."""
    master, slave = pseudo_terminal
    monkeypatch.delenv("NEST_PROGRESS_TTY", raising=False)
    monkeypatch.setenv("NEST_PROGRESS_FD", str(slave))
    steps = training_bars("pretrain")(1000, 0)
    with training_bars("pretrain")(200, 0, validation=True) as validation:
        validation.update(100)
        validation.refresh()
    drawn = drawn_until(master, "50%")
    steps.close()
    assert "pretrain validation:  50%" in drawn
    assert "\n" not in drawn and "\033[A" not in drawn
