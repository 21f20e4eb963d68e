"""The work of the verb export: what each --to writes of a model."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nest_ssl.checkpoints.encoder_only import encoder_only
from nest_ssl.checkpoints.lightning_ckpt import write_lightning
from nest_ssl.checkpoints.model_card import model_card, run_facts, write_card
from nest_ssl.checkpoints.nemo_archive import is_nemo, read_artifacts, write_nemo
from nest_ssl.checkpoints.safetensors_dir import write_safetensors_dir
from nest_ssl.checkpoints.source import Source, read_source
from nest_ssl.checkpoints.state import load_state
from nest_ssl.config import build, load_config
from nest_ssl.files.tensors import separate
from nest_ssl.models.fun_asr_export import WRITERS as FUN_ASR_WRITERS
from nest_ssl.models.fun_asr_export import read_fun_asr
from nest_ssl.models.onnx_export import check_onnx, export_onnx
from nest_ssl.models.registry import model_class, model_class_of, names_of
from nest_ssl.models.ssl_config import given_section, marked_section, model_section
from nest_ssl.modules.targets import TARGETS

log = logging.getLogger(__name__)


def export_nest(arguments: argparse.Namespace) -> int:
    """Write a NEST or CTC model in another form, and its card."""
    source = with_target(with_configuration(read_source(arguments.model), arguments.config))
    section = whole_section(source)
    check_fit(source, section)
    out: Path = arguments.out
    WRITERS[arguments.to](source, section, out, arguments)
    facts = run_facts(source.path, source.facts.get("step"))
    card = write_card(out, model_card(source, section, out.name, arguments.to, arguments.license, facts))
    print(f"{arguments.to} of {source.path} ({source.kind}) in {out}, model card {card}")
    return 0


def export_fun_asr(folder: Path, arguments: argparse.Namespace) -> int:
    """Write a Fun-ASR directory in another form, and say what became of its weights."""
    source = read_fun_asr(folder, arguments.init_param, arguments.llm_from)
    FUN_ASR_WRITERS[arguments.to](source, arguments.out, arguments.dtype or "kept", str(folder))
    print(f"{arguments.to} of {folder} in {arguments.out}")
    return 0


def with_configuration(source: Source, path: Path | None) -> Source:
    """The source with the model section of `path`, if one is given; ValueError if there is none at all."""
    if path is not None:
        given = load_config(path)
        # Resolved in its place: a training YAML's section refers to `model.` keys.
        section: Any = OmegaConf.to_container(model_section(given.model if "model" in given else given))
        return replace(source, config=section)
    if source.config is None:
        raise ValueError(f"{source.path} holds weights without a configuration; give --config FILE")
    return source


def with_target(source: Source) -> Source:
    """The source with the class in its configuration: that of a training checkpoint, a YAML, names none."""
    section = source.config or {}
    if section.get("target"):
        return source
    name = "EncDecCTCModelBPE" if section.get("tokenizer") else model_class_of(section).__name__
    return replace(source, config={**section, "target": names_of(name)[0]})


def whole_section(source: Source) -> dict[str, Any]:
    """The model section as it is saved: resolved, with its target."""
    assert source.config is not None
    plain: Any = OmegaConf.to_container(model_section(source.config), resolve=False)
    return {**marked_section(given_section(plain)), "target": source.target}


def check_fit(source: Source, section: Mapping[str, Any]) -> None:
    """Raise ValueError unless configuration and weights make one model, of the classes that we build."""
    found = model_class(source.target)
    if found is None or section.get("tokenizer") is not None:  # that one needs files of its own
        log.info("%s: not built here, so keys and shapes are not compared", source.target)
        return
    load_state(found(given_section(section)), source.state, str(source.path))


def to_nemo(source: Source, section: dict[str, Any], out: Path, arguments: argparse.Namespace) -> None:
    write_nemo(out, section, separate(source.state), source.target, complete_artifacts(source, section))


def to_ckpt(source: Source, section: dict[str, Any], out: Path, arguments: argparse.Namespace) -> None:
    step, epoch = (int(source.facts.get(key) or 0) for key in ("step", "epoch"))
    write_lightning(out, section, separate(source.state), step, epoch)


def to_safetensors(source: Source, section: dict[str, Any], out: Path, arguments: argparse.Namespace) -> None:
    if out.suffix in (".safetensors", ".nemo", ".ckpt"):
        raise ValueError(f"{out}: --to safetensors writes a directory; leave the suffix {out.suffix} away")
    write_safetensors_dir(out, section, source.state, _artifacts(source, section))


def to_encoder(source: Source, section: dict[str, Any], out: Path, arguments: argparse.Namespace) -> None:
    config, state = encoder_only(section, source.state)
    if out.suffix == ".nemo":
        write_nemo(out, config, separate(state), config["target"])
    elif out.suffix == ".ckpt":
        write_lightning(out, config, separate(state))
    elif out.suffix:
        raise ValueError(f"{out}: --to encoder writes .nemo, .ckpt or a directory, not {out.suffix}")
    else:
        write_safetensors_dir(out, config, state)


def to_onnx(source: Source, section: dict[str, Any], out: Path, arguments: argparse.Namespace) -> None:
    if out.suffix != ".onnx":
        raise ValueError(f"{out}: the name of an ONNX file ends in .onnx")
    config, state = encoder_only(section, source.state)
    encoder = build(config["encoder"], TARGETS, "model.encoder")
    weights = {
        key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")
    }
    load_state(encoder, weights, f"{source.path} (encoder)")
    facts = {key: config[key] for key in ("sample_rate", "preprocessor", "encoder")}
    written = export_onnx(encoder, out, arguments.opset, facts)
    if importlib.util.find_spec("onnxruntime") is None:
        log.warning("onnxruntime is not installed: %s is not compared with torch", out)
        return
    try:
        difference = check_onnx(encoder, out)
    except ValueError:
        for path in written:
            path.unlink()
        raise
    log.info("onnxruntime and torch differ by at most %.1e on odd and unequal lengths", difference)


def complete_artifacts(source: Source, section: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that an archive needs; ValueError if the source lacks one: it could not be restored."""
    found = _artifacts(source, section)
    lacking = [name for name in _named(section) if name not in found]
    if lacking or (section.get("tokenizer") and not found):
        raise ValueError(
            f"{source.path} lacks the tokenizer's files {', '.join(lacking)}, without which no model of text "
            "is restored; export the run's final.nemo or best.nemo, or the encoder alone (--to encoder)"
        )
    return found


def _artifacts(source: Source, section: Mapping[str, Any]) -> dict[str, bytes]:
    """Other files of a .nemo archive, such as a tokenizer's, or those of them that lie in a directory."""
    if source.path.is_file():
        path = source.path
        return read_artifacts(path) if is_nemo(path) else {}
    if (source.path / "final.nemo").is_file():
        return read_artifacts(source.path / "final.nemo")
    files = {name: source.path / name for name in _named(section) if Path(name).name == name}
    return {name: file.read_bytes() for name, file in files.items() if file.is_file()}


def _named(section: Any) -> list[str]:
    """The files beside the weights that a configuration names as `nemo:NAME`."""
    if isinstance(section, str):
        return [section.removeprefix("nemo:")] if section.startswith("nemo:") else []
    if isinstance(section, Mapping):
        section = list(section.values())
    return [name for value in section for name in _named(value)] if isinstance(section, list) else []


Writer = Callable[[Source, dict[str, Any], Path, argparse.Namespace], None]
WRITERS: dict[str, Writer] = {
    "nemo": to_nemo,
    "ckpt": to_ckpt,
    "safetensors": to_safetensors,
    "encoder": to_encoder,
    "onnx": to_onnx,
}
