"""Make a new Fun-ASR-Nano model directory: random weights, or the encoder of a NEST model in them.

Examples:
  python -m nest_ssl.bin.init_model --config egs/asterisk/conf/model.yaml --out exp/small/init \\
      --encoder-from exp/small/pretrain/final.nemo
  python -m nest_ssl.bin.init_model --config egs/asterisk/conf/model.yaml --out exp/a --encoder sanm

The YAML is FunASR's configuration, with a section `init` of what only this verb reads:
  encoders: {NAME: {audio_encoder, audio_encoder_conf, frontend, frontend_conf, and any other key
    of the configuration that differs with this encoder}}, of which --encoder takes one
  llm: sizes of the Qwen3 language model
  whole_pieces: texts that are one token each; all others are tokens of one byte
  tokenizer_from, ctc_ranks_from: a language model's tokenizer and a tiktoken file to take instead
Settings are changed by KEY=VALUE words as in Hydra (+KEY= adds, ~KEY removes).
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.terminal import run, start_logging
from nest_ssl.checkpoints.funasr_layout import CTC_VOCAB, LLM, RANKS
from nest_ssl.checkpoints.funasr_writer import write_model_dir
from nest_ssl.checkpoints.source import read_source, unwrapped_encoder
from nest_ssl.checkpoints.state import load_state
from nest_ssl.config import apply_overrides, load_config, resolved, suggestion
from nest_ssl.files.manifest import read_rows
from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.models.initialisation import initial_sections
from nest_ssl.text.byte_tokenizers import END_OF_TURN, PADDING, write_byte_ranks, write_byte_tokenizer
from nest_ssl.text.normalization import TextNormalizer

log = logging.getLogger(__name__)

INIT_KEYS = ("encoders", "llm", "whole_pieces", "tokenizer_from", "ctc_ranks_from")
ENCODER_KEYS = ("audio_encoder", "audio_encoder_conf", "frontend", "frontend_conf")
UNHEARD = -8.0  # bias of a CTC unit that the texts do not have
LLM_FOLDER = "Qwen3-0.6B"  # the published layout's name


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    start_logging()
    config, init = configuration(arguments)
    if arguments.out.exists() and not arguments.force:
        raise ValueError(
            f"{arguments.out} exists; take another --out, or --force to replace a model directory"
        )
    with tempfile.TemporaryDirectory(prefix="nest_init_") as temporary:
        parts = Path(temporary)
        fit_widths(config, init)
        write_parts(parts, config, init)
        torch.manual_seed(arguments.seed)
        model = FunASRNano(config, parts)
        made = f"random weights, seed {arguments.seed}"
        if arguments.encoder_from is not None:
            account = take_encoder(model, arguments.encoder_from)
            made += f"; audio_encoder from {arguments.encoder_from}: {account}"
        if arguments.texts:
            made += f"; {expect_texts(model, arguments.texts)}"
        config["nest_ssl"] = {**(config.get("nest_ssl") or {}), "stage": "init", "base": made}
        files = {LLM: parts / LLM_FOLDER}
        if (parts / RANKS).is_file():
            files[CTC_VOCAB] = parts / RANKS
        write_model_dir(arguments.out, config, model.state_dict(), files, dtype="fp32")
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{arguments.out}: {config['audio_encoder']}, {count:,} parameters, {made}")
    return 0


def configuration(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the model's configuration with the chosen encoder in it, and the section `init`."""
    name = str(arguments.config)
    given = load_config(arguments.config)
    if "init" not in given:
        raise ValueError(f"{name}: the section init is missing; it holds the language model's sizes (llm)")
    encoders = resolved(given.init, "init").get("encoders") or {}
    chosen = arguments.encoder or next(iter(encoders), None)
    if chosen not in encoders:
        raise ValueError(
            f"--encoder {chosen}: {name} has {', '.join(encoders) or 'none'} under init.encoders"
        )
    section = dict(encoders[chosen])
    for key in ENCODER_KEYS:
        if key not in section:
            raise ValueError(f"{name}: init.encoders.{chosen}.{key} is missing")
    if arguments.encoder_from is not None:
        if section.get("audio_encoder") != "ConformerEncoder":
            raise ValueError(
                f"--encoder-from: {chosen} is a {section.get('audio_encoder')}, a NEST encoder is a "
                "ConformerEncoder; leave out --encoder-from or choose another --encoder"
            )
        section |= sections_of(arguments.encoder_from, section)
    OmegaConf.set_struct(given, False)
    merged = OmegaConf.merge(given, OmegaConf.create(section))
    assert isinstance(merged, DictConfig)
    apply_overrides(merged, arguments.overrides)
    config: dict[str, Any] = resolved(merged, name)
    init = config.pop("init")
    for key in init:
        if key not in INIT_KEYS:
            raise ValueError(f"{name}: init.{key}: there is no such key; {suggestion(key, INIT_KEYS)}")
    return config, init


