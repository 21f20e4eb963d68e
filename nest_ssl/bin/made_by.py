"""What figures were made by: code, machine, and the runs that trained the models."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nest_ssl
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.system import processor_name, usable_cpus


def code_state(root: Path) -> str:
    """Give version and commit of the checkout in `root`, and whether files differ from that commit."""
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return f"nest_ssl {nest_ssl.__version__}, no git checkout"
    changed = " with uncommitted changes" if _git(root, "status", "--porcelain") else ""
    return f"nest_ssl {nest_ssl.__version__}, commit {commit}{changed}"


def hardware() -> str:
    """Give processor, cores that this process may use, and the GPUs that the driver lists."""
    found = f"{processor_name()}, {usable_cpus()} cores"
    gpus = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines()
    return f"{found}, {len(gpus)} x {gpus[0].strip()}" if gpus else f"{found}, no GPU"


def run_lines(name: str, folder: Path) -> list[str]:
    """Give lines of Markdown on a run directory: command, code and hardware.

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
    lines = [f"* {name}: commit {commit}, on {machine}, started {facts.get('started', '?')}"]
    command = facts.get("command")
    if isinstance(command, list) and command:
        lines.append(f"  `{shlex.join(map(str, command))}`")
    return lines


def training_table(runs: Sequence[tuple[str, Path]]) -> list[str]:
    """Give the section "Training" in Markdown: did the loss fall, how long did it take, how much memory.

    A run without metrics.jsonl, or with an empty one, has a row that says so.
    """
    if not runs:
        return []
    lines = [
        "## Training",
        "",
        "| run | steps | val_loss: first | best | fall | hours of audio | hours | ms a step | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, folder in runs:
        path = folder / "metrics.jsonl"
        rows = [row for _, row in read_rows(path)] if path.is_file() else []
        lines.append("| " + " | ".join([name, *_figures(rows)]) + " |")
    lines += [
        "",
        "Hours and ms a step are of training alone: validation, checkpoints and start-up are not in.",
    ]
    return [*lines, ""]


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    trained = [row for row in rows if row.get("kind") == "train"]
    losses = [row["val_loss"] for row in rows if isinstance(row.get("val_loss"), int | float)]
    steps = max((int(row.get("step", 0)) for row in rows), default=0)
    found = [str(steps) if rows else "nothing logged", "-", "-", "-", "-", "-", "-", "-"]
    if losses:
        fall = f"{100 * (1 - min(losses) / losses[0]):.1f} %" if losses[0] else "-"
        found[1:4] = [f"{losses[0]:.4f}", f"{min(losses):.4f}", fall]
    if trained:
        seconds, before = 0.0, 0.0
        for row in trained:  # of each line: the audio since the one before, at the rate that it states
            seen, rate = float(row.get("hours_seen", 0.0)), float(row.get("audio_s/s", 0.0))
            seconds += 3600 * (seen - before) / rate if rate > 0 else 0.0
            before = seen
        per_step = 1000 * seconds / max(1, int(trained[-1].get("step", 0)))
        memory = max(float(row.get("mem_gb", 0.0)) for row in trained)
        found[4:] = [f"{before:.2f}", f"{seconds / 3600:.2f}", f"{per_step:.0f}", f"{memory:.1f} GB"]
    return found


def _git(root: Path, *words: str) -> str:
    return _output(["git", "-C", str(root), *words])


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=20, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
