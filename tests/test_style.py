"""The tools that read the code without running it find nothing. One that is not installed skips its test."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run(command: list[str], folder: Path) -> None:
    """Fail with what the tool printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command[:4])} ...\n{done.stdout}{done.stderr}"


def need_module(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (extra dev)")


def test_ruff_finds_nothing(checkout):
    need_module("ruff")
    run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."], checkout)


@pytest.mark.slow
def test_mypy_finds_nothing(checkout, tmp_path):
    need_module("mypy")
    run([sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)], checkout)


def shell_scripts(checkout: Path) -> list[Path]:
    """Every *.sh of the project, and the files without that ending that bash runs."""
    found = list(checkout.glob("*.sh"))
    for folder in ("utils", "tests", "egs", "conf", "benchmarks"):
        found += [path for path in (checkout / folder).rglob("*.sh") if not {"exp", "data"} & set(path.parts)]
    return sorted([*found, checkout / ".ci" / "run"])


def test_shellcheck_finds_nothing(checkout):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (Debian: apt-get install shellcheck)")
    scripts = shell_scripts(checkout)
    assert checkout / "path.sh" in scripts
    run(["shellcheck", "--external-sources", *map(str, scripts)], checkout)


def test_shell_scripts_have_no_long_line(checkout):
    long = [
        f"{path.relative_to(checkout)}:{number}"
        for path in shell_scripts(checkout)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 110
    ]
    assert long == []
