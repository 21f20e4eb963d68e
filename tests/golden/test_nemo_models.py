"""The whole model against NeMo: every case of the reference set."""

import pytest

from tests.golden import cases

# One case per option: configuration, weights, two waveforms, and what NeMo made of them.
EVALUATED = (
    *("abs_pos", "att_chunked", "att_chunked_unlim_left", "att_limited", "base", "books2", "conv_group_norm"),
    *("conv_layer_norm", "cosine_FLOAT", "default_dropout_eval", "dw_striding4", "feat_out", "local_attn"),
    *("local_attn_global", "mtp_post_conv", "mtp_pre_conv", "no_overlap", "noxscale_nobias"),
    *("post_conv_denoise_FIXED", "reduction_pool", "sdpa", "short_audio", "squeeze_single", "stacking4"),
    *("stacking_norm8", "striding4", "sub1_linear", "tied_biases", "xpos_len_extend"),
)
NOT_TRAINED = (  # NeMo was run in evaluation only
    *("default_dropout_eval", "local_attn_global", "reduction_pool", "short_audio", "sub1_linear"),
    "xpos_len_extend",
)
TRAINED = tuple(name for name in EVALUATED if name not in NOT_TRAINED)
STARTED = tuple(name for name in EVALUATED if name != "cosine_FLOAT")  # whose codes were cast afterwards
# Cases without a loss: nothing is masked, or the decoder has a frame more than the mask.
WITHOUT_LOSS = ("no_mask_nan", "causal_down")


def test_every_case_is_run(goldens):
    folders = {path.parent.name for path in (goldens / "nemo").glob("*/state_dict.safetensors")}
    contrastive = {name for name in folders if name.startswith("ssl_contrastive")}  # test_nemo_contrastive.py
    assert folders - contrastive == {*EVALUATED, *WITHOUT_LOSS}


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


@pytest.mark.parametrize("name", STARTED)
def test_a_seed_gives_nemos_initial_weights(goldens, name):
    cases.check_initial_weights(cases.load_case(goldens / "nemo", name))


def test_six_steps_are_nemos(goldens):
    cases.check_trajectory(cases.load_case(goldens / "nemo", "base"))


def test_causal_downsampling_is_nemos_up_to_the_loss(goldens):
    cases.check_without_loss(cases.load_case(goldens / "nemo", "causal_down"))
