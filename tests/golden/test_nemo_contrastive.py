"""The contrastive model against NeMo: masks, negatives, quantised targets and losses."""

import json
import random

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.checkpoints.state import load_state
from nest_ssl.models.ssl_models import SpeechEncDecSelfSupervisedModel
from tests.golden.cases import ACTIVATIONS, FEATURIZER, LOSS, SAMPLE, read_tensors

CASES = ("ssl_contrastive", "ssl_contrastive_nonmasked", "ssl_contrastive_gumbel_mlm")


@pytest.mark.parametrize("name", CASES)
def test_masks_outputs_and_losses_are_nemos(goldens, name, monkeypatch):
    check_contrastive(goldens / "nemo" / name, monkeypatch)


def test_sample_is_nemos(monkeypatch):
    check_contrastive(SAMPLE / "ssl_contrastive_gumbel_mlm", monkeypatch)


def check_contrastive(folder, monkeypatch):
    """Masks, negatives, quantised targets, decoder outputs and losses of one case in evaluation mode."""
    name = folder.name
    meta, expected = (
        json.loads((folder / "meta.json").read_text()),
        read_tensors(folder / "tensors.safetensors"),
    )
    model = SpeechEncDecSelfSupervisedModel(OmegaConf.load(folder / "config.yaml"))
    load_state(model, read_tensors(folder / "state_dict.safetensors"), name, allowed_missing=FEATURIZER)
    model.eval()
    drawn, multinomial = [], torch.multinomial
    monkeypatch.setattr(torch, "multinomial", lambda *a, **k: drawn.append(multinomial(*a, **k)) or drawn[-1])
    torch.manual_seed(meta["seed_before_forward"])
    random.seed(meta["seed_before_forward"])
    with torch.no_grad():
        spectrograms, masks, encoded, encoded_len = model(
            input_signal=expected["input_signal"], input_signal_length=expected["input_length"]
        )
        total, losses = model.decoder_loss_step(spectrograms, masks, encoded, encoded_len)
    packed = torch.from_numpy(np.packbits(masks.numpy().astype(np.uint8), axis=-1))
    assert torch.equal(packed, expected["time_feat_mask_packed"])
    assert torch.equal(encoded_len, expected["encoded_len"])
    torch.testing.assert_close(encoded, expected["encoded"], **ACTIVATIONS)
    if "spectrograms" in expected:
        torch.testing.assert_close(spectrograms, expected["spectrograms"], **ACTIVATIONS)
    assert torch.equal(drawn[0], expected["neg_idx"])
    if "target_ids" in expected:
        assert torch.equal(model.decoder_losses["contrastive"]["loss"].target_ids, expected["target_ids"])
    for loss_name, loss in losses.items():
        outputs = model.decoder_losses[loss_name]["decoder"](encoder_output=encoded)
        torch.testing.assert_close(outputs, expected[f"dec.{loss_name}"], **ACTIVATIONS)
        torch.testing.assert_close(loss, expected[f"loss.{loss_name}"].squeeze(), **LOSS)
    assert losses.keys() == meta["losses"].keys()
    torch.testing.assert_close(total, expected["total_loss"], **LOSS)
