"""What figures were made by: code and machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nest_ssl
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
