"""Questions about error rates are answered from scores.json, with chance and aims."""

from __future__ import annotations

import pytest

from nest_ssl.report.answer import Aims
from nest_ssl.report.answers_scores import cer_change, conditions, keywords, rates
from nest_ssl.report.scores_file import ScoredSet
from tests.report.experiments import gain, rate, score_row


def scores(*rows, **more):
    return {"rows": list(rows), **more}


def three(p: float = 0.0001, last: float = 0.30):
    return scores(
        score_row("base", 0.50),
        score_row("encoder", 0.40, step=gain("base", 0.2, 0.0001), gain=gain("base", 0.2, 0.0001)),
        {**score_row("encoder", 0.9), "field": "text_ctc"},
        score_row("lora", last, step=gain("encoder", 0.25, p), gain=gain("base", 1 - last / 0.5, p)),
    )


def test_each_stage_is_judged_against_the_one_before():
    answer = cer_change(three(p=0.2), None)
    assert (
        answer.answer
        == "50.00 % (base) -> 30.00 % (lora): 40.0 % lower [38.0, 42.0], p 0.200, which may be chance."
    )
    assert answer.verdict == "within chance"
    assert answer.details == [
        "encoder after base: 50.00 % -> 40.00 %, 20.0 % lower [18.0, 22.0], p < 0.001: it helps",
        "lora after encoder: 40.00 % -> 30.00 %, 25.0 % lower [23.0, 27.0], p 0.200: within chance",
    ]


def test_a_stage_that_harms_is_said_to():
    worse = scores(score_row("base", 0.4), score_row("lora", 0.5, step=gain("base", -0.25, 0.001)))
    assert cer_change(worse, None).details[0].endswith("25.0 % higher [-27.0, -23.0], p 0.001: it harms")


@pytest.mark.parametrize(
    ("p", "last", "verdict"), [(0.01, 0.3, "met"), (0.01, 0.6, "not met"), (0.5, 0.3, "within chance")]
)
def test_without_an_aim_the_verdict_is_whether_it_fell(p, last, verdict):
    assert cer_change(three(p, last), None).verdict == verdict


@pytest.mark.parametrize(("aim", "verdict"), [(0.40, "met"), (0.41, "not met")])
def test_the_aim_of_a_gain(aim, verdict):
    assert cer_change(three(), aim).verdict == verdict


def test_without_a_baseline_the_paired_comparison_gives_p():
    rows = score_row("base", 0.5), score_row("lora", 0.4)
    pair = {"a": "base", "b": "lora", "field": "text", "difference": -0.1, "low": -0.2, "high": 0.0}
    comparisons = [pair | {"metric": "wer", "p": 0.9}, pair | {"metric": "cer", "p": 0.03}]
    answer = cer_change(scores(*rows, comparisons=comparisons), None)
    assert "20.0 % lower, p 0.030" in answer.answer and answer.verdict == "met"
    assert cer_change(scores(*rows), None).verdict == ""


def test_one_system_and_no_scores_are_said():
    assert "one system, base" in cer_change(scores(score_row("base", 0.5)), None).answer
    for answer in (cer_change(None, None), rates(None, Aims()), keywords(None), conditions(None)):
        assert answer.verdict == "unknown" and answer.answer == "No system has been scored yet."


def test_rates_are_of_the_last_system_and_lost_utterances_are_said():
    found = scores(
        score_row("base", 0.5, failed=["u1"], missing=["u2", "u3"]), score_row("lora", 0.3, kwer=rate(0.2))
    )
    answer = rates(found, Aims(cer=0.30, wer=0.2))
    assert answer.verdict == "not met"
    assert answer.answer.startswith("lora: CER 30.00 % [29.00, 31.00] (aim: 30 % or less, met), WER 30.00 %")
    assert "KWER 20.00 % [19.00, 21.00]." in answer.answer
    assert answer.details[0].endswith("3 utterances failed or missing, counted as deleted")
    assert rates(found, Aims(cer=0.30)).verdict == "met" and rates(found, Aims()).verdict == ""


def test_a_rate_without_units_is_left_out():
    nothing = {"rate": None, "errors": 0, "total": 0, "low": None, "high": None}
    empty = score_row("lora", 0.3) | {"cer": nothing, "wer": nothing}
    assert rates(scores(empty), Aims(cer=0.1)).answer == "The references are empty."


def test_keywords_by_domain_with_what_was_before():
    before = {"kwer": rate(0.4), "recall": 0.5, "precision": None}
    after = {"kwer": rate(0.2), "recall": 0.75, "precision": 0.9, "false_per_hour_silence": 1.5}
    found = scores(
        score_row("base", 0.5, kwer=rate(0.4), keywords={"bank": before}),
        score_row("lora", 0.3, kwer=rate(0.2), keywords={"bank": after, "none": {"kwer": {"rate": None}}}),
    )
    answer = keywords(found)
    assert answer.answer == "KWER 20.00 % (lora), before 40.00 % (base)."
    assert answer.details == [
        "bank: KWER 20.0 % (before 40.0 %), recall 75.0 % (before 50.0 %), precision 90.0 %, "
        "1.5 false an hour of silence",
        "none: none of its keywords is said",
    ]


def cell(share: float, utterances: int) -> dict:
    return {"utterances": utterances, "cer": rate(share)}


