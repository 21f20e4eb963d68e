"""Error rates of scores.json as figures."""

import re

from nest_ssl.report.plots import styles_of
from nest_ssl.report.score_figures import (
    MOST_VALUES,
    condition_figures,
    conditions_of,
    keyword_rows,
    other_outputs,
    pairs_of,
    rate_figures,
    rate_text,
)
from tests.report.experiments import rate, score_row

STYLES = styles_of(["base", "lora"])


def group(cer: float, utterances: int = 40, few: bool = False) -> dict:
    return {"utterances": utterances, "few": few, "cer": rate(cer)}


def scores(values: int = 2) -> dict:
    codecs = {f"codec{n}": group(0.1 * (n + 1), few=n == 1) for n in range(values)}
    rows = [
        score_row(name, cer, conditions={"codec": codecs}) for name, cer in (("base", 0.5), ("lora", 0.25))
    ]
    return {"rows": rows}


def test_each_rate_has_a_bar_for_each_system():
    figures = {figure.caption: figure.svg for figure in rate_figures(scores(), STYLES)}
    assert figures["CER by stage"].count("<rect") == 2
    assert "25.0 %" in figures["CER by stage"]


def test_other_outputs_are_apart():
    found = scores()
    found["rows"].append({**score_row("lora", 0.7), "field": "text_llm", "kind": "LLM only"})
    assert [figure.caption for figure in other_outputs(found, STYLES)] == ["CER, LLM only"]
    assert rate_figures(found, STYLES)[0].svg.count("<rect") == 2


def test_a_condition_has_a_point_for_each_value_and_system():
    [figure] = condition_figures(scores(), STYLES)
    assert figure.svg.count("<circle") == 4
    assert "codec0 · 40 utt." in figure.svg
    assert "codec1 · 40 utt. *" in figure.svg


def test_of_many_values_the_figure_has_the_largest():
    found = scores(MOST_VALUES + 1)
    for row in found["rows"]:
        row["conditions"]["codec"]["codec3"]["utterances"] = 1
    [figure] = condition_figures(found, STYLES)
    assert "codec3 " not in figure.svg
    assert f"codec{MOST_VALUES} " in figure.svg


def test_of_many_values_the_figure_has_some_and_says_so():
    [figure] = condition_figures(scores(MOST_VALUES + 3), STYLES)
    assert figure.svg.count("<circle") == 2 * MOST_VALUES
    assert f"the {MOST_VALUES} largest of {MOST_VALUES + 3} groups" in figure.note
    assert len(conditions_of(scores(MOST_VALUES + 3))["codec"]) == MOST_VALUES + 3


def test_scores_of_before_have_no_conditions():
    assert condition_figures({"rows": [{**score_row("base", 0.5), "conditions": None}]}, STYLES) == []
    assert rate_figures({}, STYLES) == []


def test_keywords_have_a_row_for_each_domain():
    row = score_row("lora", 0.5) | {"keywords": {"all": {"kwer": rate(0.4), "recall": 0.5}, "menu": {}}}
    rows = keyword_rows({"rows": [row]})
    assert [(r["domain"], r["kwer"], r.get("recall")) for r in rows] == [
        ("all", 0.4, 0.5),
        ("menu", None, None),
    ]


def test_pairs_gather_the_rates_of_two_systems():
    one = {"a": "base", "b": "lora", "field": "text", "difference": -0.1}
    rows = [{**one, "metric": "cer"}, {**one, "metric": "wer"}, {**one, "metric": "cer", "field": "text_llm"}]
    assert {pair: list(found) for pair, found in pairs_of({"comparisons": rows}).items()} == {
        ("base", "lora"): ["cer", "wer"]
    }


def test_rates_are_written_in_per_cent_with_their_interval():
    assert rate_text({"rate": 0.62167, "low": 0.5934, "high": 0.6514}) == "62.2 [59.3, 65.1]"
    assert rate_text({"rate": None}) == rate_text(None) == "–"
    assert not re.search(r"-0\.0", rate_text({"rate": -0.0001, "low": -0.0002, "high": 0.1}))
