"""Peer programs of the telephone tests (one that is not here skips its test), and how to hold a program."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def piped(data: bytes, program: str, *arguments: str) -> bytes:
    """Give what the program writes for `data` on its standard input."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return subprocess.run([path, *arguments], input=data, capture_output=True, check=True).stdout


def ffmpeg(data: bytes, source: str, target: str) -> bytes:
    """Convert by ffmpeg: `source` and `target` are the options before the input and the output."""
    return piped(data, "ffmpeg", "-v", "error", *source.split(), "-i", "pipe:0", *target.split(), "pipe:1")


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Whoever opens the file meanwhile waits: a program that needs it cannot end before it is killed."""
    aside, pipe = path.with_name(f"{path.name}.aside"), path.with_name(f"{path.name}.pipe")
    path.rename(aside)
    os.mkfifo(path)
    try:
        yield
    finally:
        os.link(path, pipe)
        aside.replace(path)
        with contextlib.suppress(OSError):  # nobody waits
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        pipe.unlink()
