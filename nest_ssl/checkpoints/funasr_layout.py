"""The files of FunASR's model directories: their names, the keys for them, and what is wrong with one."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

from nest_ssl.checkpoints.funasr_weights import check_fetched

CONFIG, CONFIGURATION, WEIGHTS = "config.yaml", "configuration.json", "model.pt"
RANKS, CMVN = "multilingual.tiktoken", "am.mvn"
MODEL = "FunASRNano"
DTYPES = ("kept", "fp32", "upstream")  # in which weights are written

# Key of ModelDir.files -> dotted key of the configuration that names it.
LLM, TOKENIZER, CTC_VOCAB, CMVN_FILE = "llm", "tokenizer", "ctc_vocab", "cmvn"
KEYS = {
    LLM: "llm_conf.init_param_path",
    TOKENIZER: "tokenizer_conf.init_param_path",
    CTC_VOCAB: "dataset_conf.ctc_tokenizer_conf.vocab_path",
    CMVN_FILE: "frontend_conf.cmvn_file",
}


def lost_file(name: str, key: str, given: Path, directory: Path) -> str:
    """The message about a file of a model directory that is nowhere."""
    what = {
        LLM: "the folder with config.json and tokenizer.json of the language model (it needs no weights)",
        TOKENIZER: "the folder with the tokenizer of the language model",
        CTC_VOCAB: "the units of the CTC tokenizer",
        CMVN_FILE: "the mean and variance of the features",
    }[name]
    return (
        f"{directory / CONFIG}: {key} is {given}, which does not exist, also not in {directory}; it is "
        f"{what}. Nothing is downloaded: copy it to {directory / given.name} from the released model"
    )


def check_llm_folder(folder: Path, key: str) -> None:
    """Raise ValueError unless the folder has a model's config.json."""
    path = folder / "config.json"
    if not path.is_file():
        inside = (
            ", ".join(sorted(f.name for f in folder.iterdir())[:8]) if folder.is_dir() else "it is a file"
        )
        raise FileNotFoundError(
            f"{key}: {folder} has no config.json ({inside or 'it is empty'}); copy the folder of the "
            "language model from the released one"
        )
    check_fetched(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise ValueError(f"{path} is no configuration of a language model: it has no model_type")


def check_ranks(path: Path) -> int:
    """The number of units of a tiktoken file; ValueError naming the line of one that is damaged.

    Each line is `BASE64 RANK`.  tiktoken itself fails on a damaged file with `Incorrect padding`.
    """
    check_fetched(path)
    ranks = set()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line:
            continue
        parts = line.split()
        try:
            if len(parts) != 2:
                raise ValueError("it is not `BASE64 RANK`")
            base64.b64decode(parts[0], validate=True)
            ranks.add(int(parts[1]))
        except (binascii.Error, ValueError) as error:
            raise ValueError(
                f"{path}:{number}: no unit of a tokenizer: {error} ({line[:40]!r}); the file is damaged or "
                "another one: copy it from the released model again"
            ) from error
    return len(ranks)
