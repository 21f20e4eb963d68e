#!/usr/bin/env python3
"""Time the imports: the package, the verbs, and NeMo beside them.

  python benchmarks/import_time.py [--runs 5] [--nemo-python NEMO_ENVIRONMENT/bin/python]

Every import runs in a process of its own, the different ones in turn.  Prints the median and range of the
seconds, the number of modules loaded and of distributions installed, and the peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = (
    "nest_ssl",
    "nest_ssl.bin.simulate",
    "nest_ssl.bin.manifest",
    "nest_ssl.models.ssl_models",
    "nest_ssl.bin.pretrain",
    "nest_ssl.bin.pretrain_run",
)
NEMO = "nemo.collections.asr.models.ssl_models"
PROGRAM = """
import importlib, json, sys, time, warnings
warnings.simplefilter("ignore")
started = time.perf_counter()
importlib.import_module(sys.argv[1])
seconds = time.perf_counter() - started
modules = len(sys.modules)
try:
    status = open("/proc/self/status", encoding="ascii").read()
    megabytes = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
except OSError:
    megabytes = float("nan")
import importlib.metadata
names = {found.metadata["Name"] for found in importlib.metadata.distributions()}
print(json.dumps([seconds, modules, megabytes, len(names)]))
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="after one that warms up [%(default)s]")
    parser.add_argument("--nemo-python", help="Python with NeMo")
    arguments = parser.parse_args(argv)
    if arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: at least 1 is needed")
    imports = [(sys.executable, module) for module in OURS]
    if arguments.nemo_python:
        imports.append((arguments.nemo_python, NEMO))
    found: dict[str, list[list[float]]] = {module: [] for _, module in imports}
    for number in range(arguments.runs + 1):
        for python, module in imports:
            figures = imported(python, module)
            if number:
                found[module].append(figures)
    print(f"{'import':<42}{'seconds, median':>16}{'range':>16}{'modules':>9}{'MB':>7}{'distributions':>15}")
    for module, runs in found.items():
        seconds = sorted(run[0] for run in runs)
        span = f"{seconds[0]:.2f} to {seconds[-1]:.2f}"
        _, modules, megabytes, distributions = runs[-1]
        print(
            f"{module:<42}{statistics.median(seconds):>16.2f}{span:>16}{modules:>9.0f}{megabytes:>7.0f}"
            f"{distributions:>15.0f}"
        )
    return 0


def imported(python: str, module: str) -> list[float]:
    """[seconds, modules, MB, distributions] of one import."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", PROGRAM, module], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"importing {module} with {python} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
