"""What a marker says of the files that its stage was made from.

That it says the same as the recipe is tested in tests/shell/test_stages.py.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from nest_ssl.report.markers import changes_since, places_of


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """exp/small with one output, data with one input, in a checkout with one file of settings."""
    (tmp_path / "utils").mkdir()
    for name in ("utils/recipe.sh", "conf.yaml", "data/train.jsonl", "exp/small/model.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "exp" / "small"


def digest(text: str) -> str:
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:32]}"


def marker(extra: str = "") -> str:
    return (
        "command train\nfunction train: input x = y\nvariable exp = @exp@\n"
        f"settings @checkout@/conf.yaml = {digest('conf.yaml')}\n"
        f"input @data@/train.jsonl = {digest('data/train.jsonl')}\n"
        f"output @exp@/model.pt\n{extra}# 2026-11-22 10:00:30, took 12 s\n"
    )


def places(experiment: Path) -> dict[str, Path]:
    return places_of(experiment, experiment.parent.parent / "data")


def test_names_stand_for_the_folders_of_today(experiment: Path, tmp_path: Path) -> None:
    assert changes_since(marker(), experiment, places(experiment)) == ("", [])
    (tmp_path / "data" / "train.jsonl").write_text("other")
    assert changes_since(marker(), experiment, places(experiment)) == (
        "changed since it was done",
        [f"changed: input {tmp_path}/data/train.jsonl"],
    )


def test_what_lies_in_a_folder_that_is_not_here_is_not_compared(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert changes_since(marker(), experiment, places(experiment)) == ("", [])


def test_a_full_path_is_taken_as_it_is(experiment: Path, tmp_path: Path) -> None:
    text = marker().replace("@data@", str(tmp_path / "elsewhere"))
    why = f"its input {tmp_path}/elsewhere/train.jsonl is missing or empty"
    assert changes_since(text, experiment, places(experiment)) == (why, [])


def test_outputs_that_name_a_former_folder_are_stale(experiment: Path, tmp_path: Path) -> None:
    at = tmp_path / "data"
    assert changes_since(marker(f"place {at}\n"), at, places(experiment)) == ("", [])
    why, changes = changes_since(marker("place /former/data\n"), at, places(experiment))
    assert why == "its outputs name files in /former/data, from where they were moved"
    assert changes == []
