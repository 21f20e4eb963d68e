"""Adapters by peft under FunASR's names: where they are put, how they start, what is read and written."""

from __future__ import annotations

import builtins
import math

import pytest
import torch
from torch import nn

from nest_ssl.checkpoints.funasr_load import load_weights_state
from nest_ssl.checkpoints.funasr_lora import lora_keys, merged
from nest_ssl.models.lora import add_lora, funasr_name, has_lora


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(6, 8)
        self.v_proj = nn.Linear(6, 4, bias=False)
        self.o_proj = nn.Linear(4, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.q_proj(x).sum(-1) + self.o_proj(self.v_proj(x)).sum(-1)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Attention(), Attention()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(layer(x) for layer in self.layers)


CONF = {"r": 2, "lora_alpha": 6, "lora_dropout": 0.0}


def made(**conf) -> Model:
    torch.manual_seed(3)
    model = Model()
    add_lora(model, {**CONF, **conf})
    return model


def test_the_state_dict_has_funasrs_names_and_is_read_by_them():
    plain, model = Model().state_dict().keys(), made()
    state = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    added = state.keys() - plain
    assert plain <= state.keys()
    assert added == {
        f"layers.{n}.{part}.{matrix}"
        for n in (0, 1)
        for part in ("q_proj", "v_proj")
        for matrix in ("lora_A", "lora_B")
    }
    assert state["layers.0.q_proj.lora_A"].shape == (2, 6)
    assert state["layers.0.q_proj.lora_B"].shape == (8, 2)
    model.load_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert {funasr_name(name) for name, _ in model.named_parameters()} == state.keys()


def test_a_fresh_adapter_changes_nothing_and_starts_kaiming_uniform():
    torch.manual_seed(3)
    plain = Model()
    x = torch.randn(5, 6)
    wanted = plain(x)
    add_lora(plain, {**CONF, "r": 512})
    torch.testing.assert_close(plain(x), wanted)
    a = plain.state_dict()["layers.0.q_proj.lora_A"]
    bound = math.sqrt(6 / ((1 + 5) * 6))  # gain of leaky ReLU with slope sqrt(5), fan-in 6
    assert bound * 0.99 < a.abs().max() <= bound
    assert a.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_the_output_is_that_of_the_definition_and_of_merged_weights():
    model, x = made(), torch.randn(5, 6)
    model.load_state_dict({key: torch.randn_like(value) for key, value in model.state_dict().items()})
    state = model.state_dict()
    a, b = state["layers.1.q_proj.lora_A"], state["layers.1.q_proj.lora_B"]
    layer = model.layers[1].q_proj
    wanted = x @ state["layers.1.q_proj.weight"].T + state["layers.1.q_proj.bias"] + (x @ a.T @ b.T) * 6 / 2
    torch.testing.assert_close(layer(x), wanted)
    folded = merged(state, CONF)
    plain = Model()
    assert folded.keys() == plain.state_dict().keys()
    plain.load_state_dict(folded)
    torch.testing.assert_close(plain(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_component_of_the_name_chooses_and_the_rest_is_trained_as_before():
    model = Model()
    model.layers[0].o_proj.requires_grad_(False)
    chosen = add_lora(model, {**CONF, "target_modules": ["o_proj", "1"]})
    assert chosen == ["layers.0.o_proj", "layers.1.q_proj", "layers.1.v_proj", "layers.1.o_proj"]
    trained = {funasr_name(name) for name, p in model.named_parameters() if p.requires_grad}
    assert {"layers.0.o_proj.lora_A", "layers.0.q_proj.weight", "layers.1.q_proj.bias"} <= trained
    assert "layers.0.o_proj.weight" not in trained
    frozen = made(freeze_lora=True)
    assert not any("lora_" in name for name, p in frozen.named_parameters() if p.requires_grad)


def test_adapters_are_fp32_over_bf16_weights():
    model = Model().to(torch.bfloat16)
    add_lora(model, CONF)
    state = model.state_dict()
    assert {state[key].dtype for key in lora_keys(state)} == {torch.float32}
    assert model.layers[0].q_proj.base_layer.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"target_modules": ["q_prj"]}, r"'q_prj' is no layer of the language model; did you mean q_proj\?"),
        ({"target_modules": "q_proj"}, "must be a list"),
        ({"r": 0}, "lora_conf.r: 0 must be a whole number"),
        ({"rank": 8}, "lora_conf.rank is not supported"),
        ({"bias": "all"}, "lora_conf.bias: only none is supported"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(conf, message):
    model = Model()
    with pytest.raises(ValueError, match=message):
        add_lora(model, conf)
    assert not has_lora(model)


def test_a_checkpoint_of_funasr_fills_weights_and_adapters():
    given = {key: torch.randn_like(value) for key, value in made().state_dict().items()}
    model = made()
    assert load_weights_state(model, given, "model.pt", tied=False).absent == ()
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())


def test_adapters_of_another_rank_or_other_layers_are_refused():
    model = made()
    state = {key: value.clone() for key, value in made(r=4).state_dict().items()}
    with pytest.raises(ValueError, match=r"other\.pt: .*lora_. has the shape .*llm_conf\.lora_conf\.r=4,"):
        load_weights_state(model, state, "other.pt", tied=False)
    state = dict(made().state_dict())
    del state["layers.0.q_proj.lora_A"]
    with pytest.raises(ValueError, match=r"7 of the 8 lora tensors, 1 missing: layers\.0\.q_proj\.lora_A"):
        load_weights_state(model, state, "other.pt", tied=False)
    with pytest.raises(ValueError, match="has LoRA adapters already"):
        add_lora(model, CONF)


def test_without_peft_the_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_peft(name, *rest, **options):
        if name == "peft":
            raise ImportError("No module named 'peft'")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(ValueError, match=r"pip install -e \"\.\[llm\]\""):
        add_lora(Model(), CONF)
