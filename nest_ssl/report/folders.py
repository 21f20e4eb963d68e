"""Which folders are experiments: what a recipe or a training leaves tells them from other folders."""

from __future__ import annotations

from pathlib import Path

from nest_ssl.report.stages import LIST

TRAINING = ("metrics.jsonl", "env.json")  # of a run directory
EXPERIMENT = ("scores.json", f".done/{LIST}")  # of exp/TAG; the data folder has no list in its .done


def is_experiment(folder: Path) -> bool:
    """True for exp/TAG of a recipe, for a folder with run directories in it, and for a run directory."""
    if any((folder / name).is_file() for name in (*TRAINING, *EXPERIMENT)):
        return True
    return any((path / name).is_file() for path in _below(folder) for name in TRAINING)


def experiments_in(folder: Path) -> list[Path]:
    """Give the experiments among the folders in `folder`, by name; none where it is no folder."""
    return [path for path in _below(folder) if is_experiment(path)]


def _below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
