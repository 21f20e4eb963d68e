"""What figures were made by: code, machine, and the runs that trained the models."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any

import nest_ssl
from nest_ssl.files.manifest import read_rows


def code_state(root: Path) -> str:
    """Give version and commit of the checkout in `root`, and whether files differ from that commit."""
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return f"nest_ssl {nest_ssl.__version__}, no git checkout"
    changed = " with uncommitted changes" if _git(root, "status", "--porcelain") else ""
    return f"nest_ssl {nest_ssl.__version__}, commit {commit}{changed}"


def hardware() -> str:
    """Give processor, cores that this process may use, and the GPUs that the driver lists."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{_processor()}, {cores} cores"
    gpus = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()
    return f"{found}, {len(gpus)} x {gpus[0].strip()}" if gpus else f"{found}, no GPU"


def run_lines(name: str, folder: Path) -> list[str]:
    """Give lines of Markdown on a run directory: command, code, seed, hardware, steps and hours.

    Raises FileNotFoundError if it has no env.json.
    """
    path = folder / "env.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no run directory: it has no env.json (--run {name}={folder})")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    commit = str(facts.get("git_commit") or "none")[:12] + (
        " with changes" if facts.get("git_changes") else ""
    )
    machine = f"{facts.get('world_size', '?')} x {facts.get('device', '?')}"
    if facts.get("device") == "cpu":
        machine += f" ({facts.get('cpu_count', '?')} cores, {facts.get('threads', '?')} threads)"
    lines = [
        f"* {name}: commit {commit}, on {machine}, started {facts.get('started', '?')}{_progress(folder)}"
    ]
    command = facts.get("command")
    if isinstance(command, list) and command:
        lines.append(f"  `{shlex.join(map(str, command))}`")
    return lines


def _progress(folder: Path) -> str:
    """Give how far a run came: the last step, and the hours of audio that it saw."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return ""
    last: dict[str, Any] = {}
    for _, row in read_rows(path):
        if isinstance(row.get("step"), int):
            last = {**last, **row}
    steps = f", {last['step']} steps" if last else ""
    hours = last.get("hours_seen")
    return steps + (f", {hours} h of audio seen" if isinstance(hours, int | float) else "")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(root: Path, *words: str) -> str:
    return _output(["git", "-C", str(root), *words])


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
