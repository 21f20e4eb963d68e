"""The committed part of the reference set: exactness of the whole model, without the shared folder."""

import pytest
import torch

from nest_ssl.models.ssl_models import EncDecMaskedTokenPredModel
from tests.golden import cases
from tests.golden.make_nemo_sample import OPTIONS


@pytest.fixture(scope="module")
def case():
    return cases.load_case(cases.SAMPLE, "base")


def test_forward_is_nemos(case):
    cases.check_evaluation(case)


def test_validation_loss_is_nemos(case):
    cases.check_validation_loss(case)


@pytest.mark.parametrize("through_forward", [True, False], ids=["forward", "training_loss"])
def test_loss_gradients_and_statistics_are_nemos(case, through_forward):
    cases.check_training(case, through_forward)


def test_a_seed_gives_nemos_initial_weights(case):
    cases.check_initial_weights(case)


def test_six_steps_are_nemos(case):
    cases.check_trajectory(case)


def test_features_are_nemos(case):
    features, _ = case.model().preprocessor(
        input_signal=case.waves["input_signal"].clone(), length=case.waves["input_length"]
    )
    torch.testing.assert_close(features[0], case.tensors["mel_clean.first"], rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_nemos(name):
    case = cases.load_case(cases.SAMPLE, name)
    cases.check_evaluation(case)
    cases.check_training(case, through_forward=False)
    cases.check_initial_weights(case)


def test_an_archive_of_post_conv_is_restored_right():
    model = EncDecMaskedTokenPredModel.restore_from(cases.SAMPLE / "tiny_post_conv.nemo")
    assert model.mask_processor.block_size == 3
    assert model.cfg.masking.block_size == 24
