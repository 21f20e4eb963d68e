"""Train a SentencePiece tokenizer on the text of manifests.

Examples:
  python -m nest_ssl.bin.tokenizer --manifest data/ctc/train.jsonl --kind char --out exp/tokenizer
  python -m nest_ssl.bin.tokenizer --manifest a.jsonl --manifest b.jsonl --vocab-size 99 --out exp/t

writes tokenizer.model, tokenizer.vocab, vocab.txt (NeMo's names) and report.json (settings, sizes, which
characters the normalisation dropped).  The same text and settings give the same bytes.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from pathlib import Path

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.terminal import run
from nest_ssl.files.manifest import read_rows
from nest_ssl.text.normalization import TextNormalizer
from nest_ssl.text.tokenizer import (
    KINDS,
    SentencePieceTokenizer,
    train_tokenizer,
    write_tokenizer,
)

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    normalizer = TextNormalizer(not arguments.keep_case, not arguments.keep_punctuation)
    dropped: Counter[str] = Counter()
    texts, empty = read_texts(arguments.manifest, arguments.text_field, normalizer, dropped)
    proto = train_tokenizer(texts, arguments.kind, arguments.vocab_size)
    tokenizer = SentencePieceTokenizer(proto, normalizer)
    ids = [tokenizer.encode(text) for text in texts]
    report = {
        "kind": arguments.kind,
        "vocab_size": tokenizer.vocab_size,
        "normalization": normalizer.as_dict(),
        "manifests": [str(path) for path in arguments.manifest],
        "texts": len(texts),
        "rows_without_text": empty,
        "characters": sum(map(len, texts)),
        "tokens": sum(map(len, ids)),
        "dropped_characters": dict(dropped.most_common()),
    }
    write_tokenizer(arguments.out, tokenizer, report)
    print(
        f"{arguments.out}: {arguments.kind} tokenizer of {tokenizer.vocab_size} pieces from {len(texts)} "
        f"texts ({empty} rows without text), {report['characters']} characters in {report['tokens']} tokens"
    )
    if dropped:
        named = ", ".join(f"{c!r} {n}" for c, n in dropped.most_common(20))
        print(f"characters dropped by the normalisation: {named}")
    return 0


def read_texts(
    manifests: list[Path], field: str, normalizer: TextNormalizer, dropped: Counter[str]
) -> tuple[list[str], int]:
    """Give the normalised texts that are not empty, and the number of rows without one."""
    texts, empty = [], 0
    for manifest in manifests:
        for line, row in read_rows(manifest):
            text = row.get(field)
            if text is not None and not isinstance(text, str):
                raise ValueError(f"{manifest}:{line}: {field} must be a text, not {text!r}")
            text = normalizer(text or "", dropped)
            if text:
                texts.append(text)
            else:
                empty += 1
    if not texts:
        named = ", ".join(str(path) for path in manifests)
        raise ValueError(f"no row of {named} has a {field}; --text-field names another field")
    return texts, empty


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("tokenizer", description=__doc__)
    add = parser.add_argument
    several = "texts to train on; may be repeated"
    add("--manifest", type=Path, action="append", required=True, metavar="FILE", help=several)
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add("--kind", choices=KINDS, default="unigram", help="[%(default)s]")
    size = "pieces, the unknown one among them [char: all characters]"
    add("--vocab-size", type=int, metavar="N", help=size)
    add("--text-field", default="text", metavar="FIELD", help="[%(default)s]")
    add("--keep-case", action="store_true", help="do not make text lower case")
    add("--keep-punctuation", action="store_true", help="do not remove punctuation")
    arguments = parser.parse_args(argv)
    if arguments.vocab_size is None and arguments.kind != "char":
        parser.error(f"--kind {arguments.kind} needs --vocab-size N")
    return arguments


if __name__ == "__main__":
    run(main)
