"""Holds a training before a step until it is killed or asked to stop; Python reads this where it finds it.

NEST_TEST_HOLD: the number of the step, from 1, that does not begin.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import time

MODULE = "nest_ssl.training.loop"
UNTIL_S = 1200  # longer than any test waits: where one fails, what it started ends as well


class Holding:
    """Finds the module of the trainer, and changes the trainer once the module is there."""

    def find_spec(self, name, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_hold(module) -> None:
            execute(module)
            hold(module.Trainer, int(os.environ["NEST_TEST_HOLD"]))

        spec.loader.exec_module = execute_and_hold  # type: ignore[method-assign]
        return spec


def hold(trainer, number: int) -> None:
    step, end = trainer._step, time.monotonic() + UNTIL_S

    def held(self, *arguments):
        while self.progress.step + 1 >= number and not self._stop_signal and time.monotonic() < end:
            time.sleep(0.01)
        return step(self, *arguments)

    trainer._step = held


if "NEST_TEST_HOLD" in os.environ:
    sys.meta_path.insert(0, Holding())
