"""The tokenizer of a language model, read from its Hugging Face folder to count and encode text."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

TOKENIZER, CONFIG, VOCABULARY, MERGES = "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"

# How Qwen2 and Qwen3 cut text before byte pairs are merged; only their folders may lack tokenizer.json here.
QWEN_CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
QWEN_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class LlmTokenizer:
    """Encodes text as the language model in `folder` reads it; picklable, a process loads it when needed.

    folder: with tokenizer.json, or (Qwen2 and Qwen3 only) vocab.json, merges.txt and tokenizer_config.json.
    Raises FileNotFoundError or ValueError naming the folder, and ModuleNotFoundError with the way to install
    the library `tokenizers`.  No weights are read, and no code in the folder is run.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._loaded: Any = None
        self.special = tuple(
            sorted(token.content for token in self._tokenizer().get_added_tokens_decoder().values())
        )

    def encode(self, text: str) -> list[int]:
        """Give the ids of a text; nothing is put before or after it."""
        return list(self._tokenizer().encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Give the text of ids, special tokens included unless they are skipped."""
        return str(self._tokenizer().decode(list(ids), skip_special_tokens=skip_special))

    def count(self, text: str) -> int:
        """Give how many tokens a text has: FunASR's text_length."""
        return len(self._tokenizer().encode(text, add_special_tokens=False).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Give the count of each text, on all cores that the library takes."""
        found = self._tokenizer().encode_batch(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in found]

    def special_in(self, text: str) -> str | None:
        """Give a special token that stands in a text, where it would be read as a command; None without."""
        return next((token for token in self.special if token in text), None)

    @property
    def vocab_size(self) -> int:
        """Give the number of tokens, added ones included."""
        return int(self._tokenizer().get_vocab_size())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def _tokenizer(self) -> Any:
        if self._loaded is None:
            self._loaded = _load(str(self.folder))
        return self._loaded


@lru_cache(maxsize=4)
def _load(folder: str) -> Any:
    """Give the tokenizer of a folder; one per process, as reading takes about a second for 150,000 tokens."""
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading the tokenizer in {folder} needs the library tokenizers: pip install 'nest_ssl[llm]'"
        ) from error
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} is no folder; give the folder of the language model's tokenizer.json, "
            f"for Fun-ASR-Nano its Qwen3-0.6B"
        )
    if (path / TOKENIZER).is_file():
        try:
            found = tokenizers.Tokenizer.from_file(str(path / TOKENIZER))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path / TOKENIZER}: not a tokenizer: {error}") from error
    elif (path / VOCABULARY).is_file() and (path / MERGES).is_file():
        found = _from_parts(tokenizers, path)
    else:
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"{path} has neither {TOKENIZER} nor {VOCABULARY} and {MERGES}; it has {inside}"
        )
    found.no_truncation()
    found.no_padding()
    return found


def _from_parts(tokenizers: Any, path: Path) -> Any:
    """Build Qwen's tokenizer from its older files: NFC, QWEN_PIECES, byte pairs, added tokens."""
    config = _json(path / CONFIG)
    kind = config.get("tokenizer_class")
    if kind not in QWEN_CLASSES:
        raise ValueError(
            f"{path / CONFIG}: tokenizer_class is {kind!r}; without {TOKENIZER} only "
            f"{QWEN_CLASSES[0]} is read. "
            f"Save it with transformers: AutoTokenizer.from_pretrained({str(path)!r}).save_pretrained(...)"
        )
    try:
        model = tokenizers.models.BPE.from_file(str(path / VOCABULARY), str(path / MERGES))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{path}: {VOCABULARY} and {MERGES} do not fit together: {error}") from error
    found = tokenizers.Tokenizer(model)
    found.normalizer = tokenizers.normalizers.NFC()
    found.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(QWEN_PIECES), behavior="isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    found.decoder = tokenizers.decoders.ByteLevel()
    added = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
    for number, token in added:
        flags = {k: bool(token.get(k)) for k in ("single_word", "lstrip", "rstrip", "normalized")}
        one = tokenizers.AddedToken(token["content"], special=bool(token.get("special")), **flags)
        (found.add_special_tokens if token.get("special") else found.add_tokens)([one])
        if found.token_to_id(token["content"]) != int(number):
            raise ValueError(
                f"{path / CONFIG}: added token {token['content']!r} has the id {number}, "
                f"{VOCABULARY} leaves {found.token_to_id(token['content'])} for it"
            )
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it names the class and the added tokens")
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must be an object, not {type(found).__name__}")
    return found
