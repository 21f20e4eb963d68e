"""The parts of Fun-ASR-Nano, each built from its section of FunASR's configuration."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from nest_ssl.modules.adaptor import Transformer
from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.conformer_encoder import ConformerEncoder
from nest_ssl.modules.ctc_head import CTC
from nest_ssl.modules.mel_frontend import MelFrontend
from nest_ssl.modules.nest_audio_encoder import NestAudioEncoder
from nest_ssl.modules.sanm_encoder import SenseVoiceEncoderSmall
from nest_ssl.modules.wav_frontend import WavFrontend
from nest_ssl.text.ctc_tokenizer import SenseVoiceTokenizer

log = logging.getLogger(__name__)

Part = TypeVar("Part", bound=nn.Module)
Frontend = WavFrontend | MelFrontend
AudioEncoder = SenseVoiceEncoderSmall | NestAudioEncoder

FRONTENDS: dict[str, type] = {
    "WavFrontend": WavFrontend,
    "AudioToMelSpectrogramPreprocessor": MelFrontend,
    "MelFrontend": MelFrontend,
}
ENCODERS: dict[str, type] = {
    "SenseVoiceEncoderSmall": SenseVoiceEncoderSmall,
    "ConformerEncoder": NestAudioEncoder,
    "NestAudioEncoder": NestAudioEncoder,
}
# Whose keys a class takes besides its own: it hands them on.
HANDED_ON: dict[Any, tuple[type, ...]] = {
    NestAudioEncoder: (ConformerEncoder,),
    MelFrontend: (AudioToMelSpectrogramPreprocessor,),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CTC_BLANK_LAST = 60515  # FunASR's default number of units, blank included

# Keys of the published configuration that FunASR hands to a part which does not read them.
UNREAD = {
    "frontend_conf": {"cmvn_file"},
    "audio_encoder_conf": {
        "hub", "freeze", "freeze_layer_num", "activation_checkpoint", "feat_permute", "input_layer",
        "pos_enc_class", "normalize_before", "positional_dropout_rate", "selfattention_layer_type",
        "concat_after", "positionwise_layer_type", "positionwise_conv_kernel_size", "padding_idx",
        "stochastic_depth_rate", "input_size",
    },
    "audio_adaptor_conf": {"freeze", "use_low_frame_rate", "activation_checkpoint"},
    "ctc_decoder_conf": {"freeze", "init_param_path", "use_low_frame_rate", "activation_checkpoint"},
    "ctc_conf": {
        "freeze", "dropout_rate", "ctc_type", "reduce", "ignore_nan_grad", "blank_id",
        "extra_linear", "zero_infinity",
    },
}  # fmt: skip


def build_frontend(config: Mapping[str, Any], directory: Path | None = None) -> Frontend:
    """Build what turns samples into features; a relative cmvn_file is taken from `directory`."""
    kind = _class(config, "frontend", FRONTENDS)
    options = dict(config.get("frontend_conf") or {})
    if kind is WavFrontend and options.get("cmvn_file") is not None:
        options["cmvn_file"] = _path(options["cmvn_file"], directory)
    elif kind is MelFrontend:
        options.pop("cmvn_file", None)
    return _build(kind, options, "frontend_conf")


def build_audio_encoder(config: Mapping[str, Any], input_size: int) -> AudioEncoder:
    """Build the encoder for features of `input_size`; frozen where audio_encoder_conf.freeze says so."""
    kind = _class(config, "audio_encoder", ENCODERS)
    section = dict(config.get("audio_encoder_conf") or {})
    if section.get("hub") == "ms":
        raise ValueError(
            "audio_encoder_conf.hub: ms would download the encoder; nothing is downloaded, remove the key"
        )
    stated = section.get("input_size")
    if stated not in (None, input_size):
        raise ValueError(
            f"audio_encoder_conf.input_size: {stated}, but the front end gives {input_size} features"
        )
    encoder: AudioEncoder = _build(kind, section, "audio_encoder_conf", input_size=input_size)
    encoder.gradient_checkpointing = bool(section.get("activation_checkpoint", False))
    return frozen(encoder, section.get("freeze", True))


def build_llm(config: Mapping[str, Any], folder: Path) -> nn.Module:
    """Build the language model of `folder`/config.json with random weights, in llm_conf.llm_dtype.

    Only classes that transformers itself has are built.  Raises ValueError naming the folder, and
    ModuleNotFoundError with the way to install transformers.
    """
    section = config.get("llm_conf") or {}
    name = section.get("llm_dtype", "fp32")
    if name not in DTYPES:
        raise ValueError(f"llm_conf.llm_dtype: {name!r} is not one of {', '.join(DTYPES)}")
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the language model needs the library transformers: pip install -e ".[llm]"'
        ) from error
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"llm_conf.init_param_path: {folder} has no config.json; give the folder of the language model, "
            f"for Fun-ASR-Nano its Qwen3-0.6B"
        )
    try:
        found = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        llm: Any = AutoModelForCausalLM.from_config(
            found, trust_remote_code=False, dtype=torch.float32, **(section.get("load_kwargs") or {})
        )
    except Exception as error:  # of transformers' own kinds: a value of a wrong type, sizes that do not fit
        raise ValueError(f"{folder}/config.json: no language model that transformers has: {error}") from error
    if section.get("activation_checkpoint", False):
        if hasattr(llm, "activation_checkpointing_enable"):  # its name from transformers 5 on
            llm.activation_checkpointing_enable({"use_reentrant": False})
        else:
            llm.gradient_checkpointing_enable({"use_reentrant": False})
    return frozen(llm, section.get("freeze", True)).to(DTYPES[name])


def build_adaptor(config: Mapping[str, Any], encoder_width: int, llm_width: int) -> Transformer:
    """Build the adaptor; both widths follow the encoder and the language model, whatever the section says."""
    _class(config, "audio_adaptor", {"Transformer": Transformer})
    section = dict(config.get("audio_adaptor_conf") or {})
    sizes = {"encoder_dim": encoder_width, "llm_dim": llm_width}
    adaptor: Transformer = _build(Transformer, {**section, **sizes}, "audio_adaptor_conf")
    adaptor.gradient_checkpointing = bool(section.get("activation_checkpoint", False))
    return frozen(adaptor, section.get("freeze", False))


def build_ctc(config: Mapping[str, Any], encoder_width: int) -> tuple[Transformer, CTC] | None:
    """Build CTC decoder and head, or give None where the configuration has none.

    The blank is the last of ctc_vocab_size units; ctc_conf.freeze is ours, FunASR cannot freeze the head.
    """
    if config.get("ctc_decoder") is None:
        return None
    _class(config, "ctc_decoder", {"Transformer": Transformer})
    section = dict(config.get("ctc_decoder_conf") or {})
    width = section.setdefault("llm_dim", encoder_width)
    if width != encoder_width:
        raise ValueError(
            f"ctc_decoder_conf.llm_dim: {width}, but the CTC head takes the encoder's width {encoder_width}"
        )
    if section.get("init_param_path") is not None:
        raise ValueError("ctc_decoder_conf.init_param_path is not read; the weights belong into init_param")
    decoder: Transformer = _build(Transformer, {**section, "encoder_dim": encoder_width}, "ctc_decoder_conf")
    units = int(config.get("ctc_vocab_size", CTC_BLANK_LAST))
    options = dict(config.get("ctc_conf") or {})
    if options.get("blank_id") not in (None, units - 1):
        raise ValueError(
            f"ctc_conf.blank_id: {options['blank_id']}; the blank is the last of ctc_vocab_size {units} units"
        )
    if float(options.get("dropout_rate") or 0.0):
        log.warning("ctc_conf.dropout_rate has no effect, as in FunASR")
    head: CTC = _build(
        CTC, options, "ctc_conf", odim=units, encoder_output_size=encoder_width, blank_id=units - 1
    )
    return frozen(decoder, section.get("freeze", False)), frozen(head, options.get("freeze", False))


def build_ctc_tokenizer(
    config: Mapping[str, Any], directory: Path | None = None
) -> SenseVoiceTokenizer | None:
    """Build the tokenizer of the CTC units, or give None where the configuration names no file."""
    dataset = config.get("dataset_conf") or {}
    name = config["ctc_tokenizer"] if "ctc_tokenizer" in config else dataset.get("ctc_tokenizer")
    section = config if "ctc_tokenizer_conf" in config else dataset
    options = dict(section.get("ctc_tokenizer_conf") or {})
    if name is None or options.get("vocab_path") is None:
        return None
    if name != "SenseVoiceTokenizer":
        raise ValueError(f"dataset_conf.ctc_tokenizer: {name!r} is not known; use SenseVoiceTokenizer")
    options["vocab_path"] = _path(options["vocab_path"], directory)
    return _build(SenseVoiceTokenizer, options, "dataset_conf.ctc_tokenizer_conf")


def llm_folder(config: Mapping[str, Any], directory: Path | None = None) -> Path:
    """Give the folder of the language model's config.json; a relative one is taken from `directory`."""
    path = (config.get("llm_conf") or {}).get("init_param_path")
    if not path:
        raise ValueError("llm_conf.init_param_path is not set; it names the folder of the language model")
    return _path(path, directory)


