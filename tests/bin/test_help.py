"""--help of every verb fits a screen, and its examples are calls that the verb takes."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import nest_ssl.bin
from nest_ssl.bin import export, export_run, extract_features
from nest_ssl.bin.arguments import Parser, Rare
from nest_ssl.models import fun_asr_export, onnx_export
from nest_ssl.modules import feature_aggregation

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    name
    for _, name, _ in pkgutil.iter_modules(nest_ssl.bin.__path__)
    if re.search(r"^def main\(", (ROOT / "nest_ssl" / "bin" / f"{name}.py").read_text(encoding="utf-8"), re.M)
]
RECIPES = sorted(ROOT.glob("egs/*/run*.sh"))
LINES = 40


def parse(verb: str, words: list[str]) -> argparse.Namespace:
    """Parse words as the verb does, its refusals included."""
    module = importlib.import_module(f"nest_ssl.bin.{verb}")
    function = getattr(module, "parse", None) or module.parse_arguments
    wants = inspect.signature(function).parameters
    return function(words, *([module.__doc__] if len(wants) > 1 else []))


def screen(verb: str, option: str, columns: int, monkeypatch, capsys) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as end:
        parse(verb, [option])
    assert end.value.code == 0
    return capsys.readouterr().out.splitlines()


def examples(lines: list[str]) -> list[list[str]]:
    """The words behind `python -m nest_ssl.bin.VERB` of each example, the verb first."""
    joined = re.sub(r" \\\n\s+", " ", "\n".join(lines))
    found = re.findall(r"^ {2,4}python3? -m nest_ssl\.bin\.(.*)$", joined, re.M)
    return [shlex.split(re.split(r" {2,}#| \| ", command)[0]) for command in found]


def parser_of(verb: str, monkeypatch) -> argparse.ArgumentParser:
    """The parser that the verb makes."""
    made: list[argparse.ArgumentParser] = []
    before = Parser.__init__

    def remember(self, *arguments, **options):
        before(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(Parser, "__init__", remember)
    with pytest.raises(SystemExit):
        parse(verb, ["--help"])
    return made[0]


def test_all_verbs_are_looked_at():
    assert {"decode", "pretrain", "score", "report", "status"} <= set(VERBS)
    assert len(VERBS) >= 16


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_screen(verb, monkeypatch, capsys):
    lines = screen(verb, "--help", 100, monkeypatch, capsys)
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if "\t" in line or line != line.rstrip()]
    assert lines[0].startswith(f"usage: python -m nest_ssl.bin.{verb} ")


@pytest.mark.parametrize("verb", VERBS)
def test_a_narrow_terminal_breaks_no_line_but_examples(verb, monkeypatch, capsys):
    lines = screen(verb, "--help", 80, monkeypatch, capsys)
    options = [line for line in lines if re.match(r"  -| {20,}\S", line)]
    assert max(map(len, options), default=0) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples_that_parse(verb, monkeypatch, capsys):
    found = examples(screen(verb, "--help", 100, monkeypatch, capsys))
    assert [words for words in found if words[0] == verb]
    for other, *words in found:
        parse(other, words)


@pytest.mark.parametrize("verb", VERBS)
def test_help_all_has_every_option_and_help_the_common_ones(verb, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        actions = parser_of(verb, patched)._actions
    capsys.readouterr()
    common = "\n".join(screen(verb, "--help", 100, monkeypatch, capsys))
    everything = "\n".join(screen(verb, "--help-all", 100, monkeypatch, capsys))
    for action in actions:
        for option in action.option_strings if action.help != argparse.SUPPRESS else []:
            written = re.compile(rf"^  (\S+ )?{option}(?![-\w])", re.M)
            assert written.search(everything)
            assert bool(written.search(common)) == (not isinstance(action.help, Rare)), option
    assert ("--help-all shows" in common) == (common != everything)


@pytest.mark.parametrize("verb", VERBS)
def test_options_say_their_default_and_unit(verb, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        actions = parser_of(verb, patched)._actions
    for action in actions:
        if not action.option_strings or action.help == argparse.SUPPRESS:
            continue
        assert action.help, action.option_strings
        default = action.default not in (None, False, argparse.SUPPRESS) and action.default != []
        if default and action.nargs != 0:
            assert re.search(r"\[.*\]", action.help), f"{action.option_strings} has a default"
        if action.metavar == "S":
            assert "second" in action.help, action.option_strings


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_recipes_say_what_they_do_and_take(recipe):
    done = subprocess.run(["bash", recipe, "--help"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Usage: bash ") and "\nStages: 0 " in done.stdout
    assert not [line for line in lines if "\t" in line or line != line.rstrip() or len(line) > 100]
    assert "--status" in done.stdout and not done.stderr
    assert len(lines) <= LINES and f"\n  bash {recipe.relative_to(ROOT)} --" in done.stdout
    declared = re.findall(r"^\s*stage (\d+ [a-z_]+) ", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    told = done.stdout[done.stdout.index("\nStages: ") :]
    assert " ".join(told.split()) == f"Stages: {', '.join(declared)}"


@pytest.mark.parametrize("script", ["requirements.py", "submit.py", "count_parameters.py"])
def test_scripts_of_utils_fit_a_screen(script, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, ROOT / "utils" / script, "--help"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) <= LINES and not [line for line in lines if line != line.rstrip()]


def test_a_mistyped_option_is_told_with_the_one_that_was_meant(capsys):
    with pytest.raises(SystemExit) as end:
        parse("manifest", ["--form", "kaldi", "--in", "data/train", "--out", "all.jsonl"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "manifest: error: " in said and "did you mean --from?" in said
    assert len(said.splitlines()) <= 6


def test_a_mistyped_option_that_is_needed_is_named_too(capsys):
    with pytest.raises(SystemExit):
        parse("decode", ["--modle", "exp/lora/model", "call.wav"])
    assert "--modle is unknown, did you mean --model?" in capsys.readouterr().err


def test_choices_that_are_named_without_torch_are_those_of_the_work():
    """A parser must not load the rooms that know them."""
    assert tuple(export_run.WRITERS) == export.NEST_KINDS
    assert tuple(fun_asr_export.WRITERS) == export.FUN_ASR_KINDS
    assert export.OPSET == onnx_export.OPSET
    assert extract_features.MODES == feature_aggregation.MODES
