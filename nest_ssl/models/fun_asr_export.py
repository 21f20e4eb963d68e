"""A Fun-ASR-Nano directory in the other forms that its weights are wanted in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nest_ssl.checkpoints.encoder_only import encoder_only
from nest_ssl.checkpoints.funasr_dir import (
    ModelDir,
    read_model_dir,
    read_weights,
)
from nest_ssl.checkpoints.funasr_load import WeightsAccount, load_weights_state
from nest_ssl.checkpoints.funasr_lora import lora_keys
from nest_ssl.checkpoints.funasr_writer import as_stored, portable_config, write_model_dir
from nest_ssl.checkpoints.nemo_archive import write_nemo
from nest_ssl.checkpoints.plain_yaml import read_plain_yaml
from nest_ssl.checkpoints.safetensors_dir import CONFIG, STATE, write_safetensors_dir
from nest_ssl.models.fun_asr_files import with_lora, with_provenance
from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor

ENCODER = "audio_encoder."
NEST_ENCODERS = ("ConformerEncoder", "NestAudioEncoder")
_NEMO = "nemo.collections.asr.modules"
# Of audio_encoder_conf, what ConformerEncoder does not take.
_OURS = ("freeze", "freeze_layer_num", "activation_checkpoint", "hub", "input_size", "batch_norm")


@dataclass(frozen=True)
class FunASRSource:
    """A model directory with all its weights, which were compared with the model key by key."""

    folder: ModelDir
    state: dict[str, Tensor]
    account: WeightsAccount

    @property
    def config(self) -> dict[str, Any]:
        return self.folder.config


def read_fun_asr(
    folder: str | os.PathLike,
    init_param: str | os.PathLike | None = None,
    llm_from: str | os.PathLike | None = None,
) -> FunASRSource:
    """Read a model directory and its weights; ValueError unless they are all that the model has.

    `init_param` names other weights; a training checkpoint of ours (step-N) may have only those that were
    trained, and then the directory gives the others.  `llm_from` gives the language model where they have
    none.
    """
    asked = None if init_param is None else Path(init_param)
    trained = asked is not None and (asked / STATE).is_file()
    found = read_model_dir(folder, init_param=None if trained else asked)
    state = read_weights(found.weights_path)
    given = None
    if asked is not None and trained:
        state |= read_weights(asked)
    if llm_from is not None:
        if any(key.startswith("llm.") for key in state):
            raise ValueError(
                f"--llm-from {llm_from}: {folder} has a language model of its own; leave it away"
            )
        state |= {key: value for key, value in read_weights(llm_from).items() if key.startswith("llm.")}
        given = str(llm_from)
    section = dict(found.config.get("llm_conf") or {})
    if asked is not None and trained:
        section = {**section, **_lora_of(asked, state)}
    config = {**found.config, "llm_conf": section}
    found = ModelDir(found.path, config, found.weights_path, found.files, found.notes)
    source = str(found.weights_path) if not trained else f"{asked} over {found.weights_path}"
    return FunASRSource(found, state, _compared(found, state, source, given))


def _lora_of(checkpoint: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a training checkpoint's own configuration says of its adapters."""
    if not lora_keys(state):
        return {}
    path = checkpoint / CONFIG
    config = read_plain_yaml(path.read_bytes(), str(path)) if path.is_file() else {}
    trained = config.get("llm_conf") or {}
    return {"use_lora": True, **({"lora_conf": trained["lora_conf"]} if trained.get("lora_conf") else {})}


def _compared(
    found: ModelDir, state: Mapping[str, Tensor], source: str, llm_from: str | None
) -> WeightsAccount:
    """The account of the weights against the model of the configuration, built without memory."""
    from nest_ssl.models.fun_asr_nano import FunASRNano

    section = found.config.get("llm_conf") or {}
    with torch.device("meta"):
        model = FunASRNano(found.config, found.path)
        if section.get("use_lora"):
            from nest_ssl.models.lora import add_lora

            add_lora(model.llm, section.get("lora_conf"))
    tied = bool(getattr(model.llm.config, "tie_word_embeddings", False))
    allowed = ("ctc",)  # adapters that are announced and missing would be random
    return load_weights_state(model, state, source, allowed, llm_from, tied)


