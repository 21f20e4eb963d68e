"""What only some systems have is asked for in one module, or behind a question whether it is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.like_windows_names import MISSING_IN_OS, MISSING_MODULES, MISSING_SIGNALS

PACKAGE = Path(__file__).resolve().parent.parent / "nest_ssl"
THE_PLACE = "files/system.py"  # where the differences between systems are
POSIX_ONLY = {
    "os": set(MISSING_IN_OS),
    "signal": {*MISSING_SIGNALS, "alarm", "setitimer", "pause", "sigwait", "pthread_kill"},
    "select": {"poll", "epoll"},
}
QUESTIONS = ("sys.platform", "hasattr", "os.name")
ANSWERS = {"AttributeError", "ImportError", "ModuleNotFoundError"}


def faults(source: str) -> Iterator[str]:
    """LINE: NAME of every use that Windows would not survive."""
    yield from _walk(ast.parse(source), guarded=False)


def _walk(node: ast.AST, guarded: bool) -> Iterator[str]:
    if isinstance(node, ast.If | ast.IfExp):
        guarded = guarded or any(question in ast.unparse(node.test) for question in QUESTIONS)
    if isinstance(node, ast.Try):
        caught = {name for handler in node.handlers if handler.type for name in _names(handler.type)}
        guarded = guarded or bool(caught & ANSWERS)
    if not guarded:
        yield from _faults_of(node)
    yield from _text_without_encoding(node)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, guarded)


def _faults_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.attr in POSIX_ONLY.get(node.value.id, ()):
            yield f"{node.lineno}: {node.value.id}.{node.attr}"
    elif isinstance(node, ast.ImportFrom) and node.module in POSIX_ONLY:
        yield from (
            f"{node.lineno}: {node.module}.{a.name}" for a in node.names if a.name in POSIX_ONLY[node.module]
        )
    elif isinstance(node, ast.Import):
        yield from (f"{node.lineno}: import {a.name}" for a in node.names if a.name in MISSING_MODULES)
    elif isinstance(node, ast.Constant) and str(node.value).startswith(("/proc/", "/sys/")):
        yield f"{node.lineno}: {node.value}"


def _text_without_encoding(node: ast.AST) -> Iterator[str]:
    """Text in the machine's own encoding is UTF-8 here, and something else on Windows."""
    if not isinstance(node, ast.Call):
        return
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if "encoding" in keywords or None in keywords:
        return
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in ("read_text", "write_text") and isinstance(node.func, ast.Attribute):
        yield f"{node.lineno}: {name} without encoding"
    elif name == "open":
        place = 1 if isinstance(node.func, ast.Name) else 0
        given = keywords.get("mode") or (node.args[place] if len(node.args) > place else None)
        mode = given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else None
        is_builtin = isinstance(node.func, ast.Name)
        if (mode is None and is_builtin and given is None) or (
            mode is not None and "b" not in mode and set(mode) <= set("rwxat+")
        ):
            yield f"{node.lineno}: open without encoding"
    elif isinstance(keywords.get("text"), ast.Constant) and keywords["text"].value is True:  # type: ignore[union-attr]
        yield f"{node.lineno}: {name}(text=True) without encoding"


def _names(node: ast.expr) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            yield child.id


def test_the_package_asks_for_nothing_that_windows_lacks():
    found = [
        f"nest_ssl/{path.relative_to(PACKAGE).as_posix()}:{fault}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).as_posix() != THE_PLACE
        for fault in faults(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os\nos.fork()", "2: os.fork"),
        ("import fcntl", "1: import fcntl"),
        ("def f():\n    import resource", "2: import resource"),
        ("import signal\nx = signal.SIGHUP", "2: signal.SIGHUP"),
        ("from os import killpg", "1: os.killpg"),
        ("p = '/proc/self/statm'", "1: /proc/self/statm"),
        ("open('a')", "1: open without encoding"),
        ("open('a', 'w')", "1: open without encoding"),
        ("p.open('a')", "1: open without encoding"),
        ("p.read_text()", "1: read_text without encoding"),
        ("subprocess.run(['x'], text=True)", "1: run(text=True) without encoding"),
    ],
)
def test_a_use_is_found(source, expected):
    assert list(faults(source)) == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "if hasattr(os, 'fork'):\n    os.fork()",
        "if sys.platform == 'linux':\n    os.sched_getaffinity(0)",
        "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None",
        "getattr(signal, 'SIGHUP', None)",
        "open('a', 'rb')",
        "open('a', encoding='utf-8')",
        "ManifestIndex.open(path)",
        "tarfile.open(path, 'r:gz')",
        "os.getpid()",
    ],
)
def test_what_is_guarded_or_everywhere_passes(source):
    assert list(faults(source)) == []
