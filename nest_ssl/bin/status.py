"""Show how far an experiment is: stages, times, steps, current figures and time left.

    python -m nest_ssl.bin.status exp/small
    python -m nest_ssl.bin.status exp/small --watch        # redrawn until the run ends, or Ctrl-C
    python -m nest_ssl.bin.status exp/small --json | jq .running

It only reads, from any machine that sees the folder. exp/TAG is the folder of a recipe's experiment, or
the directory of one training. A stage is stale when files that it was made from have changed since; of
options and commands only `bash run.sh --status` knows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.terminal import is_screen, run, uses_colour
from nest_ssl.report.folders import experiments_in, is_experiment
from nest_ssl.report.live import Status, read_status
from nest_ssl.report.runs import read_runs
from nest_ssl.report.stages import read_stages
from nest_ssl.report.status_page import FULL_WIDTH, status_lines

WATCH_S = 2.0
LOOK_S = 0.1  # a change of the window's size is seen so soon


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    folder = experiment_of(arguments.folder)
    if arguments.watch is None:
        status = read_status(folder, datetime.now())
        show(status, arguments.json)
        return 0
    if is_screen(sys.stdout) and not arguments.json:
        status = read_status(folder, datetime.now())
        if status.running:
            status = watch_on_terminal(status, arguments.watch, sys.stdout)
        show(status, False)
    else:
        status = watch_in_pipe(folder, arguments.watch, arguments.json)
    return 1 if not status.running and any(stage.state == "failed" for stage in status.stages) else 0


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = Parser("status", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="exp/TAG", help="folder of the experiment or training")
    parser.add_argument(
        "--watch",
        type=seconds,
        nargs="?",
        const=WATCH_S,
        metavar="SECONDS",
        help=f"show it anew every so many seconds ({WATCH_S:g}) until the run ends",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on a line, for programs")
    return parser.parse_args(argv)


def seconds(text: str) -> float:
    """A time between two looks."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time in seconds (0.1 or more); the folder comes before: exp/TAG --watch"
        )
    return value


def experiment_of(folder: Path) -> Path:
    """Give the experiment that is meant: the folder itself, or the only one in it or in its exp/.

    Raises FileNotFoundError or ValueError that says what is there instead.
    """
    if not folder.exists():
        beside = experiments_in(folder.parent)
        hint = f"; in {folder.parent} there is {_listed(beside)}" if beside else ""
        raise FileNotFoundError(f"{folder}: there is no such folder{hint}. It is exp/TAG of a recipe")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; name the folder of the experiment, such as {folder.parent}")
    if is_experiment(folder):
        return folder
    for place in (folder, folder / "exp"):
        found = experiments_in(place)
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{place} holds {len(found)} experiments: {_listed(found)}. Name one: "
                f"python -m nest_ssl.bin.status {found[0]}"
            )
    if read_runs(folder) or read_stages(folder):
        return folder
    raise ValueError(
        f"{folder}: no stage of a recipe and no training has left anything here. "
        "Name exp/TAG, the folder that a recipe writes (run.sh prints it at its end)"
    )


def _listed(folders: list[Path]) -> str:
    names = [path.name for path in folders]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def show(status: Status, as_json: bool) -> None:
    if as_json:
        print(json.dumps(as_object(status)), flush=True)
        return
    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((FULL_WIDTH, 24)).columns if on_terminal else FULL_WIDTH
    print("\n".join(status_lines(status, width, uses_colour(sys.stdout), Path.cwd())), flush=True)


def as_object(status: Status) -> dict[str, Any]:
    """Everything that the page shows, times as ISO text, paths as text, unknown figures as null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, datetime):
            return value.isoformat(sep=" ", timespec="seconds")
        return str(value) if isinstance(value, Path) else value

    found: dict[str, Any] = plain(dataclasses.asdict(status))
    return found


def watch_in_pipe(folder: Path, every_s: float, as_json: bool) -> Status:
    """Print a snapshot now and then, until the run ends."""
    status = read_status(folder, datetime.now())
    show(status, as_json)
    try:
        while status.running:
            time.sleep(every_s)
            status = read_status(folder, datetime.now())
            if not as_json:
                print()
            show(status, as_json)
    except KeyboardInterrupt:
        pass
    return status


def watch_on_terminal(status: Status, every_s: float, terminal: TextIO) -> Status:
    """Redraw the page in place until the run ends or a person has seen enough; gives the last one."""
    with _own_screen(terminal):
        try:
            while status.running:
                drawn_at, size = time.monotonic(), None
                while time.monotonic() - drawn_at < every_s:
                    if (now := shutil.get_terminal_size()) != size:
                        size = now
                        terminal.write(frame(status, size.columns, size.lines, uses_colour(terminal)))
                        terminal.flush()
                    time.sleep(LOOK_S)
                status = read_status(status.folder, datetime.now())
        except KeyboardInterrupt:
            pass
    return status


def frame(status: Status, columns: int, rows: int, colour: bool) -> str:
    """One drawing of the whole screen: every line overwrites the one before it, so that nothing flickers."""
    lines = status_lines(status, max(20, columns - 1), colour, Path.cwd())
    if len(lines) > rows > 2:
        lines = [*lines[: rows - 2], f"... {len(lines) - rows + 1} lines more", lines[-1]]
    return "\033[H" + "\r\n".join(f"{line}\033[K" for line in lines) + "\033[J"


@contextmanager
def _own_screen(terminal: TextIO) -> Iterator[None]:
    """The terminal's second screen without a cursor; whatever ends the watch, the first one comes back."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, end)
    terminal.write("\033[?1049h\033[?25l\033[2J")
    try:
        yield
    finally:
        try:
            terminal.write("\033[?25h\033[?1049l")
            terminal.flush()
        except OSError:  # the terminal is gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.fileno())
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    run(main)
