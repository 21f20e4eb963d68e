"""docs/TROUBLESHOOTING.md quotes messages that the code has."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import ROOT, cells, code, page

TEXT = page("TROUBLESHOOTING.md")
FOREIGN = "<!-- messages of other programs -->"
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


def test_the_page_has_the_sections_that_people_look_for():
    assert len(first_columns()) > 100
