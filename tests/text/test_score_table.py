"""The page of scores: a row for each system and output, and everything that was counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nest_ssl.text.hypotheses import System, Utterance
from nest_ssl.text.keywords import KeywordLists, Keywords
from nest_ssl.text.score_json import as_json, utterance_rows
from nest_ssl.text.score_table import page, score_lines, summary
from nest_ssl.text.scores import Scores
from nest_ssl.text.scoring import score


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
    text = page(as_json(scores), "Results of a test", ["* `made so`"])
    assert text.startswith("# Results of a test\n")
    row = table_rows(text, "lora")[0]
    # u0 and u1 are deleted: 18 of 36 characters, 4 of 8 words, 8 of 16 keyword characters
    assert row[1] == "**LLM only**" and [cell.split()[0] for cell in row[2:5]] == ["**50.00**"] * 3
    rate = scores.rows[0].rates["cer"]
    assert rate.errors == 2 * 4 + len("cord hare") and rate.total == 36
    base = table_rows(text, "base")[0]
    assert base[2].startswith(f"**{100 * rate.rate:.2f}** [{100 * rate.low:.2f}, {100 * rate.high:.2f}]")
    assert base[6] == "-"
    assert row[6].startswith(f"{100 * (1 - 18 / rate.errors):.2f} [") and row[6].endswith("over base")
    assert "base has no text_ctc in its rows" in text


def test_what_was_counted_is_on_the_page(scores):
    text = page(as_json(scores), "T", ["* `made so`"])
    assert "5 utterances, 2.0 min of audio (1 utterances state no duration), 36 reference characters" in text
    assert "8 reference words; 1 references are empty" in text
    assert "1 keywords stand 4 times in the references, with 16 characters" in text
    assert table_rows(text, "lora")[-1] == ["lora", "LLM only", "1", "1", "0", "1"]
    assert "lora: failed or missing: `u0`, `u1`" in text
    for word in ("200 draws", "seed 4", "* `made so`"):
        assert word in text


def test_the_figures_for_programs_are_json_without_nan(scores):
    found = json.loads(json.dumps(as_json(scores), allow_nan=False))
    first = found["rows"][0]
    assert (first["system"], first["field"], first["cer"]["total"]) == ("base", "text", 36)
    assert found["rows"][-1]["failed"] == ["u0"]
    assert found["bootstrap"] == {
        "rounds": 200, "seed": 4, "unit": "utterance", "units": 5, "condition_rounds": 200,
    }  # fmt: skip
    assert summary(found["rows"][0]).startswith("base (LLM only): CER 47.22 WER")


def test_a_pipe_in_a_name_does_not_break_the_table():
    systems = [System("a|b", Path("a"), {"u": {"key": "u", "text": "x"}})]
    text = page(as_json(score(systems, {"u": Utterance("x", 1.0)}, rounds=2)), "T", [])
    assert "| a\\|b | **text** | **0.00** [0.00, 0.00] |" in text


@pytest.fixture
def by_condition() -> Scores:
    """Two systems on 40 utterances: a is wrong in half of the lossy ones, b in none."""
    references, rows = {}, {"a": {}, "b": {}}
    for i in range(40):
        loss = {"rate": 0.05} if i % 4 == 0 else None
        facts = {"channel": {"legs": [{"codec": "gsm_fr", "loss": loss}], "preset": "p"}, "lang": "en"}
        references[f"u{i}"] = Utterance("ab", 360.0, facts if i else {"lang": "en"})
        wrong = i % 8 == 0
        rows["a"][f"u{i}"] = {"key": f"u{i}", "text": "xy" if wrong else "ab"}
        rows["b"][f"u{i}"] = {"key": f"u{i}", "text": "ab"}
    systems = [System(name, Path(name), rows[name]) for name in rows]
    return score(systems, references, rounds=300)


def test_rates_are_broken_down_and_utterances_that_state_nothing_have_their_row(by_condition):
    found = json.loads(json.dumps(as_json(by_condition), allow_nan=False))
    first, second = found["rows"]
    # the first utterance, a wrong one, states no channel; 9 others are lossy, 4 of them wrong
    counts = {
        value: (g["utterances"], g["cer"]["errors"]) for value, g in first["conditions"]["loss"].items()
    }
    assert counts == {"none": (30, 0), "3 to 10 %": (9, 8), "not stated": (1, 2)}
    assert list(first["conditions"]) == ["codec", "loss", "preset"]
    lossy = first["conditions"]["loss"]["3 to 10 %"]
    assert (lossy["hours"], lossy["few"], lossy["cer"]["total"]) == (pytest.approx(0.9), True, 18)
    assert lossy["cer"]["low"] < lossy["cer"]["rate"] == 8 / 18 < lossy["cer"]["high"]
    assert not first["conditions"]["loss"]["none"]["few"]
    for condition in first["conditions"].values():
        assert sum(group["cer"]["errors"] for group in condition.values()) == first["cer"]["errors"] == 10
        assert sum(group["utterances"] for group in condition.values()) == 40
    assert second["conditions"]["loss"]["3 to 10 %"]["cer"]["rate"] == 0
    assert found["same_for_all"] == {"lang": "en", "duration": "20 s or more"}
    text = "\n".join(score_lines(found))
    assert "| 3 to 10 % | 9* | 0.90 | a | 44.44 [" in text
    assert (lossy.get("against"), second["conditions"]["loss"]["3 to 10 %"]["p"]) == (None, None)  # few
    assert second["conditions"]["loss"]["none"] == first["conditions"]["loss"]["none"] | {
        "against": "a", "p": 1.0,
    }  # fmt: skip
    assert "|  |  |  | b | 0.00 [0.00, 0.00] | 0.00 [0.00, 0.00] | 1.0000 against a |" in text
    assert "The same for all utterances: lang: en, duration: 20 s or more." in text


def test_systems_are_compared_in_pairs_both_ways(by_condition):
    found = as_json(by_condition)
    cer = next(one for one in found["comparisons"] if one["metric"] == "cer")
    assert (cer["a"], cer["b"], cer["field"]) == ("a", "b", "text")
    assert cer["difference"] == pytest.approx(-10 / 80)
    assert cer["low"] <= cer["difference"] <= cer["high"] <= 0
    assert cer["p_permutation"] == 2 / 32  # 5 utterances differ, all in favour of b: 2 of 32 ways to swap
    assert "| a | b | -12.50 [" in "\n".join(score_lines(found))


def test_keywords_of_each_domain_are_counted_with_false_ones_an_hour():
    references = {
        "said": Utterance("card please", 1800.0),
        "other": Utterance("hello", 3600.0),
        "silence": Utterance("", 7200.0),
        "unknown": Utterance("", None),
    }
    texts = {"said": "cart please", "other": "card pin", "silence": "pin pin", "unknown": "pin"}
    system = System("a", Path("a"), {key: {"key": key, "text": text} for key, text in texts.items()})
    lists = KeywordLists({"pay": Keywords(["card"]), "code": Keywords(["pin"])})
    found = as_json(score([system], references, keywords=lists, rounds=20))
    assert found["domains"] == ["all", "pay", "code"]
    assert found["keywords"] == {"all": ["card", "pin"], "pay": ["card"], "code": ["pin"]}
    row = found["rows"][0]
    # one of four characters is wrong; false: card once (4), pin four times (3 each)
    assert (row["kwer"]["errors"], row["kwer"]["total"]) == (1 + 4 + 12, 4)
    assert row["keywords"]["all"]["kwer"] == row["kwer"]
    pay = row["keywords"]["pay"]
    assert (pay["kwer"]["errors"], pay["recall"], pay["precision"], pay["f1"]) == (5, 0.0, 0.0, 0.0)
    code = row["keywords"]["code"]
    assert (code["kwer"]["rate"], code["recall"], code["false"]) == (None, None, 4)
    # no "pin" is said in 1.5 h of speech, nothing in 2 h; the utterance without a duration is in neither
    assert code["false_per_hour_without_keywords"] == pytest.approx(1 / 1.5)
    assert code["false_per_hour_silence"] == pytest.approx(2 / 2)
    assert code["without_duration"] == 1
    assert (
        "| a | code | no units | - | 0.00 | 0.00 | 0 | 4 | 4 | 0.7 (1.50 h) | 1.0 (2.00 h) |"
        in score_lines(found)
    )


def test_rows_of_utterances_hold_alignments_whose_parts_are_the_texts(scores):
    rows = list(utterance_rows(scores))
    assert len(rows) == 10 and {row["system"] for row in rows} == {"base", "lora"}
    for row in rows:
        for part, text in ((1, "reference"), (2, "hypothesis")):
            assert "".join(edit[part] for edit in row["edits"]) == row[text]
        wrong = sum(max(len(said), len(heard)) for kind, said, heard in row["edits"] if kind != "equal")
        assert (row["errors"], row["characters"]) == (wrong, len(row["reference"]))
    first = rows[0]
    assert (first["key"], first["duration"], first["conditions"]) == (
        "u0",
        30.0,
        {"duration": "20 s or more"},
    )
    assert first["keywords"] == {"expected": ["card"], "missed": ["card"], "false": []}
    lost = {row["key"]: row["error"] for row in rows if row["system"] == "lora" and "error" in row}
    assert lost == {"u0": "unreadable", "u1": "missing"}
