"""The page of scores: a row for each system and output, and everything that was counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nest_ssl.text.hypotheses import System, Utterance
from nest_ssl.text.keywords import Keywords
from nest_ssl.text.score_table import as_json, page, summary
from nest_ssl.text.scoring import Scores, score


@pytest.fixture
def scores() -> Scores:
    references = {f"u{i}": Utterance("card here", 30.0) for i in range(4)} | {"u4": Utterance("", None)}
    texts = {"base": "cord hare", "lora": "card here"}
    systems = []
    for name, text in texts.items():
        rows = {key: {"key": key, "text": text, "text_ctc": "card", "text_llm": text} for key in references}
        systems.append(System(name, Path(name), rows))
    systems[1].rows["u4"]["text"] = systems[1].rows["u4"]["text_llm"] = ""
    systems[1].rows["u0"] = {"key": "u0", "error": "unreadable"}
    del systems[1].rows["u1"]
    for row in systems[0].rows.values():
        del row["text_ctc"]
    return score(systems, references, keywords=Keywords(["card"]), baseline=["base"], rounds=200, seed=4)


def table_rows(text: str, first: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [cells for line in lines if (cells := [c.strip() for c in line.strip("|").split("|")])[0] == first]


def test_each_system_and_output_has_its_row_with_intervals(scores):
    text = page(scores, "Results of a test", ["base"], ["* `made so`"])
    assert text.startswith("# Results of a test\n")
    row = table_rows(text, "lora")[0]
    # u0 and u1 are deleted: 18 of 36 characters, 4 of 8 words, 8 of 16 keyword characters
    assert row[1] == "**LLM only**" and [cell.split()[0] for cell in row[2:5]] == ["**50.00**"] * 3
    rate = scores.rows[0].rates["cer"]
    assert rate.errors == 2 * 4 + len("cord hare") and rate.total == 36
    base = table_rows(text, "base")[0]
    assert base[2].startswith(f"**{100 * rate.rate:.2f}** [{100 * rate.low:.2f}, {100 * rate.high:.2f}]")
    assert base[5] == "-"
    assert row[5].startswith(f"{100 * (1 - 18 / rate.errors):.2f} [") and row[5].endswith("over base")
    assert "base has no text_ctc in its rows" in text


def test_what_was_counted_is_on_the_page(scores):
    text = page(scores, "T", ["base"], ["* `made so`"])
    assert "5 utterances, 2.0 min of audio (1 utterances state no duration), 36 reference characters" in text
    assert "8 reference words; 1 references are empty" in text
    assert "1 keywords stand 4 times in the references, with 16 characters" in text
    assert table_rows(text, "lora")[-1] == ["lora", "LLM only", "1", "1", "0", "1"]
    assert "lora: failed or missing: `u0`, `u1`" in text
    for word in ("full width becomes half width", "200 draws", "seed 4", "* `made so`"):
        assert word in text


def test_the_figures_for_programs_are_json_without_nan(scores):
    found = json.loads(json.dumps(as_json(scores), allow_nan=False))
    first = found["rows"][0]
    assert (first["system"], first["field"], first["cer"]["total"]) == ("base", "text", 36)
    assert found["rows"][-1]["failed"] == ["u0"]
    assert found["bootstrap"] == {"rounds": 200, "seed": 4}
    assert summary(scores.rows[0]).startswith("base (LLM only): CER 47.22 WER")


def test_a_pipe_in_a_name_does_not_break_the_table():
    systems = [System("a|b", Path("a"), {"u": {"key": "u", "text": "x"}})]
    text = page(score(systems, {"u": Utterance("x", 1.0)}, rounds=2), "T", [], [])
    assert "| a\\|b | **text** | **0.00** [0.00, 0.00] |" in text
