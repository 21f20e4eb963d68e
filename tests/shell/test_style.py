"""Shell code is clean by the tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def scripts(checkout: Path) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.sh", ".ci/run"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [name for name in listed.stdout.splitlines() if (checkout / name).exists()]
    folders = ("utils", "egs", "tests")
    return [str(path.relative_to(checkout)) for name in folders for path in (checkout / name).rglob("*.sh")]


def test_shellcheck_finds_nothing(checkout: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed; apt-get install shellcheck")
    names = scripts(checkout)
    assert "utils/recipe.sh" in names
    result = subprocess.run(
        ["shellcheck", "-x", *names], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
