"""The rooms of nest_ssl import in one direction; the tables below are the rule."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "nest_ssl"

# What each room may import of the others. bin, the top floor, may import every room; nothing imports bin.
MAY_IMPORT = {
    "report": {"text", "files", "config"},
    "preflight": {"models", "checkpoints", "data", "text", "telephone", "files", "config"},
    "decoding": {"models", "data", "text", "files", "config"},
    "training": {"data", "files", "config"},
    "models": {"modules", "losses", "checkpoints", "text", "config"},
    "checkpoints": {"files", "config"},
    "modules": set(),
    "losses": set(),
    "data": {"telephone", "text", "files", "config"},
    "telephone": {"files", "config"},
    "text": {"files", "config"},
    "files": set(),
    "config": set(),
}
MAY_IMPORT["bin"] = set(MAY_IMPORT)

# Building blocks are torch only, so that they can be lifted out; numpy serves random draws on the host.
THIRD_PARTY = {"modules": {"torch", "torchaudio", "numpy"}, "losses": {"torch"}}

# Simulation shards start fast and run where there is no torch.
WITHOUT_TORCH = ("telephone", "text", "files", "config", "report")
VERBS_STARTING_WITHOUT_TORCH = ("simulate", "upsample", "manifest", "prepare", "score", "report", "status")
HEAVY = {"torch", "torchaudio", "transformers", "peft", "accelerate", "lightning", "pytorch_lightning"}

# Distributions of the extra `llm`: imported where they are used, so that the core does without them.
LAZY = {"torchaudio", "transformers", "peft", "accelerate", "tokenizers", "tiktoken", "sentencepiece"}

# What nest_ssl stands in for: a run must not depend on it, nor differ where it happens to be installed.
FORBIDDEN = {"hydra", "lightning", "pytorch_lightning", "nemo", "funasr"}


class Import(NamedTuple):
    """One imported name: `a.b.c` for `from a.b import c`."""

    name: str
    line: int
    at_import: bool  # False inside a function: it runs when called


def imports_of(source: str, module: str, is_package: bool) -> list[Import]:
    """Every import statement of a module's source, wherever it stands, with relative ones made absolute."""
    found = []

    def visit(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") + (["__init__"] if is_package else [])
                base = ".".join([*parts[: -node.level], *filter(None, [node.module])])
            found.extend(Import(f"{base}.{alias.name}", node.lineno, at_import) for alias in node.names)
        inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, at_import and not inside_function)

    visit(ast.parse(source), at_import=True)
    return found


def room_of(module: str) -> str:
    """`data` for `nest_ssl.data.plan`, the empty string for `nest_ssl` itself."""
    return module.split(".")[1] if "." in module else ""


def faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module's imports break, one line each, as FILE-like MODULE:LINE."""
    room = room_of(module)
    found = []
    for name, line, at_import in imports_of(source, module, is_package):
        top = name.split(".")[0]
        where = f"{module}:{line}"
        if top == "nest_ssl":
            target = room_of(name)
            if target in MAY_IMPORT and target != room and target not in MAY_IMPORT[room]:
                found.append(f"{where} imports {target}; {room} may import {sorted(MAY_IMPORT[room])}")
            continue
        if top in FORBIDDEN:
            found.append(f"{where} imports {top}, which no room may")
        elif top in LAZY and at_import and room not in THIRD_PARTY:
            found.append(f"{where} imports {top} at its top; only inside a function, it is of the extra llm")
        elif room in WITHOUT_TORCH and top in HEAVY:
            found.append(f"{where} imports {top}; {room} does without")
        elif room in THIRD_PARTY and top not in THIRD_PARTY[room] | set(sys.stdlib_module_names):
            found.append(f"{where} imports {top}; {room} may import {sorted(THIRD_PARTY[room])}")
        if room in ("modules", "losses", "models") and name.startswith("torch.distributed"):
            found.append(f"{where} imports torch.distributed; only training knows of ranks")
    return found


