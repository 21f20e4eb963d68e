"""What README, QUICKSTART and the other pages tell a newcomer to type is right, and runs as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.commands import blocks, commands, fault_of, mentioned_calls, whole_calls
from tests.docs.pages import ROOT, examples
from tests.recipes.asterisk_archives import write_packages, write_table
from tests.recipes.test_asterisk_finetune import FEW, LIGHT, OPTIONS

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("egs/*/*.md")])
RUN_PAGES = ("README.md", "docs/QUICKSTART.md")  # in the order in which one reads them
QUICK = "bash egs/asterisk/run.sh --preset quick"
# What is not run as written, and what is done instead.
REPLACED = {
    QUICK: "the same recipe with few steps on the prompts of tests/data, before the page",
    "bash egs/asterisk/run.sh": "the same: 20 minutes",
    "bash tests/run.sh": "this test is part of it",
    "git clone URL nest-ssl && cd nest-ssl": "the test makes the clone",
}


def page_text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def translated(name: str) -> str:
    """The Chinese page of a page."""
    return name.replace(".md", "_zh.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_calls_in_pages_are_taken_by_their_verbs(page):
    text = page.read_text(encoding="utf-8")
    faults = [(call, fault_of(call, whole=True)) for call in whole_calls(text)]
    faults += [(call, fault_of(call, whole=False)) for call in mentioned_calls(text)]
    assert not [f"{call}: {fault}" for call, fault in faults if fault]


def test_a_wrong_call_is_found_out():
    text = page_text("docs/QUICKSTART.md")
    assert len(whole_calls(text)) > 12
    broken = text.replace("--hypotheses base=", "--hypothesis-of base=").replace(
        "--preset quick", "--sett quick"
    )
    assert sum(bool(fault_of(call, whole=True)) for call in whole_calls(broken)) >= 2
    assert fault_of("python3 -m nest_ssl.bin.decode --modell X ...", whole=False)
    assert not fault_of("python3 -m nest_ssl.bin.decode --model X ...", whole=False)


@pytest.mark.parametrize("name", RUN_PAGES)
def test_both_languages_have_the_same_examples(name):
    """The same commands, comments apart, and word by word the same output, code and kinds of block."""
    ours, theirs = (
        [
            (each.language, each.kind, commands(each.text) if each.language == "bash" else each.text)
            for each in examples(page_text(page))
        ]
        for page in (name, translated(name))
    )
    assert ours == theirs


@pytest.mark.parametrize("name", RUN_PAGES)
def test_both_languages_have_the_same_structure_and_figures(name):
    """Headings by level, tables row by row, and in each section the same figures."""
    ours, theirs = (outline(page_text(page)) for page in (name, translated(name)))
    assert len(ours) == len(theirs)
    for (title, *here), (their_title, *there) in zip(ours, theirs, strict=True):
        assert here == there, f"{title} / {their_title}"


def outline(text: str) -> list[tuple[str, int, list[int], list[str]]]:
    """Of each section: its title, level, the borders in each table row, and its figures outside examples."""
    bare = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for section in re.split(r"^(?=#+ )", bare, flags=re.MULTILINE)[1:]:
        marks, title = section.splitlines()[0].split(" ", 1)
        rows = [line.count("|") for line in section.splitlines() if line.startswith("|")]
        figures = re.findall(r"(?<![\w.-])\d[\d.,]*(?<=\d)", section)
        found.append((title, len(marks), rows, sorted(figures)))
    return found


@pytest.mark.parametrize("name", RUN_PAGES)
def test_the_languages_lead_to_each_other(name):
    """Each page to its sister, and a Chinese page to the Chinese page where there is one."""
    sister = Path(translated(name)).name
    assert f"]({sister})" in page_text(name)
    text = page_text(translated(name))
    assert text.count(f"]({Path(name).name})") == 1
    others = re.findall(r"\]\(([^)\s#]+\.md)", text.replace(f"]({Path(name).name})", ""))
    folder = (ROOT / name).parent
    assert not [link for link in others if (folder / translated(link)).exists()]


@pytest.mark.parametrize("name", RUN_PAGES)
def test_files_that_commands_read_come_with_the_checkout(name):
    """A path of the checkout in a command is there; what a command makes lies in my_*, exp or data."""
    made = re.compile(r"(egs/asterisk/(exp|data)|my_\w+|exp|data)(/|$)")
    for block in blocks(page_text(name)):
        for word in shlex.split(block.text.replace("\\\n", " "), comments=True):
            path = word.rpartition("=")[2].rstrip(";")
            if "/" in path and not made.match(path) and not path.startswith(("-", "$")):
                assert (ROOT / path).exists(), path


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A fresh clone in which the quick run is done: the same recipe, in miniature, without a network."""
    folder = tmp_path_factory.mktemp("newcomer")
    clone = folder / "nest-ssl"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    changed = subprocess.run(
        ["git", "diff", "--name-only", "--diff-filter=d", "HEAD"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    for name in changed:  # what is not committed yet is tested, too
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    write_table(clone / "egs" / "asterisk" / "local" / "checksums.tsv")
    packages = folder / "packages"
    packages.mkdir()
    write_packages(packages)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NEST_")}
    environment = kept | {"NEST_PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    options = ["--deb-dir", str(packages), *OPTIONS, *FEW, "--base-conf", LIGHT, "--adapt-conf", LIGHT]
    done = run(f"{QUICK} {shlex.join(options)}", clone, environment)
    assert done.returncode == 0, done.stdout
    return clone, environment


def run(script: str, clone: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], cwd=clone, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1500,
    )  # fmt: skip


def script_of(text: str) -> str:
    """The page as one shell session: its commands in order, each said first, stopped by the first failure."""
    lines = ["set -e"]
    for block in blocks(text):
        for command in commands(block.text):
            if command not in REPLACED:
                lines += [f"echo + {shlex.quote(command)}", command]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def walked(newcomer) -> dict[str, subprocess.CompletedProcess[str]]:
    """Each page gone through in the clone, one after the other."""
    return {name: run(script_of(page_text(name)), *newcomer) for name in RUN_PAGES}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_PAGES)
def test_every_command_runs_as_written(name, walked):
    wanted = [command for block in blocks(page_text(name)) for command in commands(block.text)]
    assert walked[name].returncode == 0, walked[name].stdout[-6000:]
    begun = [command for command in wanted if f"+ {command}\n" in walked[name].stdout]
    assert begun == [command for command in wanted if command not in REPLACED]
    assert len(begun) >= 2


@pytest.mark.slow
def test_the_files_that_the_quickstart_names_are_there_then(newcomer, walked):
    made = ["report.html", "RESULTS.md", "scores.json", "SCORES.md"]
    for name in [*made, "decode", "base/train.log", "encoder/model", "lora/metrics.jsonl", "log", ".done"]:
        assert (newcomer[0] / "egs/asterisk/exp/small" / name).exists(), name
    assert (newcomer[0] / "my_exp" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_wrong_commands_end_with_the_messages_shown(newcomer, walked):
    clone, environment = newcomer
    text = page_text("docs/QUICKSTART.md")
    (block,) = blocks(text, "fails")
    wrong = commands(block.text)
    shown = next(each for each in examples(text) if each.line > block.line and each.language == "text")
    messages = shown.text.splitlines()
    assert len(wrong) == len(messages)
    for command, message in zip(wrong, messages, strict=True):
        done = run(f"source path.sh\n{command}", clone, environment)
        assert done.returncode != 0
        assert message in done.stdout, command