def tokenizer_folder(config: Mapping[str, Any], directory: Path | None = None) -> Path:
    """Give the folder of the language model's tokenizer: its own, or that of the model."""
    path = (config.get("tokenizer_conf") or {}).get("init_param_path")
    return _path(path, directory) if path and "${" not in str(path) else llm_folder(config, directory)


def frozen(part: Part, freeze: Any) -> Part:
    """Give the part; where `freeze`, without gradients and in evaluation mode, as FunASR starts it."""
    return part.requires_grad_(False).eval() if freeze else part


def _path(path: str | os.PathLike, directory: Path | None) -> Path:
    return Path(path) if directory is None else directory / path


def _class(config: Mapping[str, Any], key: str, known: Mapping[str, type]) -> type:
    name = str(config.get(key))
    if name not in known:
        raise ValueError(f"{key}: {name!r} is not one of {', '.join(known)}")
    return known[name]


def _build(kind: Callable[..., Any], options: Mapping[str, Any], section: str, **extra: Any) -> Any:
    """Call with the options it takes; a key that looks misspelt is an error, another is told and left."""
    takers: list[Callable[..., Any]] = [kind, *HANDED_ON.get(kind, ())]
    parameters = {name for taker in takers for name in inspect.signature(taker).parameters}
    given: dict[str, Any] = {}
    unread = UNREAD.get(section, set())
    for key, value in options.items():
        if key in extra:
            continue
        if key in parameters:
            given[key] = value
        elif key not in unread:
            close = difflib.get_close_matches(key, [*parameters, *unread], n=1, cutoff=0.8)
            if close:
                raise ValueError(f"{section}.{key}: there is no such key; did you mean {close[0]}?")
            log.warning("%s.%s: %r is not read by %s", section, key, value, kind.__name__)
    try:
        return kind(**given, **extra)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{section}.{error}") from error
