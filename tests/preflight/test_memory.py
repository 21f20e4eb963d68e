"""The memory that preflight foresees, against what autograd keeps."""

import pytest
import torch

from nest_ssl.modules.sanm_encoder import SenseVoiceEncoderSmall
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.resources import _encoder_bytes, _llm_bytes, estimate


def bytes_kept(run, parameters) -> int:
    """Bytes of the storages that autograd keeps for the backward pass, weights left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(kept.values())


@pytest.mark.parametrize(
    ("width", "hidden", "layers", "frames", "rows"),
    [(64, 256, 4, 50, 4), (128, 128, 4, 50, 2), (64, 256, 4, 200, 1)],
)
def test_the_encoder_keeps_what_is_foreseen(width, hidden, layers, frames, rows):
    sizes = {"output_size": width, "attention_heads": 4, "linear_units": hidden, "num_blocks": layers - 1}
    rates = {"dropout_rate": 0.1, "attention_dropout_rate": 0.1}
    encoder = SenseVoiceEncoderSmall(
        input_size=560, tp_blocks=1, kernel_size=11, sanm_shfit=0, **sizes, **rates
    )
    speech, lengths = torch.randn(rows, frames, 560), torch.full((rows,), frames)
    kept = bytes_kept(lambda: encoder.train()(speech, lengths)[0], list(encoder.parameters()))
    context = Context({"audio_encoder_conf": {**sizes, "tp_blocks": 1}})
    assert _encoder_bytes(context, rows * frames, frames) == pytest.approx(kept, rel=0.15)


@pytest.mark.parametrize("trained", [False, True])
def test_the_language_model_keeps_what_is_foreseen(trained, monkeypatch):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_hidden_layers": 4}
    sizes |= {"head_dim": 16, "num_key_value_heads": 2, "vocab_size": 100}
    llm = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes)).train().requires_grad_(trained)
    embeds, mask = torch.randn(2, 60, 64, requires_grad=True), torch.ones(2, 60, dtype=torch.long)

    def run():
        return llm.model(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state

    context = Context({})
    monkeypatch.setitem(context.__dict__, "llm_config", sizes)
    foreseen = _llm_bytes(context, 120, 0, trained)
    assert foreseen == pytest.approx(bytes_kept(run, list(llm.parameters())), rel=0.15)


def test_weights_and_optimiser_are_counted_by_what_is_trained(sound):
    found = estimate(sound, 100, 50, 100, 20)
    trained = sum(p.numel() for p in sound.model.parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in sound.model.audio_encoder.parameters())
    assert found.gradients == 4 * trained
    assert found.optimizer == 8 * trained
    assert found.weights == sum(p.numel() * p.element_size() for p in sound.model.parameters())
