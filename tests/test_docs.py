"""What the pages for readers point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("egs/*/*.md"),
        *ROOT.glob("tests/*/*.md"),
    ]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_resolve(page):
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (page.parent / link).exists()]
    assert not missing
    assert "@@" not in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_commands_exist(page):
    """`bash PATH`, `python3 PATH.py` and `-m nest_ssl.bin.VERB` in a page name files of the checkout."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:bash|python3?) ((?:egs|utils|tests|benchmarks)/[\w./-]+)", text)
    named += [f"nest_ssl/bin/{verb}.py" for verb in re.findall(r"-m nest_ssl\.bin\.([a-z_]+)", text)]
    assert not [name for name in named if not (ROOT / name).exists()]
