"""Each command that a page of docs/ shows names options that its verb or recipe has."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from functools import cache

import pytest

from tests.docs.pages import ROOT, examples

PAGES = [*ROOT.glob("docs/*.md"), *ROOT.glob("egs/*/README.md")]
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:python3? (?:-m nest_ssl\.bin\.\w+|utils/\S+)|bash \S+\.sh)(?: .*)?$"
)


def commands() -> list[str]:
    """Give every whole command of the pages: in backticks, in fenced and in indented blocks."""
    found: set[str] = set()
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"`([^`\n]+)`", text))
        blocks = [example.text for example in examples(text) if example.language == "bash"]
        blocks += ["\n".join(re.findall(r"^ {4}(\S.*|    .*)$", text, re.MULTILINE))]
        for block in blocks:
            found |= {line.strip() for line in block.replace("\\\n", " ").splitlines()}
    return sorted(one for one in found if COMMAND.match(one) and "..." not in one and " VERB" not in one)


class Parsed(Exception):
    """Carries the parser that a verb would parse its words with, and the words."""


@cache
def parser_of(module: str, words: tuple[str, ...]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Give the parser that the verb builds, and the words it gives it; the verb goes no further."""

    def stop(self, args=None, namespace=None):
        raise Parsed(self, list(args or ()))

    with pytest.MonkeyPatch().context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(Parsed) as found:
            importlib.import_module(module).main(list(words))
    return found.value.args


def known_options(parser: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """Give the options of a parser, and of the sub-command that the words name."""
    found: set[str] = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for name in set(words) & set(action.choices):
                found |= known_options(action.choices[name], words)
    return found


def words_of(command: str) -> list[str]:
    """Give the words of a command without what follows a pipe, without variables before it and comments."""
    words = shlex.split(re.split(r" \| | > |; ", command)[0], comments=True)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return words


@pytest.mark.parametrize("command", commands())
def test_options_of_commands_exist(command):
    words = words_of(command)
    if words[1] == "-m":
        parser, given = parser_of(words[2], tuple(words[3:]))
        asked = {word.split("=")[0] for word in given if re.match(r"--\w", word)}
        assert asked <= known_options(parser, given), f"{words[2]} lacks an option of {sorted(asked)}"
        return
    script = ROOT / words[1]
    assert script.is_file()
    sources = [
        script,
        script.parents[1] / "run.sh",
        ROOT / "utils/recipe/options.sh",
    ]  # local/ passes on to it
    # what lies in local/ passes its options on to run.sh
    sources = [script, script.parents[1] / "run.sh", ROOT / "utils/recipe/options.sh"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources if path.is_file())
    for option in [word for word in words[2:] if word.startswith("--")]:
        name = option.removeprefix("--").split("=")[0].replace("-", "[-_]")
        assert re.search(rf"\b{name}\b", text), f"{words[1]} has no {option}"


def test_a_wrong_option_is_found_out():
    parser, given = parser_of("nest_ssl.bin.score", ("--hypothesis", "a=a.jsonl"))
    assert not {word for word in given if word.startswith("--")} <= known_options(parser, given)
    assert len(commands()) > 60
