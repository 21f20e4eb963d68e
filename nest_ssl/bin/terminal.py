"""What every verb shares: the error line without a traceback, and the progress bar."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nest_ssl.bin.messages import error_line, is_screen, start_logging, uses_colour
from nest_ssl.files.clock import clock

SECONDS_PER_LINE = 60.0  # of progress in a log

__all__ = ["is_screen", "progress_bar", "run", "share_terminal", "start_logging", "uses_colour"]

log = logging.getLogger(__name__)


def run(main: Callable[[list[str]], int | None]) -> None:
    """Call `main(sys.argv[1:])` and exit with what it gives; bad input ends in one line, not in a traceback.

    ValueError and OSError are what verbs raise for bad data and paths, ModuleNotFoundError with a cause for a
    library of an extra that is not installed; anything else is a fault of ours and keeps its traceback.
    NEST_TRACEBACK=1 keeps all of them.  When whoever reads standard output has gone (`... | head`) the verb
    ends quietly.
    """
    start_logging()
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and error.__cause__ is None:
            raise
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # python flushes what is left when it ends, and would complain of the pipe again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None  # as of a program that SIGPIPE ends
        if os.environ.get("NEST_TRACEBACK"):
            raise
        verb = (main.__module__ if main.__module__ != "__main__" else _verb_name()).removeprefix(
            "nest_ssl.bin."
        )
        print(error_line(f"{verb}: error: {error}"), file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(status or 0)


def share_terminal() -> None:
    """Let processes that we start find the terminal for their bars: descriptors are not inherited, a path
    is."""
    named = os.environ.get("NEST_PROGRESS_FD", "")
    try:
        descriptor = int(named) if named.isdigit() else sys.stderr.fileno()
        os.environ["NEST_PROGRESS_TTY"] = os.ttyname(descriptor)
    except (OSError, ValueError, AttributeError):  # Windows has no names for terminals
        os.environ.pop("NEST_PROGRESS_TTY", None)


def progress_bar(
    total: float | None, unit: str, description: str = "", initial: float = 0, lines: bool = True
) -> tqdm:
    """A tqdm bar with rate and time left on a terminal; a plain line a minute in a log, no bar ever.

    Under a recipe the terminal is the file descriptor named by NEST_PROGRESS_FD, and standard output and
    error are the stage's log, which gets its lines as well; otherwise it is standard error, if that is one.
    lines=False: for work that writes a log of its own.
    """
    stream, silent = _terminal()
    if silent:
        return _LinesNowAndThen(total, unit, description, initial, lines)
    options: dict[str, Any] = {"file": _AtTheMargin(stream), "dynamic_ncols": True, "leave": False}
    if unit == "B":
        options |= {"unit_scale": True, "unit_divisor": 1000}
    # position 0 also for a bar inside another, such as a validation: it takes the other's line meanwhile
    options |= {"unit": unit, "desc": description, "smoothing": 0.05, "position": 0}
    if lines and in_log():
        quiet = _LinesNowAndThen(total, unit, description, initial, lines)
        return _BarAndLines(quiet, total=total, initial=initial, **options)
    return tqdm(total=total, initial=initial, **options)


def in_log() -> bool:
    """True if standard error is no terminal: somebody may read there, now or later, how far the work is."""
    return not sys.stderr.isatty()


class _LinesNowAndThen(tqdm):
    """What stands for a bar where nobody looks on: `fetch 3.1/17.2 GB (18.0 %) 12.1 MB/s eta 0:19:25`."""

    def __init__(self, total: float | None, unit: str, description: str, initial: float, lines: bool):
        super().__init__(disable=True, total=total, initial=initial)
        self.n, self.unit, self.desc = initial, unit, description
        self._lines, self._first = lines, initial
        self._began = self._said = time.monotonic()

    def update(self, n: float | None = 1) -> bool | None:
        """Count, and say it once a minute."""
        self.n += n or 0
        now = time.monotonic()
        if self._lines and now - self._said >= SECONDS_PER_LINE:
            self._said = now
            log.info("%s", self._line(now - self._began))
        return None

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a progress_bar counts by update()")

    def _line(self, elapsed: float) -> str:
        rate = (self.n - self._first) / elapsed
        count, of = self._shown(self.n), "" if self.total is None else f"/{self._shown(self.total)}"
        words = [self.desc or "done", f"{count}{of}" if self.unit == "B" else f"{self.unit} {count}{of}"]
        if self.total:
            words.append(f"({100 * self.n / self.total:.1f} %)")
        words.append(f"{self._shown(rate)}/s" if self.unit == "B" else f"{rate:.3g} {self.unit}/s")
        if self.total and rate > 0:
            words.append(f"eta {clock(max(0.0, self.total - self.n) / rate)}")
        return " ".join(words)

    def _shown(self, count: float) -> str:
        return f"{count / 1e6:.1f} MB" if self.unit == "B" else f"{count:g}"


class _BarAndLines(tqdm):
    """A bar on the recipe's terminal, and the lines of the stage's log."""

    def __init__(self, log_lines: _LinesNowAndThen, **options: Any):
        self._log_lines = log_lines
        super().__init__(**options)

    def update(self, n: float | None = 1) -> bool | None:
        """Count in both."""
        self._log_lines.update(n)
        return super().update(n)


def _reader_is_gone() -> bool:
    """True if standard output is a pipe that nobody reads: a broken pipe elsewhere is an error."""
    if hasattr(select, "poll"):
        try:
            poll = select.poll()
            poll.register(sys.stdout.fileno(), 0)  # errors are reported without being asked for
        except (OSError, ValueError):
            return False
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return True  # Windows cannot say, and standard output is the likely one


class _AtTheMargin:
    """A terminal on which a drawn bar leaves the cursor at the margin, where the next log line starts."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write("\r\033[K" + text.strip("\r") + "\r")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _terminal() -> tuple[Any, bool]:
    """Where bars are drawn, and whether nowhere: there is no terminal, or none that can be drawn on."""
    if os.environ.get("TERM") == "dumb":
        return sys.stderr, True
    path = os.environ.get("NEST_PROGRESS_TTY")
    if path:
        try:
            return open(path, "w", encoding="utf-8", buffering=1), False
        except OSError:
            return sys.stderr, True
    named = os.environ.get("NEST_PROGRESS_FD", "")
    if named.isdigit():
        try:
            return os.fdopen(os.dup(int(named)), "w", encoding="utf-8", buffering=1), False
        except OSError:
            return sys.stderr, True
    return sys.stderr, not is_screen(sys.stderr)


def _verb_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).name
