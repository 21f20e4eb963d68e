"""The whole model against NeMo: every case of the reference set that this version builds."""

import pytest

from tests.golden import cases

EVALUATED = [
    "base",
    "books2",
    "squeeze_single",
    "noxscale_nobias",
    "dw_striding4",
    "default_dropout_eval",
    "short_audio",
    "no_overlap",
    "xpos_len_extend",
    "sdpa",
]
TRAINED = ["base", "books2", "squeeze_single", "noxscale_nobias", "dw_striding4", "no_overlap", "sdpa"]


@pytest.mark.parametrize("name", [*EVALUATED, "no_mask_nan"])
def test_forward_is_nemos(goldens, name):
    cases.check_evaluation(cases.load_case(goldens / "nemo", name))


@pytest.mark.parametrize("name", EVALUATED)
def test_validation_loss_is_nemos(goldens, name):
    cases.check_validation_loss(cases.load_case(goldens / "nemo", name))


@pytest.mark.parametrize("through_forward", [True, False], ids=["forward", "training_loss"])
@pytest.mark.parametrize("name", TRAINED)
def test_loss_gradients_and_statistics_are_nemos(goldens, name, through_forward):
    cases.check_training(cases.load_case(goldens / "nemo", name), through_forward)


@pytest.mark.parametrize("name", EVALUATED)
def test_a_seed_gives_nemos_initial_weights(goldens, name):
    cases.check_initial_weights(cases.load_case(goldens / "nemo", name))


def test_six_steps_are_nemos(goldens):
    cases.check_trajectory(cases.load_case(goldens / "nemo", "base"))
