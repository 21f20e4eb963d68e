"""docs/FUNASR_PARITY.md against the tables of the code."""

from __future__ import annotations

import re

import pytest

from nest_ssl.data.fun_asr_config import DEFAULTS, ONLY_OFF, WITHOUT_EFFECT
from nest_ssl.training.funasr_options import KEYS, NOT_HERE
from tests.docs.pages import ROOT, code, page, table_rows

PAGE = page("FUNASR_PARITY.md")
FAMILIES = "P1|P2|P3|PREC|DDP|STAGE|LORA|KEY|PROMPT|TEXT|CTC|DATA|RUN|RES"


def option_row(section: str) -> list[list[str]]:
    """Give the names of a section's row: honoured, without effect, refused."""
    (row,) = [row for row in table_rows(PAGE, "| section |") if row[0] == f"`{section}`"]
    return [code(cell) for cell in row[1:]]


def test_training_options_are_those_of_the_code():
    honoured, ignored, refused = option_row("train_conf")
    assert set(honoured) == set(KEYS)
    silent = {name for name, (allowed, _) in NOT_HERE.items() if allowed is None}
    assert set(ignored) <= silent and set(refused) <= set(NOT_HERE) - silent
    assert {name for name in silent if "wandb" not in name} == set(ignored)


def test_data_options_are_those_of_the_code():
    _, ignored, refused = option_row("dataset_conf")
    assert set(ignored) <= set(WITHOUT_EFFECT)
    assert set(refused) - {"max_speech_length"} <= set(ONLY_OFF)
    assert not set(ignored + refused) & set(DEFAULTS)


@pytest.mark.parametrize("name", ["FUNASR_PARITY.md", "TROUBLESHOOTING.md", "EXPERIMENT_PLAN.md"])
def test_codes_of_checks_exist(name):
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("nest_ssl/preflight/*.py"))
    named = set(re.findall(rf"\b(?:{FAMILIES})\.[a-z]\w*", page(name)))
    assert named
    for one in named:
        start = re.sub(r"\.(overlap|double)_\w*$", r".\1_", one)  # the rest is put in
        assert f'"{start}' in source, one


def test_comparison_parts_are_those_of_the_script():
    source = (ROOT / "utils/funasr_comparison/comparisons.py").read_text(encoding="utf-8")
    parts = re.findall(r'^    "(\w+)": compare_', source, re.MULTILINE)
    assert f"--parts {','.join(parts)}" in PAGE
