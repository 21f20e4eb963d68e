"""docs/TROUBLESHOOTING.md quotes messages that the code has, and commands that the verbs take."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from functools import cache

import pytest

from tests.docs.pages import ROOT, cells, code, examples, page

TEXT = page("TROUBLESHOOTING.md")
FOREIGN = "<!-- messages of other programs -->"
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*(python3? -m nest_ssl\.bin\.\w+|python3? utils/\S+|bash \S+\.sh)(?: .*)?$"
)
GAP = "\0"


def first_columns() -> list[tuple[str, str]]:
    """Give (section, quoted message) for each message in backticks of a first column but foreign ones."""
    found, section, foreign = [], "", False
    for line in TEXT.splitlines():
        if line.startswith("## "):
            section, foreign = line.removeprefix("## "), False
        elif line == FOREIGN:
            foreign = True
        elif line.startswith("| ") and not line.startswith("| symptom") and not foreign:
            found += [(section, message) for message in code(cells(line)[0])]
    return found


def commands() -> list[str]:
    """Give every command of the page: in tables and in fenced blocks."""
    found = re.findall(r"`([^`\n]+)`", TEXT)
    for example in examples(TEXT):
        found += example.text.splitlines() if example.language == "bash" else []
    return sorted({one for one in found if COMMAND.match(one)})


@cache
def strings_of_the_code() -> str:
    """Give all strings of the code, one a line, NUL for values put in, and the lines of the shell."""
    found = []
    for path in [*ROOT.glob("nest_ssl/**/*.py"), *ROOT.glob("utils/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[-.\d]*[sdfgr]|\{[^{}]*\}", GAP, node.value))
    for path in [*ROOT.glob("utils/**/*.sh"), ROOT / "path.sh"]:
        # words that continue on the next line, and values
        text = re.sub(r'" \\\n\s*"', " ", path.read_text(encoding="utf-8"))
        found += re.sub(r"\$\{[^}]*\}|\$\w+", GAP, text).splitlines()
    return "\n".join(one.replace("\n", " ") for one in found)


def is_said(message: str) -> bool:
    """True where one string has the fixed parts of `message`, … standing for values."""
    parts = [re.escape(part.strip()) for part in message.split("…") if part.strip()]
    return re.search("[^\n]*".join(parts), strings_of_the_code()) is not None


@pytest.mark.parametrize(("section", "message"), first_columns(), ids=lambda value: value[:50])
def test_quoted_messages_stand_in_the_code(section, message):
    assert is_said(message), f"{section}: no string of the code has {message!r}"


def test_a_message_that_nobody_says_is_found_out():
    assert not is_said("the moon is in the wrong … for this")
    assert is_said("is in use by another run: pid …")


class Parsed(Exception):
    """Carries the parser that a verb would parse its words with."""


@cache
def parser_of(module: str, words: tuple[str, ...]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Give the parser that the verb builds, and the words it gives it; the verb goes no further."""
    patch = pytest.MonkeyPatch()

    def stop(self, args=None, namespace=None):
        raise Parsed(self, list(args or ()))

    with patch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(Parsed) as found:
            importlib.import_module(module).main(list(words))
    return found.value.args


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    words = shlex.split(re.sub(r" \|.*| > .*", "", command))
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words[1] == "-m":
        parser, given = parser_of(words[2], tuple(words[3:]))
        known = {option for action in parser._actions for option in action.option_strings}
        asked = {word.split("=")[0] for word in given if word.startswith("--")}
        assert asked <= known, f"{words[2]} has no {asked - known}"
    else:
        script = ROOT / words[1]
        text = script.read_text(encoding="utf-8") + (ROOT / "utils/recipe/options.sh").read_text(
            encoding="utf-8"
        )
        assert script.is_file()
        for option in [word for word in words[2:] if word.startswith("--")]:
            name = option.removeprefix("--").split("=")[0]
            assert re.search(rf"\b{name.replace('-', '[-_]')}\b", text), f"{script} has no {option}"


def test_the_page_has_the_sections_that_people_look_for():
    assert len(first_columns()) > 100
    assert len(commands()) > 20
