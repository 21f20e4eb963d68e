"""The work of the verb init_model: widths, tokenizers, weights."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nest_ssl.checkpoints.funasr_layout import CTC_VOCAB, LLM, RANKS
from nest_ssl.checkpoints.funasr_writer import write_model_dir
from nest_ssl.checkpoints.source import read_source, unwrapped_encoder
from nest_ssl.checkpoints.state import load_state
from nest_ssl.files.manifest import read_rows
from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.text.byte_tokenizers import END_OF_TURN, PADDING, write_byte_ranks, write_byte_tokenizer
from nest_ssl.text.normalization import TextNormalizer

UNHEARD = -8.0  # bias of a CTC unit that the texts do not have
LLM_FOLDER = "Qwen3-0.6B"  # the published layout's name


def init_model(arguments: argparse.Namespace, config: dict[str, Any], init: dict[str, Any]) -> int:
    """Make the model directory of a configuration and its section `init`; gives the exit status."""
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
