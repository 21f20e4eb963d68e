"""A side of a benchmark in a process of its own, which takes orders as JSON lines and answers likewise."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class SideProcess:
    """Call it with an order and its options."""

    def __init__(self, name: str, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Start `words`; what it says on standard error goes to a log in `folder`."""
        self.name = name
        self._log = (folder / f"{name}.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=dict(environment),
        )

    def __call__(self, order: str, **options: Any) -> dict[str, Any]:
        """Have it do `order`; raises RuntimeError with its last words if it cannot."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": order, **options}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": "the process died"}
        if "error" in answer:
            self._log.seek(0)
            raise RuntimeError(f"{self.name}: {answer['error']}\n{self._log.read()[-2000:]}")
        return answer

    def close(self) -> None:
        """End it."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        self._log.close()
