"""The folder of the run: another run in it would be resumed, or overwritten."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from nest_ssl.config import leaves
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown

# What may differ between a run and its continuation.
MAY_DIFFER = (
    "train_conf.max_steps",
    "train_conf.max_epoch",
    "train_conf.log_interval",
    "output_dir",
    "device",
)


def check_folder(context: Context) -> Iterator[Finding]:
    """Find what lies in the output folder already."""
    if context.out is None:
        return
    out = Path(context.out)
    if out.exists() and not out.is_dir():
        yield Finding(
            "error", "RUN.file", f"--out {out} is a file", "A run is a folder.", "Name another folder."
        )
        return
    if context.model_dir is not None and out.exists() and Path(context.model_dir).exists():
        source = Path(context.model_dir).resolve()
        if source in (out.resolve(), (out / "model").resolve()):
            yield Finding(
                "error",
                "RUN.same",
                f"--out {out} holds the model that training starts from ({context.model_dir})",
                "Its weights would be overwritten by the run; a resume would start from other weights.",
                "Name another folder with --out.",
            )
            return
    if (out / "model.pt").is_file() and not (out / "checkpoints").is_dir():
        yield Finding(
            "warning",
            "RUN.funasr",
            f"{out} holds model.pt, as a training of FunASR leaves it",
            "FunASR resumes from output_dir/model.pt on its own, whatever the other settings are; here it "
            "is passed over.",
            "Name a new folder, or give that file as --init-param if it is to be the start.",
        )
    steps = [path for path in sorted((out / "checkpoints").glob("[!.]*")) if (path / "state.json").is_file()]
    if not steps:
        return
    last = max(steps, key=lambda path: _step(path))
    changed = changed_settings(out, context.config)
    if changed:
        yield Finding(
            "warning",
            "RUN.stale",
            f"{out} holds checkpoints of another run (step {_step(last)}), with other settings: "
            f"{shown(changed, 5)}",
            "The run would go on from them, not from the model that was named.",
            "Name a new folder with --out for a new run; give the former settings to go on with the old one.",
        )
    else:
        yield Finding(
            "note",
            "RUN.resume",
            f"{out} holds checkpoints of this run: it goes on from step {_step(last)}",
            "The settings are the same.",
        )


def _step(path: Path) -> int:
    try:
        return int(json.loads((path / "state.json").read_bytes())["progress"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def changed_settings(out: Path, config: Mapping[str, Any]) -> list[str]:
    """Give "key: old -> new" of what differs from the folder's config.yaml, and should not in a resume."""
    path = out / "config.yaml"
    if not path.is_file():
        return []
    try:
        former = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        return [f"{path} is not readable"]
    before, now = dict(leaves(former)), dict(leaves(config))
    return [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() & now.keys())
        if before[key] != now[key] and not key.startswith(MAY_DIFFER)
    ]
