"""Experiment folders as recipes leave them, small and by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ENV = {
    "started": "2026-11-21T10:00:00+00:00",
    "host": "box",
    "python": "3.11.7",
    "git_commit": "abcdef0123456789",
    "git_changes": True,
    "world_size": 2,
    "device": "NVIDIA H100",
    "packages": {"torch": "2.13.0"},
}


def train(step: int, loss: float | None = 3.0, **more: Any) -> dict[str, Any]:
    row = {
        "time": f"2026-11-21 10:{step % 60:02d}:00",
        "kind": "train",
        "step": step,
        "max_steps": 20,
        "loss": loss,
    }
    return row | more


def validation(step: int, loss: float | None, **more: Any) -> dict[str, Any]:
    row = {"time": f"2026-11-21 10:{step % 60:02d}:30", "kind": "validation", "step": step, "max_steps": 20}
    return row | {"val_loss": loss} | more


def make_run(
    folder: Path,
    rows: Sequence[dict[str, Any]] = (),
    env: dict[str, Any] | None = None,
    config: str | None = None,
    end: str = "",
) -> Path:
    """A run directory; `end`: what stands after the last row of metrics.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text + end, encoding="utf-8")
    if env is not None:
        (folder / "env.json").write_text(json.dumps(ENV | env), encoding="utf-8")
    if config is not None:
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    return folder


def mark(folder: Path, number: int, name: str, took: str = "1 min 5 s") -> None:
    """The marker of a stage that is done."""
    (folder / ".done").mkdir(parents=True, exist_ok=True)
    text = f"command x\n# 2026-11-21 11:00:00, took {took}\n"
    (folder / ".done" / f"{number}-{name}").write_text(text, encoding="utf-8")


def rate(share: float, spread: float = 0.01) -> dict[str, float]:
    return {
        "rate": share,
        "errors": round(1000 * share),
        "total": 1000,
        "low": share - spread,
        "high": share + spread,
    }


def score_row(system: str, cer: float, **more: Any) -> dict[str, Any]:
    """A headline row of scores.json."""
    found: dict[str, Any] = {
        "system": system,
        "field": "text",
        "kind": "joint",
        "cer": rate(cer),
        "wer": rate(cer),
    }
    return found | {"gain": None, "step": None, "failed": [], "missing": [], "absent": [], "empty": 0} | more


def scores(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What scores.json holds at the least."""
    counted = {"utterances": 9, "without_speech": 0, "audio_s": 60.0, "without_duration": 0}
    counted |= {"characters": 100, "words": 20}
    bootstrap = {"rounds": 10, "seed": 0, "condition_rounds": 10}
    return {"rows": list(rows), "counted": counted, "bootstrap": bootstrap, "rules": []} | more


def gain(against: str, share: float, p: float) -> dict[str, Any]:
    return {"against": against, "gain": share, "low": share - 0.02, "high": share + 0.02, "p_value": p}
