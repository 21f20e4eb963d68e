"""In what the configurations of an experiment's runs differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nest_ssl.report.runs import Run

SAME_KIND = 0.7  # share of keys that two configurations have in common if they are of one kind of model
ITSELF = "THIS_RUN"
BOOKKEEPING = {"nest_ssl.history", "nest_ssl.base.digest"}  # other in every run, and told elsewhere


def setting_changes(
    runs: Sequence[Run], folder: Path, above: Sequence[Path] = ()
) -> dict[str, dict[str, Any]]:
    """Give {key: {run: value}} of the keys whose values differ between runs of one kind of model.

    A NEST pre-training and a Fun-ASR stage have other keys altogether: those are not compared.  A run that
    lacks the key is not in its inner mapping.  In paths, the run's own folder is THIS_RUN (which hides keys
    that differ in that alone), `folder` is EXP, and those `above` are left out of what lies in them.
    """
    folders = [folder, *former_folders(runs, folder)]
    found: dict[str, dict[str, Any]] = {}
    for group in kinds_of_runs(runs):
        values = {run.name: _shortened(run, folders, above) for run in group}
        for key in sorted({key for settings in values.values() for key in settings}):
            those = {name: settings[key] for name, settings in values.items() if key in settings}
            if len(those) < len(values) or len({repr(value) for value in those.values()}) > 1:
                found.setdefault(key, {}).update(those)
    return found


def kinds_of_runs(runs: Sequence[Run]) -> list[list[Run]]:
    """Give the runs in groups of like configurations; copies and runs without config.yaml are in none."""
    groups: list[list[Run]] = []
    for run in runs:
        if not run.settings or run.copy_of:
            continue
        for group in groups:
            first, keys = group[0].settings.keys(), run.settings.keys()
            if len(first & keys) >= SAME_KIND * len(first | keys):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def former_folders(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Give where the experiment was when its runs were made, if it was moved: they state folders of their
    own, .../TAG/RUN."""
    tag, found = folder.resolve().name, set()
    for run in runs:
        end = f"/{tag}/{run.name}"
        for value in run.settings.values():
            if isinstance(value, str) and value.endswith(end):
                found.add(Path(value[: -len(run.name) - 1]))
    return sorted(found - {folder, folder.resolve()})


def path_today(runs: Sequence[Run], folder: Path) -> Callable[[str | Path], Path]:
    """Give what turns a path that runs or scores state into where the file is today.

    Where the experiment was moved along with what lay near it, say a whole checkout, the file is looked for
    in the same place near it; a path with nothing there stays as it is.
    """
    moves = []
    for former in former_folders(runs, folder):
        old, new = former, folder.resolve()
        while old.name and old.name == new.name:
            old, new = old.parent, new.parent
        moves.append((old, new))

    def today(stated: str | Path) -> Path:
        path = Path(stated)
        for old, new in moves:
            if path.is_relative_to(old) and (found := new / path.relative_to(old)).exists():
                return found
        return path

    return today


def shorter(text: str, folders: Sequence[Path], above: Sequence[Path] = ()) -> str:
    """Give `text` with the paths in it shortened: `folders` become EXP, and what lies in `above` relative."""
    for folder in folders:
        text = _within(text, folder, "EXP")
    for top in above:
        text = _within(text, top, "")
    return text


def _shortened(run: Run, folders: Sequence[Path], above: Sequence[Path]) -> dict[str, Any]:
    own = [run.folder, *(folder / run.name for folder in folders)]

    def short(text: str) -> str:
        for folder in own:
            text = _within(text, folder, ITSELF)
        return shorter(text, folders, above)

    found: dict[str, Any] = {}
    for key, value in run.settings.items():
        if key in BOOKKEEPING:
            continue
        if isinstance(value, str):
            found[key] = short(value)
        elif isinstance(value, list):
            found[key] = [short(item) if isinstance(item, str) else item for item in value]
        else:
            found[key] = value
    return found


def _within(text: str, folder: Path, name: str) -> str:
    for top in {str(folder), str(folder.resolve())}:
        if text == top:
            return name or "."
        text = text.replace(f"{top}/", f"{name}/" if name else "")
    return text
