"""The encoder alone against NeMo's results: every option of it that the reference set has."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.conformer_encoder import ConformerEncoder

CASES = (
    *("base", "abs_pos", "local_attn", "local_attn_global", "tied_biases", "sdpa", "noxscale_nobias"),
    *("att_limited", "att_chunked", "att_chunked_unlim_left", "conv_layer_norm", "conv_group_norm"),
    *("dw_striding4", "striding4", "stacking4", "stacking_norm8", "sub1_linear", "causal_down"),
    *("reduction_pool", "feat_out", "xpos_len_extend", "short_audio"),
)
CLOSE = {"rtol": 0.0, "atol": 1e-5}
CLOSE_IN_TRAINING = {"rtol": 0.0, "atol": 2e-5}  # batch statistics magnify rounding


def options(section):
    return {key: value for key, value in OmegaConf.to_container(section).items() if key[0] != "_"}


@pytest.mark.parametrize("name", CASES)
def test_encoder_gives_nemos_numbers(goldens, name):
    folder = goldens / "nemo" / name
    config, meta = OmegaConf.load(folder / "config.yaml"), json.loads((folder / "meta.json").read_text())
    expected, state = load_file(folder / "tensors.safetensors"), load_file(folder / "state_dict.safetensors")
    waves = expected
    if "noisy_signal" not in expected:
        waves = load_file(goldens / "nemo" / meta["waves"] / "tensors.safetensors")
    front_end = AudioToMelSpectrogramPreprocessor(**options(config.preprocessor)).eval()
    features, length = front_end(input_signal=waves["noisy_signal"].clone(), length=waves["input_length"])
    encoder = ConformerEncoder(**options(config.encoder))
    names = [key for key in meta["state_dict_keys"] if key.startswith("encoder.")]
    assert [f"encoder.{key}" for key in encoder.state_dict()] == names
    encoder.load_state_dict({key.removeprefix("encoder."): state[key] for key in names})
    embedding = state["mask_processor.mask_embedding"][None, :, None]

    masked = torch.where(expected["mask"][:, None].bool(), embedding, features)
    encoded, encoded_length = encoder.eval()(masked, length)
    torch.testing.assert_close(encoded, expected["encoded"], **CLOSE)
    assert torch.equal(encoded_length, expected["encoded_len"])
    if "train.encoded" in expected:
        masked = torch.where(expected["train.mask"][:, None].bool(), embedding, features)
        encoded, _ = encoder.train()(masked, length)
        torch.testing.assert_close(encoded, expected["train.encoded"], **CLOSE_IN_TRAINING)
