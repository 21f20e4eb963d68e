"""conf/nest_fast-conformer.yaml has NeMo's keys and values, and gives NeMo's Large model."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.golden.cases import SAMPLE


@pytest.fixture(scope="module")
def config(checkout):
    return OmegaConf.load(checkout / "conf" / "nest_fast-conformer.yaml")


def flattened(section, prefix=""):
    """Lines `dotted.key value`, the value as JSON."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key} {json.dumps(value)}"


def test_keys_and_values_are_nemos_in_its_order(config):
    ours = list(flattened(OmegaConf.to_container(config, resolve=False)))
    assert ours == (SAMPLE / "nest_fast-conformer.values.txt").read_text().splitlines()


def test_keys_and_values_are_those_recorded(config, goldens):
    path = goldens.parent / "spec" / "nest_fast-conformer.values.json"
    if not path.is_file():
        pytest.skip(f"no recorded values at {path}")
    assert json.dumps(OmegaConf.to_container(config, resolve=False)) == json.dumps(
        json.loads(path.read_text())
    )


def test_state_dict_of_large_is_nemos(config, goldens):
    path = goldens.parent / "spec" / "nest_large_state_dict.json"
    if not path.is_file():
        pytest.skip(f"no recorded state dict at {path}")
    with torch.device("meta"):
        state = EncDecDenoiseMaskedTokenPredModel(config.model).state_dict()
    ours = [[key, [list(tensor.shape), str(tensor.dtype)]] for key, tensor in state.items()]
    assert ours == [list(item) for item in json.loads(path.read_text()).items()]
