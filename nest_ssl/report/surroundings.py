"""How the runs of an experiment were made: command, code and machine of each, from its env.json."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nest_ssl.report.runs import Run


@dataclass(frozen=True)
class Command:
    """How a run was made; "" where its env.json does not say."""

    name: str
    command: str  # as for a shell
    commit: str
    machine: str
    started: str


def commands_of(runs: Sequence[Run]) -> list[Command]:
    """Give how each run that has an env.json was made; the copy of a run is left out."""
    return [_command(run) for run in runs if run.env and not run.copy_of]


def environment_of(runs: Sequence[Run]) -> dict[str, str]:
    """Give what env.json says of machine and software, one value where all runs agree; else which run had
    which."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        if run.copy_of:
            continue
        for key, value in _facts(run.env).items():
            found.setdefault(key, {}).setdefault(value, []).append(run.name)
    return {
        key: next(iter(values))
        if len(values) == 1
        else "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())
        for key, values in found.items()
    }


def machine_of(env: Mapping[str, Any]) -> str:
    """Give the ranks and the device in words, "2 x cpu (16 cores, 1 thread each)"."""
    if not env:
        return ""
    device = str(env.get("device", "?"))
    machine = f"{env.get('world_size', '?')} x {device}"
    if device == "cpu":
        threads = env.get("threads", "?")
        machine += (
            f" ({env.get('cpu_count', '?')} cores, {threads} {'thread' if threads == 1 else 'threads'} each)"
        )
    return machine


def commit_of(env: Mapping[str, Any]) -> str:
    """Give the first letters of the commit, and whether files differed from it."""
    commit = str(env.get("git_commit") or "")[:12]
    return commit + (" with uncommitted changes" if commit and env.get("git_changes") else "")


def _command(run: Run) -> Command:
    words = run.env.get("command")
    return Command(
        name=run.name,
        command=shlex.join(map(str, words)) if isinstance(words, list) else str(words or ""),
        commit=commit_of(run.env),
        machine=machine_of(run.env),
        started=str(run.env.get("started") or ""),
    )


def _facts(env: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "host": env.get("host"),
        "system": env.get("platform"),
        "ranks and device": machine_of(env),
        "python": env.get("python"),
        "nest_ssl": env.get("nest_ssl"),
        "commit": commit_of(env),
    }
    packages = env.get("packages")
    if isinstance(packages, Mapping):
        found |= {str(name): version for name, version in packages.items()}
    return {name: str(value) for name, value in found.items() if value}