def test_conditions_with_few_utterances_are_not_named_as_the_largest():
    before = {"codec": {"gsm": cell(0.6, 40), "g711a": cell(0.3, 50), "amr": cell(0.9, 3)}}
    after = {
        "codec": {"gsm": cell(0.4, 40), "g711a": cell(0.35, 50), "amr": cell(0.1, 3), "new": cell(0.1, 99)}
    }
    answer = conditions(
        scores(score_row("base", 0.5, conditions=before), score_row("lora", 0.4, conditions=after))
    )
    assert answer.answer == (
        "Most in codec gsm: CER 60.00 % -> 40.00 % on 40 utterances; "
        "it harmed most in codec g711a: CER 30.00 % -> 35.00 % on 50 utterances."
    )
    assert [detail.split(":")[0] for detail in answer.details] == ["codec gsm", "codec g711a", "codec amr"]


def test_conditions_that_nobody_states_are_no_conditions():
    both = {"codec": {"not stated": cell(0.3, 99)}}
    found = scores(score_row("base", 0.5, conditions=both), score_row("lora", 0.4, conditions=both))
    assert conditions(found).answer.startswith("It cannot be told")
    assert (
        conditions({**found, "same_for_all": {"lang": "en"}}).answer == "All utterances are alike: lang en."
    )


def test_an_overlap_of_intervals_is_said():
    before, after = {"snr": {"low": cell(0.300, 40)}}, {"snr": {"low": cell(0.295, 40)}}
    answer = conditions(
        scores(score_row("base", 0.5, conditions=before), score_row("lora", 0.4, conditions=after))
    )
    assert answer.answer.endswith("on 40 utterances, intervals overlap; it harmed nowhere.")


@pytest.mark.parametrize(("against", "told"), [("base", ", p 0.012"), ("control", "")])
def test_p_of_a_condition_is_that_of_the_scores_against_the_same_system(against, told):
    before = {"codec": {"gsm": cell(0.5, 40)}}
    after = {"codec": {"gsm": cell(0.4, 40) | {"against": against, "p": 0.012}}}
    found = scores(score_row("base", 0.5, conditions=before), score_row("lora", 0.4, conditions=after))
    assert conditions(found).details == [f"codec gsm: CER 50.00 % -> 40.00 % on 40 utterances{told}"]


def test_of_many_conditions_the_ends_are_listed_and_large_ones_named():
    values = {f"s{i:02d}": i for i in range(30)}
    before = {"speaker": {name: cell(0.5, 40 if i == 15 else 2) for name, i in values.items()}}
    after = {"speaker": {name: cell(0.3 + 0.01 * i, 40 if i == 15 else 2) for name, i in values.items()}}
    answer = conditions(scores(score_row("a", 0.5, conditions=before), score_row("b", 0.4, conditions=after)))
    assert answer.answer.startswith("Most in speaker s15: CER 50.00 % -> 45.00 %")
    names = [detail.split(":")[0] for detail in answer.details]
    few = [*range(8), *range(23, 30)]
    assert names == ["speaker s15", *(f"speaker s{i:02d}" for i in few), "14 more conditions"]


def test_conditions_of_all_test_sets_count_and_are_told_with_their_set():
    real = {"duration": {"short": cell(0.5, 40)}}, {"duration": {"short": cell(0.4, 40)}}
    better = cell(0.3, 35) | {"against": "base", "p": 0.0004}
    calls = {"codec": {"amr": cell(0.6, 35)}}, {"codec": {"amr": better}}
    main, other = (
        scores(score_row("base", 0.5, conditions=before), score_row("lora", 0.4, conditions=after), **more)
        for (before, after), more in ((real, {}), (calls, {"same_for_all": {"lang": "en"}}))
    )
    answer = conditions(main, [ScoredSet("simulated", other)])
    assert answer.answer == (
        "Most in simulated: codec amr: CER 60.00 % -> 30.00 % on 35 utterances, p < 0.001; "
        "it harmed nowhere; least in main: duration short: CER 50.00 % -> 40.00 % on 40 utterances."
    )
    assert answer.details[-1] == "the same for all of simulated: lang en"
    alone = conditions(None, [ScoredSet("simulated", other)])
    assert alone.answer.startswith("Most in simulated: codec amr")


def test_errors_after_none_are_told_in_points():
    worse = scores(
        score_row("base", 0.0),
        score_row("lora", 0.1, step={"against": "base", "gain": None, "p_value": 0.001}),
    )
    answer = cer_change(worse, 0.1)
    assert "0.00 % (base) -> 10.00 % (lora): 10.00 points higher" in answer.answer
    assert answer.verdict == "not met"
    assert answer.details[0].endswith("10.00 points higher, p 0.001: it harms")


def test_what_further_sets_say_does_not_decide():
    main = scores(score_row("base", 0.5), score_row("lora", 0.4, gain=gain("base", 0.2, 0.01)))
    other = scores(score_row("base", 0.6), score_row("lora", 0.9, gain=gain("base", -0.5, 0.6)))
    further = [ScoredSet("simulated", other)]
    change = cer_change(main, None, further)
    assert change.verdict == "met"
    assert change.details[-1] == (
        "on the test set simulated: 60.00 % (base) -> 90.00 % (lora): 50.0 % higher [-52.0, -48.0], p 0.600, "
        "which may be chance"
    )
    told = rates(main, Aims(cer=0.45), further)
    assert told.verdict == "met"
    assert told.details[-1].startswith("simulated, lora: CER 90.00 %")
