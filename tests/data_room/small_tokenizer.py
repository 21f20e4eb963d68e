"""A byte-level tokenizer with the special tokens of Qwen, small enough to be made in a test."""

import json
from pathlib import Path

from nest_ssl.text.llm_tokenizer import QWEN_PIECES

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (("ä", "½"), ("ä½", "ł"), ("å", "¥"), ("å¥", "½"), ("h", "e"), ("l", "l"), ("he", "ll"))


def byte_characters() -> list[str]:
    """The 256 characters that stand for bytes in byte-level tokenizers, in the order of the bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]


def write_tokenizer(folder: Path, parts: bool = False) -> Path:
    """Write it as tokenizer.json, or as the three older files; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = byte_characters() + ["".join(pair) for pair in MERGES]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    added = [
        {"id": len(tokens) + i, "content": token, "special": True, "single_word": False}
        | dict.fromkeys(("lstrip", "rstrip", "normalized"), False)
        for i, token in enumerate(SPECIAL)
    ]
    if parts:
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        config = {
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": {str(token["id"]): token for token in added},
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN_PIECES}, "behavior": "Isolated", "invert": False}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_only]},
        "post_processor": None,
        "decoder": bytes_only,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [" ".join(pair) for pair in MERGES]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder
