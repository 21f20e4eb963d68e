"""P2: the model's directory and weights: what FunASR would pass over in silence, and stop at nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nest_ssl.checkpoints.funasr_dir import file_path_metas
from nest_ssl.checkpoints.funasr_layout import CONFIG, CONFIGURATION, WEIGHTS
from nest_ssl.checkpoints.funasr_load import CTC_PREFIXES
from nest_ssl.checkpoints.funasr_weights import check_fetched, is_hub_name
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown

SPECIAL = ("<|im_start|>", "<|im_end|>")
RANDOM = (
    "FunASR prints one line at most, goes on with random weights, and the loss starts near ln(vocabulary)."
)


def check_directory(context: Context) -> Iterator[Finding]:
    """Find which of the ways to miss the weights a directory and an init_param are on."""
    found = list(_directory(context)) + list(_init_param(context))
    yield from found
    if context.error is not None:
        yield Finding(
            "error",
            "P2.load",
            str(context.error),
            "The model could not be read or built from its directory; nothing is guessed in its place.",
            "See above." if found else _cure_of(str(context.error)),
        )


def _directory(context: Context) -> Iterator[Finding]:
    folder = context.model_dir
    if folder is None:
        return
    folder = Path(folder)
    if not folder.is_dir():
        hub = is_hub_name(folder)
        yield Finding(
            "error",
            "P2.hub" if hub else "P2.directory",
            f"--model {folder} is no folder",
            "It looks like the name of a model on a hub; nothing is downloaded during a run."
            if hub
            else f"The model is a folder with {CONFIG}, {WEIGHTS}, multilingual.tiktoken and Qwen3-0.6B.",
            "Download it first (modelscope download --model NAME --local_dir DIR, or hf download NAME "
            "--local-dir DIR) and give DIR."
            if hub
            else "Correct the path.",
        )
        return
    if not (folder / CONFIG).is_file():
        inside = shown(sorted(path.name for path in folder.iterdir()), 8) or "nothing"
        yield Finding(
            "error",
            "P2.config",
            f"{folder} has no {CONFIG}; it has {inside}",
            "A run's folder holds its model in model/; a folder of checkpoints holds none.",
            "Give the folder with config.yaml and model.pt; of a run of ours that is OUT/model.",
        )
        return
    stated = (context.base or {}).get("init_param")
    if (folder / CONFIGURATION).is_file():
        yield from _configuration(folder)
    elif (folder / WEIGHTS).is_file() and stated and Path(stated).is_absolute():
        if Path(stated).resolve() != (folder / WEIGHTS).resolve():
            yield Finding(
                "error",
                "P2.base",
                f"{folder / CONFIG} has init_param {stated}, and there is no {CONFIGURATION}",
                f"It is the output folder of a training: FunASR decodes with the weights of {stated}, those "
                f"that the training started from, not with {folder / WEIGHTS}, and says nothing.",
                f"Take the init_param out of {CONFIG}, copy {CONFIGURATION} from the base, or export the "
                "model with python -m nest_ssl.bin.export --to funasr.",
            )
    elif not (folder / WEIGHTS).is_file() and not stated:
        yield Finding(
            "error",
            "P2.missing",
            f"{folder} has neither {WEIGHTS} nor {CONFIGURATION}, and {CONFIG} names no init_param",
            "FunASR stops here with a bare AssertionError or TypeError.",
            f"Copy {WEIGHTS} and {CONFIGURATION} into the folder; downloads of only some files leave them "
            "out.",
        )
    for path in sorted(folder.glob("*.pt")) + sorted(folder.glob("*.safetensors")):
        yield from _pointer(path)


def _configuration(folder: Path) -> Iterator[Finding]:
    path = folder / CONFIGURATION
    try:
        _, absent = file_path_metas(folder)
    except ValueError as error:
        yield Finding(
            "error",
            "P2.configuration",
            str(error),
            "It says where the files of the model are.",
            "Copy it from the published model.",
        )
        return
    for key, name in absent.items():
        yield Finding(
            "error",
            "P2.missing",
            f"{path} names {key}: {name}, and {folder / name} does not exist",
            f"FunASR passes over a file that is not there without a word. {RANDOM}"
            if key == "init_param"
            else "FunASR passes over a file that is not there without a word and looks elsewhere, or "
            "nowhere.",
            f"Copy {name} into {folder}: the whole model is to be downloaded, not only its small files.",
        )


def _init_param(context: Context) -> Iterator[Finding]:
    given = context.overrides.get("init_param")
    if given is None or str(given) in ("", "None", "null"):
        return
    path = Path(str(given))
    if path.exists():
        if path.is_file():
            yield from _pointer(path)
        return
    hub = is_hub_name(path)
    yield Finding(
        "error",
        "P2.init_param",
        f"init_param is {given}, which does not exist",
        ("It looks like the name of a model on a hub; init_param is a file of weights. " if hub else "")
        + f"FunASR prints 'error, init_param does not exist!' and trains on. {RANDOM}",
        "Give the absolute path of a .pt file: of the stage before that is OUT/model/model.pt; a cache path "
        "differs from machine to machine.",
    )


def _pointer(path: Path) -> Iterator[Finding]:
    try:
        check_fetched(path)
    except ValueError as error:
        yield Finding(
            "error",
            "P2.pointer",
            str(error),
            "A clone without git-lfs leaves such a file, or a download that broke off or wanted a log-in.",
            "Run git lfs install && git lfs pull in the clone, or download the file again.",
        )


def _cure_of(error: str) -> str:
    if "llm." in error:
        return (
            "Weights without llm.* come of effective_save_name_excludes [llm.] in the published "
            "configuration: they decode with a random language model. Merge them over the base with "
            "nest_ssl.bin.export, or "
            'train again with ++train_conf.effective_save_name_excludes="None".'
        )
    return "Correct what is named; a complete directory is written by nest_ssl.bin.export --to funasr."


def check_weights(context: Context) -> Iterator[Finding]:
    """Check the weights themselves: values, widths against tokenizers, which parts are there."""
    bad = [name for name, tensor in _named(context) if tensor.is_floating_point() and not _finite(tensor)]
    if bad:
        yield Finding(
            "error",
            "P2.nan",
            f"{len(bad)} tensors hold NaN or infinity: {shown(bad)}",
            "They were saved after a diverged step, or damaged. Every result would be NaN.",
            "Take an earlier checkpoint.",
        )
    yield from _parts(context)
    yield from _vocabulary(context)


def _parts(context: Context) -> Iterator[Finding]:
    names = context.shapes
    if not any(name.startswith("llm.") for name in names):
        yield Finding(
            "error",
            "P2.llm",
            "the weights hold no llm.* at all",
            "They were saved under the published effective_save_name_excludes [llm.]; FunASR decodes them "
            "with a random language model: garbage.",
            "Take the llm.* of the base: nest_ssl.bin.export merges them; or train again with "
            '++train_conf.effective_save_name_excludes="None".',
        )
    if context.config.get("ctc_decoder") and not any(name.startswith(CTC_PREFIXES) for name in names):
        part = context.part
        level: Any = "warning" if part in ("adaptor", "all") else "note"
        yield Finding(
            level,
            "P2.ctc",
            "the weights hold no CTC branch (ctc_decoder.*, ctc.*)",
            "The Hugging Face file comes without it, that of ModelScope with it. Without it there are no "
            "timestamps, no CTC text, no gate against words in silence, and stage 2 would train 39 M "
            "weights from nothing.",
            "Prefer the ModelScope file; or set ctc_weight=0.",
        )


def _vocabulary(context: Context) -> Iterator[Finding]:
    rows = context.shapes.get("llm.model.embed_tokens.weight", (None,))[0]
    tokenizer = context.tokenizer
    if tokenizer is not None and rows is not None:
        size = tokenizer.vocab_size
        if size > rows:
            yield Finding(
                "error",
                "P2.tokenizer",
                f"the tokenizer in {getattr(tokenizer, 'folder', '?')} has {size} tokens, the language "
                f"model's embedding {rows} rows",
                "It is the tokenizer of another model: ids would point behind the table.",
                "Set llm_conf.init_param_path and tokenizer_conf.init_param_path to the model's own "
                "Qwen3-0.6B.",
            )
        broken = [token for token in SPECIAL if len(tokenizer.encode(token)) != 1]
        if broken:
            yield Finding(
                "error",
                "P2.tokenizer",
                f"{', '.join(broken)} is not one token in {getattr(tokenizer, 'folder', '?')}",
                "The chat layout is made of these tokens; the tokenizer is not that of Qwen3, or its added "
                "tokens are missing.",
                "Take the tokenizer of the published model.",
            )
        end = context.llm_config.get("eos_token_id")
        ids = tokenizer.encode("<|im_end|>")
        if len(ids) == 1 and isinstance(end, int) and ids[0] != end:
            yield Finding(
                "error",
                "P2.tokenizer",
                f"<|im_end|> is token {ids[0]}, the language model ends at eos_token_id {end}",
                "The model would be taught an end that decoding does not stop at: it repeats until "
                "max_length.",
                "Take tokenizer and config.json of the same model.",
            )
    classes = context.shapes.get("ctc.ctc_lo.weight", (None,))[0]
    size = getattr(context.ctc_tokenizer, "vocab_size", None)
    if classes is not None and size is not None and size >= classes:
        yield Finding(
            "error",
            "P2.ctc_tokenizer",
            f"the CTC tokenizer has {size} units, the CTC head {classes} classes; the last of them is the "
            "blank",
            "Some units would be the blank, or have no class.",
            "Set dataset_conf.ctc_tokenizer_conf.vocab_path to the model's own multilingual.tiktoken.",
        )


def _named(context: Context) -> list[tuple[str, torch.Tensor]]:
    """Give the tensors that hold values; those of a model on `meta` were looked at when they were read."""
    if context.model is None:
        return list((context.state or {}).items())
    named = [*context.model.named_parameters(), *context.model.named_buffers()]
    return [(name, tensor) for name, tensor in named if not tensor.is_meta]


def _finite(tensor: torch.Tensor) -> bool:
    """True if every value is finite; a sum is enough to see it, and reads the memory once."""
    total = tensor.detach().sum(dtype=torch.float32 if tensor.dtype != torch.float64 else None)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(tensor.detach()).all())
