"""Fun-ASR models on disk: what is saved is what is loaded, with its provenance; means of states."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="the language model is transformers'")

from nest_ssl.checkpoints.funasr_dir import read_weights
from nest_ssl.models.fun_asr_files import average, save_pretrained, with_provenance
from nest_ssl.models.fun_asr_nano import FunASRNano
from tests.fun_asr_tiny import make_model_dir


def same(model: FunASRNano, other: FunASRNano) -> bool:
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("encoder", ["sanm", "conformer"])
@pytest.mark.parametrize("ctc", [True, False], ids=["ctc", "no_ctc"])
def test_a_saved_model_is_loaded_alike(tmp_path, encoder, ctc):
    base = make_model_dir(tmp_path / "base", encoder, ctc)
    model = FunASRNano.from_pretrained(base)
    out = save_pretrained(model, tmp_path / "out", stage="encoder", base=base, step=7)
    loaded = FunASRNano.from_pretrained(out)
    assert same(model, loaded)
    assert (loaded.ctc is not None) == ctc
    assert loaded.config["nest_ssl"]["history"] == [{"stage": "encoder", "base": str(base), "step": 7}]


@pytest.fixture
def adapted(tmp_path: Path) -> FunASRNano:
    pytest.importorskip("peft", reason="adapters are peft's")
    base = make_model_dir(tmp_path / "base")
    model = FunASRNano.from_pretrained(base, overrides=["++llm_conf.use_lora=true"])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.5, generator=generator)
    return model


def hidden(model: FunASRNano) -> torch.Tensor:
    with torch.no_grad():
        return model.llm(input_ids=torch.arange(1, 20)[None]).logits


def test_adapters_are_saved_apart_and_folded_with_the_same_outputs(adapted, tmp_path):
    apart = save_pretrained(adapted, tmp_path / "apart", stage="lora")
    folded = save_pretrained(adapted, tmp_path / "folded", stage="lora", merge_lora=True)
    loaded, merged = FunASRNano.from_pretrained(apart), FunASRNano.from_pretrained(folded)
    assert loaded.config["llm_conf"]["use_lora"] is True
    assert merged.config["llm_conf"]["use_lora"] is False
    assert same(adapted, loaded)
    assert not [key for key in merged.state_dict() if "lora" in key]
    torch.testing.assert_close(hidden(merged), hidden(loaded), rtol=1e-4, atol=1e-4)
    plain = FunASRNano.from_pretrained(tmp_path / "base")
    assert (hidden(plain) - hidden(merged)).abs().max() > 0.1, "the adapters do something"


def test_another_state_can_be_saved(tmp_path):
    base = make_model_dir(tmp_path / "base")
    model = FunASRNano.from_pretrained(base)
    other = {key: value + 1 for key, value in model.state_dict().items()}
    out = save_pretrained(model, tmp_path / "out", state=other)
    assert all(torch.equal(value, other[key]) for key, value in read_weights(out / "model.pt").items())


def test_history_grows_by_a_record_per_stage():
    config = with_provenance({"model": "FunASRNano"}, "encoder", "/base", 10)
    config = with_provenance(config, "adaptor", "/exp/encoder", None)
    assert config["nest_ssl"] == {
        "stage": "adaptor",
        "base": "/exp/encoder",
        "history": [
            {"stage": "encoder", "base": "/base", "step": 10},
            {"stage": "adaptor", "base": "/exp/encoder"},
        ],
    }
    assert with_provenance({"model": "FunASRNano"}, None, None, None) == {"model": "FunASRNano"}


# ---------------------------------------------------------------------- averages


def test_the_mean_is_exact_in_the_dtype_of_the_first(tmp_path):
    states = [{"w": torch.full((3,), value), "n": torch.tensor(int(value))} for value in (1.0, 2.0, 6.0)]
    torch.save({"state_dict": states[2]}, tmp_path / "model.pt.ep3")
    mean = average([states[0], states[1], tmp_path / "model.pt.ep3"])
    assert torch.equal(mean["w"], torch.full((3,), 3.0))
    assert mean["w"].dtype == torch.float32
    assert int(mean["n"]) == 6, "a count is the last one"
    assert torch.equal(states[0]["w"], torch.ones(3)), "nothing that was given is changed"


def test_the_mean_of_bf16_is_rounded_once():
    # 1 + 1/128 is the next number of bf16 after 1: the mean of 1, 1, 1 + 1/128 is nearer to 1.
    values = (1.0, 1.0, 1.0 + 1 / 128)
    mean = average([{"w": torch.tensor([value], dtype=torch.bfloat16)} for value in values])
    assert (mean["w"].item(), mean["w"].dtype) == (1.0, torch.bfloat16)


def test_what_cannot_be_averaged_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing to average"):
        average([])
    with pytest.raises(ValueError, match=r"state 2 and state 1 cannot be averaged: 1 tensors .* first v"):
        average([{"w": torch.ones(1)}, {"w": torch.ones(1), "v": torch.ones(1)}])
    with pytest.raises(ValueError, match="first w"):
        average([{"w": torch.ones(1)}, {"w": torch.ones(2)}])