def modules() -> dict[str, Path]:
    """Path of every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def test_every_room_is_in_the_table():
    rooms = {room_of(module) for module in modules()} - {""}
    assert rooms <= set(MAY_IMPORT), "a new room needs its row in MAY_IMPORT"


def test_the_table_has_no_circle():
    rank = {}
    while len(rank) < len(MAY_IMPORT):
        free = [room for room in set(MAY_IMPORT) - set(rank) if MAY_IMPORT[room] - {room} <= set(rank)]
        assert free, f"a circle among {set(MAY_IMPORT) - set(rank)}"
        rank.update(dict.fromkeys(free, len(rank)))


def test_rooms_import_only_what_the_table_allows():
    found = []
    for module, path in modules().items():
        if module != "nest_ssl":
            found += faults(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    assert not found, "\n" + "\n".join(found)


def test_importing_the_package_imports_nothing():
    assert imports_of((PACKAGE / "__init__.py").read_text(encoding="utf-8"), "nest_ssl", True) == []


@pytest.mark.parametrize(
    ("source", "module", "expected"),
    [
        ("from nest_ssl.models.ssl_models import X", "nest_ssl.data.plan", "imports models"),
        ("def f():\n    from nest_ssl.training import loop", "nest_ssl.models.a", "imports training"),
        ("from nest_ssl import bin", "nest_ssl.training.loop", "imports bin"),
        ("from ..training import loop", "nest_ssl.data.plan", "imports training"),
        ("from .. import training", "nest_ssl.data.plan", "imports training"),
        ("import nest_ssl.data.plan as p", "nest_ssl.modules.a", "imports data"),
        ("if True:\n    import torch.nn as nn", "nest_ssl.telephone.codecs.g711", "imports torch"),
        ("def f():\n    import torch", "nest_ssl.files.audio", "imports torch"),
        ("import soundfile as sf", "nest_ssl.modules.a", "imports soundfile"),
        ("import transformers", "nest_ssl.models.fun_asr_nano", "only inside a function"),
        ("from lightning import Trainer", "nest_ssl.training.loop", "no room may"),
        ("import torch.distributed as dist", "nest_ssl.modules.a", "ranks"),
        ("from torch import distributed", "nest_ssl.models.a", "ranks"),
    ],
)
def test_a_forbidden_import_is_found(source, module, expected):
    assert [expected in fault for fault in faults(source, module)] == [True]


@pytest.mark.parametrize(
    ("source", "module", "is_package"),
    [
        ("from nest_ssl.files.atomic import replaced\nimport torch", "nest_ssl.training.checkpoint", False),
        ("from . import g711\nfrom .base import Codec", "nest_ssl.telephone.codecs", True),
        ("from ..level import rms", "nest_ssl.telephone.codecs.g711", False),
        ("def f():\n    import transformers", "nest_ssl.models.fun_asr_nano", False),
        ("from nest_ssl.training.loop import Trainer\nimport torch", "nest_ssl.bin.pretrain", False),
        ("import math\nimport torch\nfrom nest_ssl.modules.b import B", "nest_ssl.modules.a", False),
        ("from nest_ssl import __version__", "nest_ssl.training.log", False),
    ],
)
def test_an_allowed_import_passes(source, module, is_package):
    assert faults(source, module, is_package) == []


def test_light_rooms_load_without_torch():
    verbs = {f"nest_ssl.bin.{verb}" for verb in VERBS_STARTING_WITHOUT_TORCH}
    light = [name for name in modules() if room_of(name) in WITHOUT_TORCH or name in verbs]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]:\n"
        "    importlib.import_module(name)\n"
        "    loaded = sorted(set(sys.argv[1].split(',')) & set(sys.modules))\n"
        "    if loaded: sys.exit(f'importing {name} loads {loaded}')\n"
    )
    command = [sys.executable, "-c", program, ",".join(sorted(HEAVY)), *light]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
