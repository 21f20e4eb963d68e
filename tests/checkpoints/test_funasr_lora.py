"""Adapters in a state dict: folded in as the formula says, and refused where they do not fit."""

import pytest
import torch

from nest_ssl.checkpoints.funasr_lora import lora_keys, merged

LINEAR = "llm.model.layers.0.self_attn.q_proj"


def adapted(rank: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (6, 4), "lora_A": (rank, 4), "lora_B": (6, rank)}
    state = {f"{LINEAR}.{k}": torch.randn(s, generator=generator).to(dtype) for k, s in shapes.items()}
    return {**state, "llm.model.norm.weight": torch.ones(4)}


def test_folding_gives_the_outputs_of_weight_and_adapter():
    state = adapted()
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    weight, a, b = (state[f"{LINEAR}.{part}"] for part in ("weight", "lora_A", "lora_B"))
    expected = x @ weight.T + (x @ a.T @ b.T) * (8 / 2)
    plain = merged(state, {"r": 2, "lora_alpha": 8})
    torch.testing.assert_close(x @ plain[f"{LINEAR}.weight"].T, expected)
    assert plain.keys() == {f"{LINEAR}.weight", "llm.model.norm.weight"}
    assert len(lora_keys(state)) == 2
    assert lora_keys(plain) == []


def test_weights_keep_their_dtype():
    assert merged(adapted(dtype=torch.bfloat16), {"r": 2})[f"{LINEAR}.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("conf", "removed", "message"),
    [
        ({"r": 4}, None, r"lora_A \(2, 4\) and lora_B \(6, 2\) do not fit .* lora_conf\.r = 4"),
        (None, None, r"lora_conf\.r = 16"),  # FunASR's default
        ({"r": 2}, "lora_B", "the weight, lora_A and lora_B must be there"),
        ({"r": 2}, "weight", "the weight, lora_A and lora_B must be there"),
    ],
)
def test_what_does_not_fit_is_refused(conf, removed, message):
    state = adapted()
    state.pop(f"{LINEAR}.{removed}", None)
    with pytest.raises(ValueError, match=message):
        merged(state, conf)
