"""The commands of the pages for readers: found, and parsed by the verbs and recipes that they name."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from nest_ssl.bin.arguments import Parser
from tests.docs.pages import ROOT, Example, examples

CALL = r"(?:python3? -m nest_ssl\.bin\.[a-z]\w*|bash (?:egs|tests|utils|benchmarks)/[\w./-]+\.sh)"
BEHIND = re.compile(r"\s+#.*|\s+[>|<&].*|;.*", re.DOTALL)
ABRIDGED = re.compile(r"(^|\s)\[?(\.\.\.|…)|\bVERB\b|\bOPTIONS?\b|\$\{?\w+\[@\]|\$@")


def blocks(text: str, kind: str = "") -> list[Example]:
    """Give the fenced bash blocks of a page of this kind: what follows the word bash."""
    return [each for each in examples(text) if each.language == "bash" and each.kind == kind]


def commands(script: str) -> list[str]:
    """Give the commands of a bash block: lines joined at a backslash; a loop is one, comments are none."""
    found: list[str] = []
    depth = 0
    for line in script.replace("\\\n", " ").splitlines():
        bare = re.sub(r"[ \t]+", " ", re.sub(r"(^|\s)#.*$", "", line)).strip()
        if bare and depth:
            found[-1] += f"\n{bare}"
        elif bare:
            found.append(bare)
        depth += len(re.findall(r"^(?:for|while) ", bare)) - len(re.findall(r"^done\b|; done\b", bare))
    return found


def whole_calls(text: str) -> list[str]:
    """Give the calls of verbs and recipes in the bash blocks of a page."""
    found = []
    for block in (each for each in examples(text) if each.language == "bash" and each.kind != "fails"):
        for command in commands(block.text):
            found += re.findall(rf"^(?:[A-Z_]+=\S* )*({CALL}.*)$", command, re.MULTILINE)
    return [BEHIND.sub("", call) for call in found]


def mentioned_calls(text: str) -> list[str]:
    """Give the calls in code within prose, tables and indented blocks, which may leave words out."""
    for block in examples(text):
        text = text.replace(block.text, "")
    joined = text.replace("\\\n", " ")
    found = re.findall(rf"`({CALL}[^`\n]*)`", joined) + re.findall(rf"^    ({CALL}.*)$", joined, re.MULTILINE)
    return [BEHIND.sub("", call) for call in found]


def fault_of(call: str, whole: bool) -> str:
    """Say why a call cannot be right, by the parser of what it calls; empty if it can.

    A call that is not `whole`, or that says so by three dots, needs only to name options that there are.
    """
    words = [word for word in shlex.split(call) if word not in ("...", "…")]
    if words[0] == "bash":
        return _fault_of_script(ROOT / words[1], words[2:])
    module = importlib.import_module(words[2])
    given = [re.sub(r"^cuda(:\d)?$", "cpu", word) for word in words[3:]]  # which a machine may lack
    if whole and not ABRIDGED.search(call):
        try:
            _parse(module, given)
        except SystemExit as end:
            return "" if not end.code else "the verb refuses these words; its message is above"
        return ""
    known = _options(module)
    unknown = [word for word in given if re.match("--[a-z]", word) and word.partition("=")[0] not in known]
    return f"{words[2]} has no {', '.join(unknown)}" if unknown else ""


def _parse(module: ModuleType, words: list[str]) -> argparse.Namespace:
    function = getattr(module, "parse", None) or module.parse_arguments
    wants = inspect.signature(function).parameters
    return function(words, *([module.__doc__] if len(wants) > 1 else []))


def _options(module: ModuleType) -> set[str]:
    """All options of a verb, and of its commands."""
    made: list[Parser] = []
    before = Parser.__init__

    def remember(self: Parser, *arguments: object, **options: object) -> None:
        before(self, *arguments, **options)  # type: ignore[arg-type]
        made.append(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Parser, "__init__", remember)
        patched.setattr(Parser, "format_help", lambda *_, **__: "")
        with pytest.raises(SystemExit):
            _parse(module, ["--help"])
    return {option for parser in made for option in parser._option_string_actions}


def _fault_of_script(script: Path, words: list[str]) -> str:
    if not script.is_file():
        return f"there is no {script.relative_to(ROOT)}"
    text = script.read_text(encoding="utf-8")
    recipe = script.parents[1] / "run.sh"
    if recipe.is_file() and "run.sh" in text:  # which takes the options of this one as well
        text += recipe.read_text(encoding="utf-8")
    if "utils/recipe.sh" in text:
        text += (ROOT / "utils" / "recipe" / "options.sh").read_text(encoding="utf-8")
    for word in words:
        name = word.partition("=")[0].removeprefix("--").replace("-", "[-_]")
        if re.match("--[a-z]", word) and not re.search(rf"\b{name}\b", text):
            return f"{script.relative_to(ROOT)} has no {word}"
    return ""
