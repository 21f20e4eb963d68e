"""Tokenizers of a new small model: a language model's and a CTC head's, whose pieces are single bytes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path

from nest_ssl.files.atomic import replaced

# Qwen's control tokens that a chat with Fun-ASR-Nano has; the turn's end is the end of the sentence.
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINKING = ("<think>", "</think>")
END_OF_TURN, PADDING = "<|im_end|>", "<|endoftext|>"
BYTES = 256


def write_byte_tokenizer(folder: str | os.PathLike, whole: Sequence[str] = ()) -> int:
    """Write tokenizer.json and tokenizer_config.json of a byte-level tokenizer; gives its number of tokens.

    A text becomes one token per byte of its UTF-8, numbers 0 to 255 (0 is "!", as in Qwen's vocabulary),
    except Qwen's control tokens and the strings in `whole`, which are one token each: the fixed parts of a
    prompt would otherwise be longer than most answers.  Raises ValueError for a string in `whole` that is
    empty, a single byte, double or a control token, and ModuleNotFoundError without the library `tokenizers`.
    """
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'a new tokenizer needs the library tokenizers: pip install -e ".[llm]"'
        ) from error
    for piece in whole:
        if not isinstance(piece, str) or len(piece.encode()) < 2 or whole.count(piece) > 1:
            raise ValueError(f"{piece!r} cannot be a whole piece: each is a different text of several bytes")
        if piece in (*CONTROL_TOKENS, *THINKING):
            raise ValueError(f"{piece!r} is a control token already; leave it out of the whole pieces")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert len(letters) == BYTES
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()

    def token(content: str, special: bool) -> tokenizers.AddedToken:
        return tokenizers.AddedToken(content, special=special, normalized=False)

    made.add_special_tokens([token(content, True) for content in CONTROL_TOKENS])
    made.add_tokens([token(content, False) for content in (*THINKING, *whole)])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / "tokenizer.json") as temporary:
        temporary.write_text(made.to_str(pretty=True), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TURN,
        "pad_token": PADDING,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
    }
    with replaced(folder / "tokenizer_config.json") as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return int(made.get_vocab_size())


def write_byte_ranks(path: str | os.PathLike) -> int:
    """Write a tiktoken ranks file whose pieces are the 256 bytes; gives their number.

    With the 1,679 special tokens that the tokenizer appends and the blank, a CTC head over it has 1,936
    classes (`ctc_vocab_size`).
    """
    lines = (f"{base64.b64encode(bytes([value])).decode()} {value}" for value in range(BYTES))
    with replaced(Path(path)) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")
    return BYTES