def fit_widths(config: dict[str, Any], init: dict[str, Any]) -> None:
    """Set the widths of adaptor and CTC decoder that follow from the encoder and the language model."""
    encoder = config["audio_encoder_conf"]
    width = encoder.get("d_model") or encoder.get("output_size")
    config.setdefault("audio_adaptor_conf", {}).update(encoder_dim=width)
    if (llm := (init.get("llm") or {}).get("hidden_size")) is not None:
        config["audio_adaptor_conf"]["llm_dim"] = llm
    if config.get("ctc_decoder"):
        config.setdefault("ctc_decoder_conf", {}).update(encoder_dim=width, llm_dim=width)


def expect_texts(model: FunASRNano, manifests: Sequence[Path]) -> str:
    """Tell the CTC head which units occur in the normalised texts: the others start at e**UNHEARD of them.

    With a bias of 0 for all, the first hundred updates of a training go into learning just this.
    """
    if model.ctc is None or model.ctc_tokenizer is None:
        raise ValueError("--texts: the model has no CTC head; leave it out")
    normalize = TextNormalizer()
    heard = {model.blank_id}
    for manifest in manifests:
        for _, row in read_rows(manifest):
            heard.update(model.ctc_tokenizer.encode(normalize(row.get("text") or "")))
    if len(heard) == 1:
        raise ValueError(f"--texts: there is no text in {', '.join(map(str, manifests))}")
    layer = model.ctc.ctc_lo
    with torch.no_grad():
        torch.nn.init.xavier_uniform_(layer.weight)
        layer.bias.fill_(UNHEARD)
        layer.bias[sorted(heard)] = 0.0
    return f"{len(heard) - 1} of {layer.out_features - 1} CTC units occur in the texts"


def sections_of(source: Path, section: dict[str, Any]) -> dict[str, Any]:
    """Give the encoder's and the front end's settings of a NEST model; `freeze` stays as the YAML says."""
    found = initial_sections(source)
    encoder = {key: value for key, value in found["encoder"].items() if key != "_target_"}
    if "freeze" in section.get("audio_encoder_conf", {}):
        encoder["freeze"] = section["audio_encoder_conf"]["freeze"]
    frontend = {key: value for key, value in found["preprocessor"].items() if key != "_target_"}
    return {"audio_encoder_conf": encoder, "frontend_conf": frontend}


def write_parts(folder: Path, config: dict[str, Any], init: dict[str, Any]) -> None:
    """Write the tokenizers and the language model's configuration where the model looks for them."""
    from transformers import Qwen3Config

    llm = folder / LLM_FOLDER
    if init.get("tokenizer_from"):
        taken = Path(init["tokenizer_from"])
        if not (taken / "tokenizer.json").is_file():
            raise FileNotFoundError(f"init.tokenizer_from: {taken / 'tokenizer.json'} does not exist")
        llm.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (taken / name).is_file():
                shutil.copyfile(taken / name, llm / name)
    else:
        write_byte_tokenizer(llm, init.get("whole_pieces") or ())
    tokens = json.loads((llm / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in tokens["added_tokens"]}
    size = 1 + max(*ids.values(), *tokens["model"]["vocab"].values())
    sizes = {"vocab_size": size, "eos_token_id": ids.get(END_OF_TURN), "bos_token_id": ids.get(PADDING)}
    Qwen3Config(architectures=["Qwen3ForCausalLM"], **{**sizes, **(init.get("llm") or {})}).save_pretrained(
        llm
    )
    if config.get("ctc_decoder"):
        if init.get("ctc_ranks_from"):
            shutil.copyfile(init["ctc_ranks_from"], folder / RANKS)
        else:
            write_byte_ranks(folder / RANKS)
        units = config.setdefault("dataset_conf", {}).setdefault("ctc_tokenizer_conf", {})
        units["vocab_path"] = str(folder / RANKS)  # written as null: configuration.json finds it


def take_encoder(model: FunASRNano, source: Path) -> str:
    """Load all weights of the encoder from a NEST checkpoint; gives the account of the keys."""
    state, _ = unwrapped_encoder(read_source(source).state)
    inside = {key[len("encoder.") :]: value for key, value in state.items() if key.startswith("encoder.")}
    if not inside:
        raise ValueError(f"{source} has no encoder.* weights; take the .nemo file or the run of a NEST model")
    return load_state(model.audio_encoder, inside, f"{source} (encoder.*)").told()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("init_model", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="YAML of the model with its section init")
    add("--out", type=Path, required=True, metavar="DIR", help="the model directory to make")
    add("--encoder", metavar="NAME", help="one of init.encoders [the first one]")
    nest = "NEST model whose encoder is taken, with its settings"
    add("--encoder-from", type=Path, metavar="PATH", help=nest)
    texts = "manifest whose texts the CTC head is to expect; may be repeated"
    add("--texts", type=Path, action="append", metavar="FILE", help=texts)
    add("--seed", type=int, default=0, metavar="N", help="of the random weights [%(default)s]")
    add("--force", action="store_true", help="replace what is in --out")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change")
    return parser.parse_intermixed_args(argv)


if __name__ == "__main__":
    run(main)