def to_funasr(source: FunASRSource, out: Path, dtype: str, base: str | None = None) -> None:
    """Write the published layout, adapters as they are."""
    config, state = with_lora(source.config, source.state, merge=False)
    write_model_dir(out, with_provenance(config, None, base, None), state, source.folder.files, dtype)


def to_merged(source: FunASRSource, out: Path, dtype: str, base: str | None = None) -> None:
    """Write the published layout with the adapters folded into the weights; ValueError without adapters."""
    if not lora_keys(source.state):
        raise ValueError(
            f"{source.account.source} has no LoRA adapters to fold in; --to funasr writes it as it is"
        )
    config, state = with_lora(source.config, source.state, merge=True)
    write_model_dir(out, with_provenance(config, "merged", base, None), state, source.folder.files, dtype)


def to_safetensors(source: FunASRSource, out: Path, dtype: str, base: str | None = None) -> None:
    """Write model.safetensors and config.yaml; such a directory can be any model's init_param."""
    config, state = with_lora(source.config, source.state, merge=False)
    portable = portable_config(with_provenance(config, None, base, None), source.folder.files["llm"].name)
    write_safetensors_dir(out, portable, as_stored(state, dtype))


def to_encoder(source: FunASRSource, out: Path, dtype: str, base: str | None = None) -> None:
    """Write the audio encoder alone.

    A ConformerEncoder becomes a NEST encoder (.nemo, or a directory of safetensors).  SenseVoiceEncoderSmall
    becomes a directory of safetensors with FunASR's names of it in SenseVoiceSmall: `encoder.*`, with
    encoder_conf and frontend_conf.
    """
    if out.suffix == ".nemo":
        return to_nemo(source, out, dtype, base)
    if out.suffix:
        raise ValueError(f"{out}: --to encoder writes a directory or .nemo, not {out.suffix}")
    if source.config["audio_encoder"] in NEST_ENCODERS:
        write_safetensors_dir(out, *_nest_encoder(source, dtype))
        return None
    keys = ("frontend", "frontend_conf")
    config = {
        "encoder": source.config["audio_encoder"],
        "encoder_conf": source.config.get("audio_encoder_conf"),
        **{key: source.config.get(key) for key in keys},
    }
    write_safetensors_dir(out, config, as_stored(_renamed(source.state), dtype))
    return None


def to_nemo(source: FunASRSource, out: Path, dtype: str, base: str | None = None) -> None:
    """Write the ConformerEncoder and its front end as a .nemo archive; ValueError for a SANM encoder."""
    if out.suffix != ".nemo":
        raise ValueError(f"{out}: the name of a NeMo archive ends in .nemo")
    config, state = _nest_encoder(source, dtype)
    whole = {key: value.clone() for key, value in state.items()}  # a view would bring its storage along
    write_nemo(out, config, whole, config["target"])


def _nest_encoder(source: FunASRSource, dtype: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if dtype != "kept":
        raise ValueError(f"--dtype {dtype}: a NEST encoder keeps the dtype of its weights; leave it away")
    kind = source.config["audio_encoder"]
    if kind not in NEST_ENCODERS:
        raise ValueError(
            f"{source.folder.path}: audio_encoder is {kind}, which NeMo does not have; .nemo takes a "
            "ConformerEncoder. --to encoder writes this one as safetensors"
        )
    front = dict(source.config.get("frontend_conf") or {})
    preprocessor = AudioToMelSpectrogramPreprocessor(**front)
    section = dict(source.config.get("audio_encoder_conf") or {})
    encoder = {key: value for key, value in section.items() if key not in _OURS}
    state = _renamed(source.state)
    encoder.setdefault("feat_in", int(front.get("features", 64)))
    configuration = {
        "preprocessor": {"_target_": f"{_NEMO}.AudioToMelSpectrogramPreprocessor", **front},
        "encoder": {"_target_": f"{_NEMO}.ConformerEncoder", **encoder},
    }
    buffers = {f"preprocessor.{key}": value for key, value in preprocessor.state_dict().items()}
    return encoder_only(configuration, {**buffers, **as_stored(state, "fp32")})


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"encoder.{key.removeprefix(ENCODER)}": value
        for key, value in state.items()
        if key.startswith(ENCODER)
    }


WRITERS = {
    "funasr": to_funasr,
    "merged": to_merged,
    "safetensors": to_safetensors,
    "encoder": to_encoder,
    "nemo": to_nemo,
}
