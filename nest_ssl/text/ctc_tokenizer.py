"""The units of Fun-ASR's CTC branch: byte pairs as GPT-2 cuts them, and SenseVoice's special tokens."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

# How GPT-2 cuts text before byte pairs are merged.
PIECES = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# Whisper's languages in its order, and those that SenseVoice put behind them.
LANGUAGES = (
    *("en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id"),
    *("hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg"),
    *("lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br"),
    *("eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so"),
    *("af", "oc", "ka", "be", "tg", "sd", "gu", "am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt"),
    *("sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su"),
    *("yue", "minnan", "wuyu", "dialect", "zh/en", "en/zh"),
)
EVENTS = (
    "ASR",
    "AED",
    "SER",
    *(f"{m}{e}" for e in ("Speech", "BGM", "Laughter", "Applause") for m in ("", "/")),
)
EMOTIONS = ("HAPPY", "SAD", "ANGRY", "NEUTRAL")
TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
TIMES = tuple(f"{i * 0.02:.2f}" for i in range(1501))  # seconds

SPECIALS = tuple(
    f"<|{name}|>"
    for name in (
        "endoftext",
        "startoftranscript",
        *LANGUAGES,
        *EVENTS,
        *EMOTIONS,
        *TASKS,
        *(f"SPECIAL_TOKEN_{i}" for i in range(1, 51)),
        *TIMES,
    )
)


class SenseVoiceTokenizer:
    """Ids of text by the ranks file `vocab_path`; picklable, a process reads the file when it is needed.

    The file has a line per byte pair, base64 of its bytes and its rank; behind the ranks come the 1679
    SPECIALS in order.  `is_multilingual` and `num_languages` are FunASR's keys: all languages are taken.
    Raises FileNotFoundError or ValueError naming the file, and ModuleNotFoundError with the way to install
    the library `tiktoken`.
    """

    def __init__(
        self, vocab_path: str | os.PathLike, is_multilingual: bool = True, num_languages: int = 8749
    ):
        if num_languages < len(LANGUAGES):
            raise ValueError(
                f"num_languages: {num_languages} would leave languages out; SenseVoice has {len(LANGUAGES)}"
            )
        self.vocab_path = Path(vocab_path)
        self._loaded: Any = None
        if not self.vocab_path.is_file():
            raise FileNotFoundError(
                f"{self.vocab_path} does not exist; give the ranks of the CTC tokenizer, for Fun-ASR-Nano "
                f"its multilingual.tiktoken"
            )

    def encode(self, text: str) -> list[int]:
        """Give the ids of a text; special tokens written in it count as plain text."""
        return list(self._encoding().encode(text, disallowed_special=()))

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids; incomplete characters become U+FFFD.

        Times and ids from `vocab_size` on, such as the blank, are left away, as in FunASR.
        """
        first_time = self.vocab_size - len(TIMES)
        return str(self._encoding().decode([i for i in ids if i < first_time]))

    @property
    def vocab_size(self) -> int:
        """Give the number of ids, special ones included; the CTC blank comes on top."""
        return int(self._encoding().n_vocab)

    def get_vocab_size(self) -> int:
        """Give vocab_size, under FunASR's name."""
        return self.vocab_size

    @property
    def special(self) -> dict[str, int]:
        """Give the ids of the special tokens."""
        first = self.vocab_size - len(SPECIALS)
        return {token: first + i for i, token in enumerate(SPECIALS)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def _encoding(self) -> Any:
        if self._loaded is None:
            self._loaded = _load(str(self.vocab_path))
        return self._loaded


@lru_cache(maxsize=4)
def _load(path: str) -> Any:
    try:
        import tiktoken
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading the CTC units in {path} needs the library tiktoken: pip install 'nest_ssl[llm]'"
        ) from error
    ranks = read_ranks(path)
    specials = {token: len(ranks) + i for i, token in enumerate(SPECIALS)}
    return tiktoken.Encoding(
        name=Path(path).name,
        explicit_n_vocab=len(ranks) + len(SPECIALS),
        pat_str=PIECES,
        mergeable_ranks=ranks,
        special_tokens=specials,
    )


def read_ranks(path: str | os.PathLike) -> dict[bytes, int]:
    """Read bytes -> rank, from 0 without a gap; ValueError names file and line."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            text, rank = line.split()
            token = base64.b64decode(text, validate=True)
            value = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(
                f"{path}:{number}: {line[:40]!r} is not base64 and a rank ({error}); copy the file again, it "
                f"may be a Git LFS pointer or a web page"
            ) from error
        if token in ranks or value != len(ranks):
            raise ValueError(
                f"{path}:{number}: rank {value} where {len(ranks)} is due, or its bytes came before"
            )
        ranks[token] = value
    if not ranks:
        raise ValueError(f"{path}: has no line of base64 and rank")
    return ranks
