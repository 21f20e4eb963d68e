"""Peer programs of the telephone tests; a test that needs one that is not here is skipped."""

import shutil
import subprocess

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
