from __future__ import annotations

import fcntl
import os
import struct
import termios

import pytest

from nest_ssl.bin import terminal


@pytest.fixture
def pseudo_terminal():
    """(master, slave) descriptors of a terminal of 80 columns."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield master, slave
    os.close(master)
    os.close(slave)


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
    drawn = os.read(master, 10000).decode()
    assert "\r\033[Kpretrain:  67%" in drawn
    assert drawn.endswith("\r")
    assert capfd.readouterr() == ("", "")


def test_a_process_started_by_the_verb_finds_the_terminal_by_its_path(pseudo_terminal, monkeypatch):
    master, slave = pseudo_terminal
    monkeypatch.setenv("NEST_PROGRESS_FD", str(slave))
    terminal.share_terminal()
    assert os.environ["NEST_PROGRESS_TTY"] == os.ttyname(slave)
    monkeypatch.setenv("NEST_PROGRESS_FD", "987")  # closed in a spawned process
    draw()
    assert "67%" in os.read(master, 10000).decode()
    monkeypatch.delenv("NEST_PROGRESS_TTY")


def test_no_bar_reaches_a_log(monkeypatch, capfd):
    monkeypatch.delenv("NEST_PROGRESS_FD", raising=False)
    monkeypatch.delenv("NEST_PROGRESS_TTY", raising=False)
    draw()
    assert capfd.readouterr() == ("", "")
