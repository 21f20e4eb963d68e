"""What the sets of data reports were used for: the trainings that read them stand in their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nest_ssl.report.data_reports import DataSet
from nest_ssl.report.runs import Run
from nest_ssl.report.words import counted, listed

READ_BY = {  # setting: what the set is for
    "model.train_ds.manifest_filepath": "training",
    "model.validation_ds.manifest_filepath": "validation",
    "train_data_set_list": "training",
    "valid_data_set_list": "validation",
}
NAMED = 3  # runs that a cell lists


def used_sets(
    data: Sequence[DataSet], runs: Sequence[Run], today: Callable[[str | Path], Path] = Path
) -> list[tuple[DataSet, str]]:
    """Give the sets that trainings read, in the order of the reports, with words such as "training of base".

    A set is the manifest that lies beside its report under its name; copies of runs are not named.
    today: turns the path in a run's settings into where that manifest is now.
    """
    uses: dict[Path, dict[str, list[str]]] = {}
    for run in runs:
        for setting, purpose in READ_BY.items():
            for path in _paths(run.settings.get(setting)) if run.copy_of is None else ():
                names = uses.setdefault(today(path).resolve(), {}).setdefault(purpose, [])
                names += [run.name] * (run.name not in names)
    found = []
    for each in data:
        name = each.name if each.name.endswith(".jsonl") else f"{each.name}.jsonl"
        if by := uses.get((Path(each.source).parent / name).resolve()):
            words = "; ".join(f"{purpose} of {_names(names)}" for purpose, names in by.items())
            found.append((each, words))
    return found


def _names(names: Sequence[str]) -> str:
    return (
        listed(names)
        if len(names) <= NAMED
        else f"{', '.join(names[:2])} and {counted(len(names) - 2, 'more run')}"
    )


def _paths(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
