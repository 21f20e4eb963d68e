"""The folder of a run: where it is, who may write it, and what it records about its configuration and
machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import nest_ssl
from nest_ssl.config import leaves
from nest_ssl.files.atomic import replaced
from nest_ssl.files.system import lock_or_fail, usable_cpus
from nest_ssl.training.options import ExperimentOptions

if TYPE_CHECKING:  # the folder of a run is named before torch is loaded
    from nest_ssl.training.distributed import Ranks

PACKAGES = ("torch", "numpy", "soundfile", "soxr", "safetensors", "omegaconf", "tensorboard")


def log_directory(options: ExperimentOptions, started: datetime.datetime) -> Path:
    """exp_dir/name, with a dated version below it when runs are not resumed (NeMo's rule);
    explicit_log_dir wins."""
    if options.explicit_log_dir:
        return Path(options.explicit_log_dir)
    folder = Path(options.exp_dir or "nemo_experiments") / options.name
    if options.version:
        return folder / options.version
    return folder if options.resume_if_exists else folder / started.strftime("%Y-%m-%d_%H-%M-%S")


class RunLock:
    """Held by the main process while it writes a run directory; the kernel releases it however the process
    ends."""

    def __init__(self, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise OSError(
                f"the run directory {folder} cannot be written ({error.strerror or error}); choose another "
                "one (--out; pretrain: exp_manager.explicit_log_dir=...; recipes: --tag or --exp-dir)"
            ) from error
        try:
            lock_or_fail(self._file)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            raise ValueError(
                f"{folder} is being written by {holder}; wait for it, or stop it first"
            ) from error
        # A forked data worker would keep the lock alive beyond this process.
        file = weakref.ref(self._file)

        def close_in_child() -> None:
            if (opened := file()) is not None:
                opened.close()

        if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
            os.register_at_fork(after_in_child=close_in_child)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def release(self) -> None:
        self._file.close()


def write_configuration(folder: Path, config_yaml: str) -> list[str]:
    """Write config.yaml; gives the lines `key: old -> new` of what changed since the folder's former one."""
    path = folder / "config.yaml"
    changes: list[str] = []
    if path.is_file():
        former = path.read_text(encoding="utf-8")
        before, now = (dict(leaves(yaml.safe_load(text) or {})) for text in (former, config_yaml))
        changes = [
            f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key, "absent") != now.get(key, "absent")
        ]
    with replaced(path) as temporary:
        temporary.write_text(config_yaml, encoding="utf-8")
    return changes


def write_environment(folder: Path, ranks: Ranks, root: Path, command: list[str]) -> None:
    """Write env.json: versions, code state, machine, `command`."""
    import torch

    facts: dict[str, Any] = {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "nest_ssl": nest_ssl.__version__,
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _git(root, "rev-parse", "HEAD"),
        "git_changes": bool(_git(root, "status", "--porcelain")),
        "world_size": ranks.world_size,
        "device": torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "cpu",
        "cpu_count": usable_cpus(),
        "threads": torch.get_num_threads(),
    }
    with replaced(folder / "env.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
