import math

import pytest

from nest_ssl.decoding.fun_asr_joint import Candidate, JointWeights, tune


def errors(reference: str, hypothesis: str) -> tuple[int, int]:
    return sum(a != b for a, b in zip(reference, hypothesis, strict=True)), len(reference)


RIGHT_BY_CTC = ([Candidate("ab", -9.0, -1.0, 2), Candidate("xy", -1.0, -3.0, 2)], "ab")  # from w = 0.8 on
RIGHT_BY_LLM = ([Candidate("cd", -1.0, -9.0, 2), Candidate("xy", -3.0, -8.0, 2)], "cd")  # up to w = 0.65


def test_score_is_the_weighted_sum():
    candidate = Candidate("ab", -10.0, -2.0, 3)
    assert JointWeights(0.75, 0.5).score(candidate) == pytest.approx(0.75 * -2.0 + 0.25 * -10.0 + 1.5)


@pytest.mark.parametrize("weight, best", [(0.0, "xy"), (0.75, "xy"), (0.85, "ab"), (1.0, "ab")])
def test_the_weight_decides(weight, best):
    assert JointWeights(weight).best(RIGHT_BY_CTC[0]).text == best


def test_a_part_that_does_not_count_may_be_missing():
    candidates = [Candidate("ab", None, -5.0), Candidate("xy", -1.0, -math.inf)]
    assert JointWeights(1.0).best(candidates).text == "ab"
    assert JointWeights(0.0).best(candidates).text == "xy"


def test_where_ctc_says_all_is_impossible_the_language_model_chooses():
    candidates = [Candidate("ab", -5.0, -math.inf), Candidate("xy", -1.0, -math.inf)]
    assert JointWeights(0.7).best(candidates).text == "xy"


@pytest.mark.parametrize("weight", [-0.1, 1.5, math.nan])
def test_other_weights_are_refused(weight):
    with pytest.raises(ValueError, match="0 to 1"):
        JointWeights(weight)


def test_tuning_takes_the_middle_of_the_best_weights():
    found = tune([RIGHT_BY_LLM], errors)  # right up to 0.65
    assert (found.weights, found.errors) == (JointWeights(0.3), 0)
    found = tune([RIGHT_BY_CTC], errors)
    assert (found.weights.ctc_weight, found.errors) == (0.9, 0)


def test_tuning_counts_the_errors_of_every_weight():
    found = tune([RIGHT_BY_CTC, RIGHT_BY_LLM], errors)
    assert found.by_weight[0.0] == 2 and found.by_weight[0.7] == 4 and found.by_weight[1.0] == 2
    assert found.as_dict()["cer"] == pytest.approx(0.5)


def test_a_length_bonus_is_taken_only_where_it_helps():
    short = [Candidate("x", -1.0, -1.0, 1), Candidate("ab", -1.4, -1.4, 2)]
    assert tune([(short, "x")], lambda r, h: (int(r != h), 1)).weights.length_bonus == 0.0
    assert tune([(short, "ab")], lambda r, h: (int(r != h), 1)).weights.length_bonus == 0.5


def test_candidates_survive_a_row():
    candidate = Candidate("ab", -1.5, None, 2, "ctc")
    assert Candidate.from_row(candidate.as_row()) == candidate
