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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.terminal import run, start_logging
from nest_ssl.config import apply_overrides, load_config, resolved, suggestion
from nest_ssl.files.manifest import check_is_file
from nest_ssl.models.initialisation import initial_sections

INIT_KEYS = ("encoders", "llm", "whole_pieces", "tokenizer_from", "ctc_ranks_from")
ENCODER_KEYS = ("audio_encoder", "audio_encoder_conf", "frontend", "frontend_conf")


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    start_logging()
    if arguments.out.exists() and not arguments.force:
        raise ValueError(
            f"{arguments.out} exists; take another --out, or --force to replace a model directory"
        )
    for path in arguments.texts or ():
        check_is_file(path)
    config, init = configuration(arguments)

    # the words and files are right: only now torch, which takes seconds
    from nest_ssl.bin.init_model_run import init_model

    return init_model(arguments, config, init)


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


def sections_of(source: Path, section: dict[str, Any]) -> dict[str, Any]:
    """Give the encoder's and the front end's settings of a NEST model; `freeze` stays as the YAML says."""
    found = initial_sections(source)
    encoder = {key: value for key, value in found["encoder"].items() if key != "_target_"}
    if "freeze" in section.get("audio_encoder_conf", {}):
        encoder["freeze"] = section["audio_encoder_conf"]["freeze"]
    frontend = {key: value for key, value in found["preprocessor"].items() if key != "_target_"}
    return {"audio_encoder_conf": encoder, "frontend_conf": frontend}


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
