"""What verbs say on standard error: dated lines, coloured for a person, and few warnings."""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import TextIO

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
RED, YELLOW, PLAIN = "\033[31m", "\033[33m", "\033[m"
SAME_KIND = 20  # warnings of one kind that are shown one by one; the rest are counted

# Of libraries, and nothing that a person could act on.
NOISE = re.compile(
    "Grad strides do not match bucket view strides"  # DDP, of a convolution with one input channel
    "|enable_nested_tensor is True"
    "|given NumPy array is not writable"
    "|pin_memory' argument is set as true but no accelerator"
    "|Can't initialize NVML"
    "|lr_scheduler.step\\(\\)` before `optimizer.step"
)
NOISE_OF_LIBRARIES = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
QUIET = {  # said by environment, as transformers is imported later or never
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",  # data workers are forked; it would warn of that in each
}

log = logging.getLogger(__name__)


def start_logging(level: int = logging.INFO) -> None:
    """Log to standard error; every process that we start needs a call of its own.

    Does nothing where the program around us has set logging up, as logging.basicConfig.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(is_screen(sys.stderr), uses_colour(sys.stderr)))
    folded = Folded()
    handler.addFilter(folded)
    logging.basicConfig(level=level, handlers=[handler])
    warnings.showwarning = show_warning
    atexit.register(folded.say_rest)


def is_screen(stream: TextIO) -> bool:
    """True if a person looks on at a terminal that can be drawn on: TERM=dumb cannot."""
    return os.environ.get("TERM") != "dumb" and hasattr(stream, "isatty") and stream.isatty()


def uses_colour(stream: TextIO) -> bool:
    """True for a screen, unless NO_COLOR asks for plain text."""
    return not os.environ.get("NO_COLOR") and is_screen(stream)


def error_line(text: str) -> str:
    """The last words of a verb, red for a person."""
    return f"{RED}{text}{PLAIN}" if uses_colour(sys.stderr) else text


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Python's warnings as lines of the log: of each the first line; no noise (NEST_TRACEBACK=1: all)."""
    text = str(message)
    ours = Path(filename).is_relative_to(Path(__file__).resolve().parents[1])
    noise = NOISE.search(text) or (issubclass(category, NOISE_OF_LIBRARIES) and not ours)
    if os.environ.get("NEST_TRACEBACK"):
        log.warning("%s:%d: %s: %s", filename, lineno, category.__name__, text)
    elif not noise:
        place = "" if ours else f" ({_library(filename)})"
        log.warning("%s%s", text.strip().splitlines()[0] if text.strip() else category.__name__, place)


class Folded(logging.Filter):
    """Lets a warning through once, and twenty of one kind; what it holds back is counted."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()
        self._shown: Counter[str] = Counter()
        self._held_back: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a warning that has been said."""
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        # a kind is the words around the values; "%s: %s" has none, so that each is a kind of its own
        template = str(record.msg)
        kind = template if len(re.sub(r"%\S*|\W", "", template)) > 8 else text
        if text in self._said or self._shown[kind] >= SAME_KIND:
            self._held_back[kind] += 1
            return False
        self._said.add(text)
        self._shown[kind] += 1
        return True

    def say_rest(self) -> None:
        """Say how many warnings were held back, of which kind."""
        for kind, count in self._held_back.items():
            log.info("said %d times more: %s", count, kind.splitlines()[0])
        self._held_back.clear()


class _Lines(logging.Formatter):
    """The format of the log; on a screen a line overwrites a bar, warnings are yellow and errors red."""

    def __init__(self, screen: bool, colour: bool) -> None:
        super().__init__(LOG_FORMAT, DATE_FORMAT)
        self._clear = "\033[K" if screen else ""
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        text = self._clear + super().format(record)
        if not self._colour or record.levelno < logging.WARNING:
            return text
        return f"{RED if record.levelno >= logging.ERROR else YELLOW}{text}{PLAIN}"


def _library(filename: str) -> str:
    """The library that a warning comes from: the folder below site-packages."""
    parts = Path(filename).parts
    for number, part in enumerate(parts[:-1]):
        if part == "site-packages":
            return parts[number + 1]
    return Path(filename).name
