"""A checkout with a stub recipe, for tests that drive run.sh as a person does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TIMEOUT_S = 240  # for anything that should happen at once; only a failing test waits so long

HEAD = """#!/usr/bin/env bash
# A stub recipe.
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$recipe/../.." && pwd)
. "$root/utils/recipe.sh"
"""


class Stub:
    """A copy of utils/ and egs/stub/run.sh in a folder whose name has a space."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.root = folder / "check out"
        self.recipe = self.root / "egs" / "stub"
        self.data = self.recipe / "data"
        self.exp = self.recipe / "exp" / "default"
        self.recipe.mkdir(parents=True)
        (self.root / "utils").mkdir()
        for name in ("recipe.sh", "cmd.sh", "submit.py"):
            shutil.copy(checkout / "utils" / name, self.root / "utils" / name)
        shutil.copytree(checkout / "utils" / "recipe", self.root / "utils" / "recipe")
        self.started: list[subprocess.Popen[str]] = []

    def write(self, stages: str, options: str = "", end: str = "run_stages\n") -> None:
        """Make run.sh of these stages; options are the lines above parse_options."""
        text = f'{HEAD}\n{options}\nparse_options "$@"\nrecipe_grace_s=10\n{stages}\n{end}'
        (self.recipe / "run.sh").write_text(text)

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["bash", "egs/stub/run.sh", *options],
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "HOME": str(self.root), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the end; returns the status and everything printed."""
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    def run(self, *options: str, **environment: str) -> tuple[int, str]:
        return self.finish(self.start(*options, **environment))

    def succeed(self, *options: str) -> str:
        status, output = self.run(*options)
        assert status == 0, output
        return output

    def fail(self, *options: str) -> str:
        status, output = self.run(*options)
        assert status != 0, output
        return output

    def pid(self, name: str) -> int:
        """The process number that a stage writes to data/NAME, as soon as it is there."""
        path = self.data / name
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"), f"{path} to be written")
        return int(path.read_text())

    def marker(self, name: str) -> Path:
        return self.data / ".done" / name


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {TIMEOUT_S} s for {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.fixture
def stub(checkout: Path, tmp_path: Path) -> Iterator[Stub]:
    stub = Stub(checkout, tmp_path)
    yield stub
    for process in stub.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
