"""export of Fun-ASR directories: every form holds the same weights and is read by whom it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="the language model is transformers'")

from nest_ssl.bin import export
from nest_ssl.checkpoints.funasr_dir import read_model_dir, read_weights
from nest_ssl.checkpoints.nemo_archive import read_nemo
from nest_ssl.checkpoints.safetensors_dir import read_safetensors_dir
from nest_ssl.models.ssl_models import SpeechEncDecSelfSupervisedModel
from tests.fun_asr_tiny import make_model_dir, model_state

LORA = {
    f"llm.model.layers.{layer}.self_attn.{part}.{name}": torch.randn(
        shape, generator=torch.Generator().manual_seed(3)
    )
    for layer in range(2)
    for part, outputs in (("q_proj", 32), ("v_proj", 16))
    for name, shape in (("lora_A", (4, 32)), ("lora_B", (outputs, 4)))
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_model_dir(tmp_path / "base")


@pytest.fixture
def adapted(tmp_path: Path) -> Path:
    """A directory with adapters, as stage 3 leaves it."""
    folder = make_model_dir(tmp_path / "adapted")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("use_lora: false", "use_lora: true"))
    torch.save({"state_dict": {**model_state(), **LORA}}, folder / "model.pt")
    return folder


def equal(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_funasr_and_safetensors_hold_all_weights(base, tmp_path):
    assert export.main(["--to", "funasr", str(base), str(tmp_path / "copy")]) == 0
    assert equal(read_weights(tmp_path / "copy" / "model.pt"), model_state())
    assert read_model_dir(tmp_path / "copy").config["nest_ssl"]["base"] == str(base)
    assert export.main(["--to", "safetensors", str(tmp_path / "copy"), str(tmp_path / "st")]) == 0
    assert equal(read_weights(tmp_path / "st"), model_state())
    # and such a directory gives a model its weights
    assert (
        export.main(
            ["--to", "funasr", str(base), str(tmp_path / "back"), "--init-param", str(tmp_path / "st")]
        )
        == 0
    )


def test_upstream_dtypes_are_asked_for(base, tmp_path):
    export.main(["--to", "funasr", str(base), str(tmp_path / "out"), "--dtype", "upstream"])
    state = read_weights(tmp_path / "out" / "model.pt")
    assert state["ctc.ctc_lo.weight"].dtype == torch.float32
    assert state["llm.model.norm.weight"].dtype == torch.bfloat16


def test_merged_folds_the_adapters_in_and_funasr_keeps_them_apart(adapted, tmp_path):
    export.main(["--to", "merged", str(adapted), str(tmp_path / "merged")])
    state = read_weights(tmp_path / "merged" / "model.pt")
    assert state.keys() == model_state().keys()
    linear = "llm.model.layers.1.self_attn.v_proj"
    change = 8 / 4 * LORA[f"{linear}.lora_B"] @ LORA[f"{linear}.lora_A"]  # lora_alpha 8, r 4
    torch.testing.assert_close(state[f"{linear}.weight"], model_state()[f"{linear}.weight"] + change)
    assert read_model_dir(tmp_path / "merged").config["llm_conf"]["use_lora"] is False
    export.main(["--to", "funasr", str(adapted), str(tmp_path / "apart")])
    assert equal(read_weights(tmp_path / "apart" / "model.pt"), {**model_state(), **LORA})
    assert read_model_dir(tmp_path / "apart").config["llm_conf"]["use_lora"] is True


def test_the_conformer_inside_becomes_a_nest_encoder(tmp_path):
    base = make_model_dir(tmp_path / "base", encoder="conformer")
    expected = {
        key.replace("audio_encoder.", "encoder."): value
        for key, value in model_state("conformer").items()
        if key.startswith("audio_encoder.")
    }
    with pytest.raises(ValueError, match="--dtype fp32: a NEST encoder keeps"):
        export.main(["--to", "nemo", str(base), str(tmp_path / "encoder.nemo"), "--dtype", "fp32"])
    export.main(["--to", "nemo", str(base), str(tmp_path / "encoder.nemo")])
    config, state = read_nemo(tmp_path / "encoder.nemo")
    assert equal({key: value for key, value in state.items() if key.startswith("encoder.")}, expected)
    assert "freeze" not in config["encoder"]
    restored = SpeechEncDecSelfSupervisedModel.restore_from(tmp_path / "encoder.nemo")
    assert equal({f"encoder.{k}": v for k, v in restored.encoder.state_dict().items()}, expected)
    export.main(["--to", "encoder", str(base), str(tmp_path / "encoder")])
    assert equal(read_safetensors_dir(tmp_path / "encoder")[1], state)


def test_the_sanm_encoder_is_written_as_safetensors_and_refused_as_nemo(base, tmp_path):
    with pytest.raises(ValueError, match="audio_encoder is SenseVoiceEncoderSmall, which NeMo does not have"):
        export.main(["--to", "nemo", str(base), str(tmp_path / "out.nemo")])
    export.main(["--to", "encoder", str(base), str(tmp_path / "encoder")])
    config, state, _ = read_safetensors_dir(tmp_path / "encoder")
    assert config["encoder_conf"]["num_blocks"] == 2
    assert len(state) == sum(key.startswith("audio_encoder.") for key in model_state())


def test_the_model_directory_of_a_run_is_found(tmp_path):
    make_model_dir(tmp_path / "exp" / "model")
    assert export.main(["--to", "safetensors", str(tmp_path / "exp"), str(tmp_path / "out")]) == 0


def test_a_checkpoint_of_trained_weights_alone_is_laid_over_the_directory(base, tmp_path):
    from safetensors.torch import save_file

    step = tmp_path / "exp" / "checkpoints" / "step-5"
    step.mkdir(parents=True)
    trained = {"audio_adaptor.linear1.bias": torch.full((24,), 5.0)}
    save_file(trained, step / "model.safetensors")
    (step / "state.json").write_text('{"progress": {"step": 5}}')
    export.main(["--to", "funasr", str(base), str(tmp_path / "out"), "--init-param", str(step)])
    assert equal(read_weights(tmp_path / "out" / "model.pt"), {**model_state(), **trained})


def test_weights_without_the_language_model_take_it_from_the_base(base, tmp_path):
    state = {key: value for key, value in model_state().items() if not key.startswith("llm.")}
    torch.save({"state_dict": state}, tmp_path / "model.pt.ep1")
    command = [
        "--to",
        "funasr",
        str(base),
        str(tmp_path / "out"),
        "--init-param",
        str(tmp_path / "model.pt.ep1"),
    ]
    with pytest.raises(ValueError, match=r"no llm\.\* tensors.*--llm-from"):
        export.main(command)
    export.main([*command, "--llm-from", str(base / "model.pt")])
    assert equal(read_weights(tmp_path / "out" / "model.pt"), model_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onnx"], "--to onnx does not take; choose funasr, merged"),
        (["--to", "merged"], "has no LoRA adapters to fold"),
        (["--to", "funasr", "--license", "mit"], "--license is for NEST models"),
        (["--to", "funasr", "--init-param", "gone.pt"], "gone.pt do not exist"),
    ],
)
def test_mistakes_are_named(base, tmp_path, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export.main([*arguments, str(base), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_options_of_one_kind_of_model_are_refused_for_the_other(tmp_path):
    (tmp_path / "model.nemo").write_bytes(b"x")
    for arguments in (["--to", "funasr"], ["--to", "nemo", "--dtype", "fp32"]):
        with pytest.raises(ValueError, match=r"Fun-ASR director.*model\.nemo is none"):
            export.main([*arguments, str(tmp_path / "model.nemo"), str(tmp_path / "out")])
