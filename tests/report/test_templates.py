"""The templates of the report are installed with the package."""

import ast
from pathlib import Path


def test_setup_installs_every_file_that_is_no_module(checkout):
    tree = ast.parse((checkout / "setup.py").read_text(encoding="utf-8"))
    given = [
        k.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Call)
        for k in n.keywords
        if k.arg == "package_data"
    ]
    patterns = ast.literal_eval(given[0])
    installed = set()
    for package, globs in patterns.items():
        folder = checkout.joinpath(*package.split("."))
        installed |= {path for pattern in globs for path in folder.glob(pattern)}
    package = checkout / "nest_ssl"
    wanted = {path for path in package.rglob("*") if path.is_file() and not is_code(path)}
    assert wanted
    assert wanted - installed == set()


def is_code(path: Path) -> bool:
    return path.suffix in (".py", ".pyc") or path.name.startswith(".")
