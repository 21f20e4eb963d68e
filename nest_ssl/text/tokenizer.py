"""SentencePiece tokenizers: trained, read, and used alike by workers, models and decoders."""

from __future__ import annotations

import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from nest_ssl.files.atomic import replaced
from nest_ssl.text.normalization import TextNormalizer

KINDS = ("unigram", "bpe", "char")
MODEL, PIECES, VOCABULARY, REPORT = "tokenizer.model", "tokenizer.vocab", "vocab.txt", "report.json"
SPACE = "\u2581"  # SentencePiece's sign for the gap before a word


class SentencePieceTokenizer:
    """A SentencePiece model (`proto`, its bytes) and the normalisation that goes before it.

    Picklable: a process loads the model when it first needs it.  Ids run from 0 to vocab_size - 1; id 0 is
    the unknown piece in tokenizers made here.
    """

    def __init__(self, proto: bytes, normalizer: TextNormalizer | None = None, source: str = "tokenizer"):
        self.proto = proto
        self.normalizer = normalizer or TextNormalizer(False, False)
        self.source = source
        self._processor: Any = None
        self.vocab_size = int(self._loaded().get_piece_size())

    @classmethod
    def load(
        cls, folder: str | os.PathLike, normalizer: TextNormalizer | None = None
    ) -> SentencePieceTokenizer:
        """Read the tokenizer.model of a folder, and the normalisation that its report.json states, if any."""
        path = Path(folder) / MODEL
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist; python -m nest_ssl.bin.tokenizer --out {folder} makes one"
            )
        report = path.parent / REPORT
        if normalizer is None and report.is_file():
            stated = json.loads(report.read_text(encoding="utf-8")).get("normalization")
            normalizer = TextNormalizer.from_config(stated, f"{report}: normalization")
        return cls(path.read_bytes(), normalizer, str(path))

    def normalize(self, text: str) -> str:
        return self.normalizer(text)

    def encode(self, text: str) -> list[int]:
        """Give the ids of a text, normalised first."""
        return [int(i) for i in self._loaded().encode(self.normalize(text))]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._loaded().decode([int(i) for i in ids]))

    def pieces(self) -> list[str]:
        """Give all pieces in the order of their ids."""
        processor = self._loaded()
        return [str(processor.id_to_piece(i)) for i in range(self.vocab_size)]

    @property
    def unknown_id(self) -> int:
        return int(self._loaded().unk_id())

    def files(self) -> dict[str, bytes]:
        """Give the three files by name that NeMo keeps of a tokenizer."""
        processor = self._loaded()
        pieces = self.pieces()
        scored = "".join(f"{p}\t{processor.get_score(i):g}\n" for i, p in enumerate(pieces))
        words = "".join(f"{_word_piece(p)}\n" for i, p in enumerate(pieces) if i != self.unknown_id)
        return {MODEL: self.proto, PIECES: scored.encode(), VOCABULARY: words.encode()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_processor": None}

    def _loaded(self) -> Any:
        if self._processor is None:
            try:
                self._processor = _sentencepiece().SentencePieceProcessor(model_proto=self.proto)
            except RuntimeError as error:
                raise ValueError(f"{self.source} is no SentencePiece model: {error}") from error
        return self._processor


def train_tokenizer(texts: Iterable[str], kind: str, vocab_size: int | None) -> bytes:
    """Train a SentencePiece model on normalised texts; gives its bytes, the same for the same input.

    kind: unigram, bpe or char.  vocab_size: pieces with the unknown one; None, for char only, takes every
    character.  Raises ValueError with the largest or smallest possible size where vocab_size does not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind of tokenizer is one of {', '.join(KINDS)}, not {kind!r}")
    lines = [text for text in texts if text]
    if not lines:
        raise ValueError("there is no text to train a tokenizer on")
    characters = len(set("".join(lines)) - {" "}) + 1  # and the sign of the gap
    smallest = characters + 1  # and the unknown piece
    if kind == "char":
        if vocab_size is not None and vocab_size < smallest:
            raise ValueError(f"vocab_size {vocab_size} is too small: {smallest} take all characters")
        if vocab_size is not None and vocab_size > smallest:
            raise ValueError(f"vocab_size {vocab_size} is too large: {smallest} is the largest possible")
        vocab_size = smallest
    elif vocab_size is None:
        raise ValueError(f"a {kind} tokenizer needs a vocab_size")
    elif vocab_size < smallest:
        raise ValueError(f"vocab_size {vocab_size} is too small: {smallest} only take the characters")
    model = io.BytesIO()
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            max_sentence_length=1 << 20,
            input_sentence_size=0,
            shuffle_input_sentence=False,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise _too_large(str(error), lines, kind, vocab_size, smallest) from error
    made = SentencePieceTokenizer(model.getvalue()).vocab_size
    if made != vocab_size:
        raise ValueError(f"vocab_size {vocab_size} is too large: {made} is the largest possible for {kind}")
    return model.getvalue()


def write_tokenizer(folder: str | os.PathLike, tokenizer: SentencePieceTokenizer, report: dict) -> None:
    """Write tokenizer.model, tokenizer.vocab, vocab.txt (as NeMo's) and report.json into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    for name, content in {**tokenizer.files(), REPORT: text.encode()}.items():
        with replaced(folder / name) as temporary:
            temporary.write_bytes(content)


class HasPieces(Protocol):
    """What spells texts in pieces."""

    def pieces(self) -> list[str]: ...


def unknown_characters(tokenizer: HasPieces, texts: Iterable[str]) -> Counter[str]:
    """Count the characters of normalised texts that no piece spells."""
    spelled = set("".join(tokenizer.pieces())) | {" "}
    return Counter(c for text in texts for c in text if c not in spelled)


def _too_large(message: str, lines: list[str], kind: str, vocab_size: int, smallest: int) -> ValueError:
    stated = re.search(r"<= (\d+)", message)
    if stated:
        return ValueError(
            f"vocab_size {vocab_size} is too large for this text: {stated.group(1)} is the largest possible"
        )
    return ValueError(f"vocab_size {vocab_size} does not fit a {kind} tokenizer of this text: {message}")


def _word_piece(piece: str) -> str:
    if piece.startswith(SPACE):
        return piece[1:] or SPACE
    return f"##{piece}"


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise ValueError("tokenizers need the package sentencepiece: pip install sentencepiece") from error
    return sentencepiece
