"""What a stage trains, its losses, and what stands still meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from torch import nn

from nest_ssl.models.fun_asr_trainable import PARTS, account, audit, set_trainable
from nest_ssl.models.fun_asr_training import FunASRNanoForTraining
from tests.models.fun_asr_small import UNFROZEN, batch, trainable

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ROOT / "tests" / "golden" / "funasr" / "nano_2512"
STAGES = ROOT / "conf" / "fun_asr_nano_8k"
LORA = {"llm_conf.use_lora": True, "lora_only": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("small")


# ---------------------------------------------------------------------- trainable sets


@pytest.mark.parametrize(
    ("stage", "changes", "trained"),
    [
        ("stage1_encoder_adapt", {}, {"audio_encoder": 221_136_992}),
        (
            "stage2_adaptor_align",
            {},
            {"audio_adaptor": 12_604_928, "ctc_decoder": 8_021_632, "ctc": 31_044_195},
        ),
        (
            "stage2_adaptor_align",
            {"ctc_conf": {"freeze": True}, "nest_ssl": {"trainable": ["audio_adaptor", "ctc_decoder"]}},
            {"audio_adaptor": 12_604_928, "ctc_decoder": 8_021_632},
        ),
        ("stage3_lora_domain", {}, {"lora": 2_293_760}),
    ],
)
def test_each_stage_trains_of_the_released_model_what_it_declares(stage, changes, trained):
    from nest_ssl.models.lora import add_lora

    released = yaml.safe_load((RELEASED / "config.yaml").read_text(encoding="utf-8"))
    settings = OmegaConf.load(STAGES / f"{stage}.yaml")
    config = OmegaConf.to_container(OmegaConf.merge(released, settings, changes))
    with torch.device("meta"):
        model = FunASRNanoForTraining(config, RELEASED)
        if config["llm_conf"].get("use_lora"):
            add_lora(model.llm, config["llm_conf"]["lora_conf"])
    set_trainable(model, config)
    lines = audit(model, config["nest_ssl"]["trainable"])
    assert {line.part: line.trainable for line in lines if line.trainable} == trained


def test_the_audit_names_what_is_trained_against_the_declaration(folder):
    model = trainable(folder, {"audio_encoder_conf.freeze": False})
    with pytest.raises(ValueError, match=r"ctc_decoder 2,108 of 2,108 instead of 0; ctc .*freeze switches"):
        audit(model, ["audio_encoder"])
    with pytest.raises(ValueError, match="'encoder' is not one of the parts audio_encoder"):
        audit(model, ["encoder"])
    everything = {"ctc_decoder_conf.freeze": True, "ctc_conf.freeze": True, "audio_adaptor_conf.freeze": True}
    with pytest.raises(ValueError, match="nothing is trained"):
        audit(trainable(folder, everything), ["lora"])


def test_a_model_without_ctc_trains_the_rest_of_what_is_declared(folder):
    model = trainable(folder, {"audio_adaptor_conf.freeze": False}, ctc=False, ctc_weight=0.5)
    lines = audit(model, ["audio_adaptor", "ctc_decoder", "ctc"])
    assert {line.part for line in lines if line.trainable} == {"audio_adaptor"}
    assert model.ctc_weight == 0.0


def test_freeze_param_takes_prefixes_of_whole_names(folder):
    model = trainable(folder, {"freeze_param": "ctc_decoder.linear1,ctc"})
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "ctc_decoder.linear2.weight" in names
    assert not any(name.startswith(("ctc.", "ctc_decoder.linear1.")) for name in names)
    with pytest.raises(ValueError, match="freeze_param: no parameter starts with 'ctc_dec'"):
        set_trainable(model, {"freeze_param": ["ctc_dec"]})


@pytest.mark.parametrize(("bias", "trains_biases"), [("none", False), ("all", True)])
def test_lora_only_trains_adapters_and_the_biases_asked_for(folder, bias, trains_biases):
    model = trainable(folder, {**LORA, "lora_bias": bias})
    trained = {line.part: line.trainable for line in account(model)}
    assert trained["lora"] == 2 * (2 * 4 * 32) + sum(
        4 * layer.out_features
        for name, layer in model.llm.named_modules()
        if name.endswith(("q_proj.base_layer", "v_proj.base_layer"))
    )
    assert bool(trained["audio_encoder"]) == trains_biases
    with pytest.raises(ValueError, match="lora_only: the model has no LoRA adapters"):
        trainable(folder, {"lora_only": True})


# ---------------------------------------------------------------------- losses


def test_without_ctc_weight_the_loss_is_that_of_forward(folder):
    model = trainable(folder).eval()
    data = batch(model)
    loss_sum, weight, stats = model.training_loss(data)
    wanted, more, _ = model(**data.tensors)
    assert (loss_sum / weight).item() == pytest.approx(wanted.item(), rel=1e-6)
    figures = model.metrics(loss_sum.item(), weight.item(), stats)
    assert list(figures) == ["llm_loss", "acc"]
    assert figures["acc"] == pytest.approx(more["acc"].item())


def test_the_ctc_loss_is_the_mean_per_unit_times_its_weight(folder):
    model = trainable(folder, ctc_weight=0.3).eval()
    data = batch(model)
    loss_sum, weight, stats = model.training_loss(data)
    encoder_out, lengths = model.encode(data.tensors["speech"], data.tensors["speech_lengths"])
    log_probs = model.ctc_log_probs(encoder_out, lengths).detach()
    units = [data.tensors["ctc_targets"][row].tolist() for row in range(2)]
    nll = sum(
        ctc_by_definition(log_probs[row, : lengths[row]], ids, model.blank_id)
        for row, ids in enumerate(units)
    )
    wanted = model(**data.tensors)[0].item() + 0.3 * nll / 6
    assert (loss_sum / weight).item() == pytest.approx(wanted, rel=1e-5)
    figures = model.metrics(loss_sum.item(), weight.item(), stats)
    assert list(figures) == ["llm_loss", "ctc_loss", "acc", "infeasible"]
    assert figures["ctc_loss"] == pytest.approx(nll / 6, rel=1e-5)


def ctc_by_definition(log_probs: torch.Tensor, ids: list[int], blank: int) -> float:
    """-log of the sum over all paths that collapse to `ids`, by the forward recursion in plain Python."""
    states = [blank] + [unit for i in ids for unit in (i, blank)]
    alpha = {0: log_probs[0, blank].double(), 1: log_probs[0, ids[0]].double()}
    for frame in log_probs[1:].double():
        following = {}
        for state, unit in enumerate(states):
            before = [state, state - 1]
            if state >= 2 and unit not in (blank, states[state - 2]):
                before.append(state - 2)
            terms = [alpha[s] for s in before if s in alpha]
            if terms:
                following[state] = torch.logsumexp(torch.stack(terms), 0) + frame[unit]
        alpha = following
    ends = [alpha[s] for s in (len(states) - 1, len(states) - 2)]
    return -torch.logsumexp(torch.stack(ends), 0).item()


def test_a_text_too_long_for_its_frames_is_counted_and_left_out_of_the_mean(folder):
    model = trainable(folder, ctc_weight=1.0).eval()
    short, both = batch(model, (23,)), batch(model, (23, 3))  # 97 97 98 needs four frames
    alone = model.validation_loss(short)[2]
    stats = model.validation_loss(both)[2]
    assert (stats["infeasible"], stats["ctc_units"]) == (1, 3)
    torch.testing.assert_close(model.training_loss(both)[2]["ctc_nll"], stats["ctc_nll"], rtol=1e-6, atol=0.0)
    assert torch.isfinite(model.training_loss(both)[0])
    assert alone["infeasible"] == 0


def test_a_detached_encoder_learns_nothing_from_ctc(folder):
    gradients = []
    for weight, detached in ((0.0, False), (1.0, True), (1.0, False)):
        model = trainable(folder, UNFROZEN, ctc_weight=weight, ctc_detach_encoder=detached).eval()
        model.training_loss(batch(model))[0].backward()
        gradients.append(model.audio_encoder.encoders[0].feed_forward.w_1.weight.grad)
        assert (model.ctc.ctc_lo.weight.grad is None) == (weight == 0.0)
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])


def test_the_gradient_passes_a_frozen_ctc_branch_into_the_encoder(folder):
    frozen = {"ctc_decoder_conf.freeze": True, "ctc_conf.freeze": True, "audio_adaptor_conf.freeze": True}
    model = trainable(folder, {"audio_encoder_conf.freeze": False, **frozen}, ctc_weight=1.0).eval()
    data = batch(model)
    with_ctc, _, _ = model.training_loss(data)
    with_ctc.backward()
    got = model.audio_encoder.encoders[0].feed_forward.w_1.weight.grad.clone()
    model.zero_grad()
    model.ctc_weight = 0.0
    model.training_loss(data)[0].backward()
    assert not torch.allclose(got, model.audio_encoder.encoders[0].feed_forward.w_1.weight.grad)
    assert model.ctc.ctc_lo.weight.grad is None


def test_validation_counts_ctc_errors_of_characters_whatever_the_weight(folder):
    model = trainable(folder).eval()
    data = batch(model)
    loss_sum, weight, stats = model.validation_loss(data)
    figures = model.metrics(loss_sum.item(), weight.item(), stats)
    assert list(figures) == ["llm_loss", "ctc_loss", "acc", "ctc_cer", "infeasible"]
    assert stats["ctc_characters"] == 6
    assert (loss_sum / weight).item() == pytest.approx(figures["llm_loss"])


# ---------------------------------------------------------------------- modes, dtypes, memory


def test_frozen_parts_stay_in_eval_mode(folder):
    model = trainable(folder, LORA).train()
    for part in PARTS[:-1]:
        assert not any(module.training for module in getattr(model, part).modules()), part
    layer = model.llm.model.layers[0]
    assert not any(module.training for module in layer.mlp.modules())
    assert layer.self_attn.q_proj.lora_dropout["default"].training
    assert trainable(folder, UNFROZEN).train().audio_encoder.encoders[0].training


def test_a_frozen_batch_norm_keeps_its_statistics(folder):
    model = trainable(folder, encoder="conformer").train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.training_loss(batch(model, (90, 70)))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_trained_weights_are_fp32_over_a_frozen_bf16_language_model(folder):
    model = trainable(folder, {**LORA, "llm_conf.llm_dtype": "bf16"}).train()
    dtypes = {line.part: line.dtypes for line in account(model)}
    assert (dtypes["llm"], dtypes["lora"], dtypes["audio_encoder"]) == ("bfloat16", "float32", "float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_sum = model.training_loss(batch(model))[0]
    loss_sum.backward()
    assert torch.isfinite(loss_sum)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    full = trainable(folder, {"llm_conf.llm_dtype": "bf16", "llm_conf.freeze": False})
    assert {line.dtypes for line in account(full)} == {"float32"}


@pytest.mark.parametrize("encoder", ["sanm", "conformer"])
def test_gradient_checkpointing_recomputes_and_changes_no_gradient(folder, encoder):
    found = {}
    for checkpointing in (False, True):
        model = trainable(
            folder, UNFROZEN, encoder, ctc_weight=1.0, gradient_checkpointing=checkpointing
        ).train()
        calls: list[nn.Module] = []
        encoder_layer = (
            model.audio_encoder.encoders[0].feed_forward
            if encoder == "sanm"
            else model.audio_encoder.layers[0].feed_forward1
        )
        for layer in (model.llm.model.layers[0].mlp, encoder_layer):
            layer.register_forward_pre_hook(lambda module, _, calls=calls: calls.append(module))
        torch.manual_seed(5)
        loss_sum, _, _ = model.training_loss(batch(model, (90, 70)))
        loss_sum.backward()
        found[checkpointing] = {n: p.grad for n, p in model.named_parameters()}
        assert len(calls) == (4 if checkpointing else 2)
    for name, gradient in found[False].items():
        torch.testing.assert_close(found[True][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_a_frozen_language_model_is_recomputed_too_on_the_way_to_the_adaptor(folder):
    model = trainable(folder, {"audio_adaptor_conf.freeze": False}, gradient_checkpointing=True).train()
    calls: list[nn.Module] = []
    model.llm.model.layers[1].mlp.register_forward_pre_hook(lambda module, _: calls.append(module))
    model.training_loss(batch(model))[0].backward()
    assert len(calls) == 2
    assert not any(m.training for m in model.llm.model.layers[1].mlp.modules())


# ---------------------------------------------------------------------- checkpoints


def test_a_checkpoint_holds_what_is_trained_and_goes_back_bit_for_bit(folder):
    model = trainable(folder, LORA)
    state = {key: value.clone() for key, value in model.checkpoint_state().items()}
    parameters = [key for key in state if key.startswith(("llm.", "audio", "ctc"))]
    assert all(key.endswith((".lora_A", ".lora_B")) for key in parameters)
    identity = model.frozen_identity()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    assert model.frozen_identity() == identity
    model.load_checkpoint_state(state)
    assert all(torch.equal(value, state[key]) for key, value in model.checkpoint_state().items())
    with torch.no_grad():
        model.ctc.ctc_lo.bias[3] += 1e-6
    assert model.frozen_identity() != identity
    state.pop(parameters[0])
    with pytest.raises(RuntimeError, match="1 tensors are missing"):
        model.load_checkpoint_state(state)
