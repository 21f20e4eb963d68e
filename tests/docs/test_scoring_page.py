"""The worked examples of keywords in docs/scoring.md, counted by the code."""

from __future__ import annotations

import re
from pathlib import Path

from nest_ssl.text.conditions import BINNED, CONDITIONS
from nest_ssl.text.error_rates import alignments
from nest_ssl.text.keyword_counts import keyword_counts
from nest_ssl.text.keywords import Keywords

PAGE = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")


def table(section: str) -> list[list[str]]:
    """The cells of the rows of a section's last table, without its head."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows][2:]


def test_keywords_are_counted_as_the_page_says():
    examples = table("Keywords")
    assert len(examples) == 6
    for words, reference, hypothesis, errors, keywords, outside in examples:
        said, heard = reference.strip("`"), hypothesis.strip("`")
        (edits,) = alignments([said], [heard], "characters")
        found = keyword_counts(Keywords(re.findall("`([^`]+)`", words)), said, heard, edits)
        assert errors == f"{found.errors} / {found.characters}", said
        assert keywords == f"{found.expected}, {found.heard}, {found.false}", said
        assert outside == str(found.outside_errors), said


def test_every_condition_and_its_bins_are_on_the_page():
    rows = {name: values for names, values, _ in table("By condition") for name in names.split(", ")}
    assert set(rows) == set(CONDITIONS)
    assert rows["loss"] == ", ".join(BINNED["loss"])
