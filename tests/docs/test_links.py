"""Links to a heading of a page find it."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("egs/*/README.md")]


def anchors(text: str) -> set[str]:
    """Give the names of the headings, as GitHub makes them: lower case, blanks as hyphens, no punctuation."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_linked_headings_exist(page):
    text = page.read_text(encoding="utf-8")
    for name, anchor in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", text):
        if "://" not in name:
            target = page.parent / name if name else page
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name}#{anchor}"
