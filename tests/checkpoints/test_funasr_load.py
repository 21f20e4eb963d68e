"""FunASR's weights into a model: all keys or a set by name, and a cause for what does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nest_ssl.checkpoints.funasr_load import load_weights, load_weights_state
from tests.fun_asr_tiny import LLM_VOCAB, LLM_WIDTH, model_state

CTC = ("ctc_decoder.", "ctc.")
LORA = {
    "llm.model.layers.0.self_attn.q_proj.lora_A": torch.ones(4, 32),
    "llm.model.layers.0.self_attn.q_proj.lora_B": torch.ones(32, 4),
}


class Keys(nn.Module):
    """A module that has the keys of a state, with zeros, and nothing else."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        self.tensors = {key: torch.zeros_like(value) for key, value in state.items()}

    def state_dict(self, *args, **kwargs):
        return self.tensors


def without(state: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.startswith(prefixes)}


def test_all_keys_are_loaded_and_told():
    state = model_state()
    model = Keys(state)
    account = load_weights_state(model, state, "model.pt")
    assert account.absent == ()
    assert all(torch.equal(model.tensors[key], value) for key, value in state.items())
    values = sum(value.numel() for value in state.values())
    told = f"weights model.pt: loaded {len(state)} tensors ({values:,} values); 0 missing; 0 unexpected"
    assert account.told().startswith(told)


def test_the_published_file_without_ctc_leaves_the_set_out_by_name():
    state = model_state()
    account = load_weights_state(Keys(state), without(state, *CTC), "model.pt")
    assert account.absent == ("ctc",)
    assert "no ctc weights" in account.told()
    with pytest.raises(ValueError, match=r"none of the .* ctc tensors, which are needed here"):
        load_weights_state(Keys(state), without(state, *CTC), "model.pt", allow=())


def test_half_a_ctc_branch_is_refused():
    state = model_state()
    with pytest.raises(ValueError, match=r"20 of the 22 ctc tensors, 2 missing: ctc\.ctc_lo\.bias"):
        load_weights_state(Keys(state), without(state, "ctc."), "model.pt")


def test_a_checkpoint_without_the_language_model_is_refused_with_cause_and_cure(tmp_path):
    state = model_state()
    torch.save({"state_dict": without(state, "llm.")}, tmp_path / "model.pt")
    torch.save({"state_dict": state}, tmp_path / "base.pt")
    with pytest.raises(ValueError, match=r"no llm\.\* tensors: .*effective_save_name_excludes.*--llm-from"):
        load_weights(Keys(state), tmp_path / "model.pt")
    model = Keys(state)
    account = load_weights(model, tmp_path / "model.pt", llm_from=tmp_path / "base.pt")
    assert account.llm_from == str(tmp_path / "base.pt")
    assert all(torch.equal(model.tensors[key], value) for key, value in state.items())
    assert load_weights(Keys(state), tmp_path / "base.pt", llm_from=tmp_path / "base.pt").llm_from is None


@pytest.mark.parametrize("prefix", ["audio_adaptor.", "audio_encoder.tp_norm.", "llm.model.norm."])
def test_any_other_key_is_demanded(prefix):
    state = model_state()
    model = Keys(state)
    with pytest.raises(ValueError, match=rf"model\.pt does not fit the model .*missing: {prefix}"):
        load_weights_state(model, without(state, prefix), "model.pt")
    assert not any(value.any() for value in model.tensors.values()), "nothing is copied before all is checked"


def test_another_shape_and_an_unexpected_key_are_named():
    state = model_state()
    with pytest.raises(ValueError, match=r"1 of another shape: ctc.ctc_lo.bias"):
        load_weights_state(Keys(state), {**state, "ctc.ctc_lo.bias": torch.ones(3)}, "model.pt")
    with pytest.raises(ValueError, match=r"1 unexpected: audio_encoder.extra"):
        load_weights_state(Keys(state), {**state, "audio_encoder.extra": torch.ones(3)}, "model.pt")


def test_adapters_may_start_but_never_vanish():
    state = model_state()
    assert load_weights_state(Keys({**state, **LORA}), state, "model.pt").absent == ("lora",)
    with pytest.raises(ValueError, match=r"has LoRA adapters .*use_lora=true.*--to merged"):
        load_weights_state(Keys(state), {**state, **LORA}, "model.pt")
    half = dict(list(LORA.items())[:1])
    with pytest.raises(ValueError, match=r"1 of the 2 lora tensors"):
        load_weights_state(Keys({**state, **LORA}), {**state, **half}, "model.pt")


def test_ctc_weights_without_ctc_in_the_configuration():
    state = model_state()
    with pytest.raises(ValueError, match=r"22 CTC tensors, but the configuration has no ctc_decoder"):
        load_weights_state(Keys(without(state, *CTC)), state, "model.pt")


def test_a_tied_head_is_filled_from_the_embedding_and_never_overwrites_it():
    state = model_state()
    model = Keys(state)
    load_weights_state(model, without(state, "llm.lm_head."), "model.pt")
    assert torch.equal(model.tensors["llm.lm_head.weight"], state["llm.model.embed_tokens.weight"])
    other = {**state, "llm.lm_head.weight": torch.ones(LLM_VOCAB, LLM_WIDTH)}
    with pytest.raises(ValueError, match=r"differ, but .*tie_word_embeddings"):
        load_weights_state(Keys(state), other, "model.pt")
    load_weights_state(Keys(state), other, "model.pt", tied=False)


def test_weights_that_are_not_finite_are_refused():
    state = model_state()
    state["audio_adaptor.linear1.bias"][0] = float("inf")
    with pytest.raises(ValueError, match=r"NaN or infinite values, first audio_adaptor.linear1.bias"):
        load_weights_state(Keys(state), state, "model.pt")
