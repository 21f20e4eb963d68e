"""Normalisation, tokenizers, error rates and label sequences, against their definitions."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter

import pytest

from nest_ssl.text.ctc_labels import collapse, frames_needed
from nest_ssl.text.error_rates import character_errors, word_errors
from nest_ssl.text.normalization import TextNormalizer
from nest_ssl.text.tokenizer import SentencePieceTokenizer, train_tokenizer, write_tokenizer

TEXTS = ["hello world how are you", "the agent is logged on", "please press one"] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don’t stop -- e-mail me!", "don't stop e mail me"),
        ("...to 'quote' it.", "to quote it"),
        ("  Ñandú\t42 ½ ", "ñandú 42 12"),  # NFKC: one half is 1⁄2, and the fraction slash goes
        ("¿Qué?", "qué"),
        ("他说‘好’吧, it’s ok", "他说好吧 it's ok"),
    ],
)
def test_text_is_lower_case_words_with_single_spaces(text, expected):
    assert TextNormalizer()(text) == expected


def test_what_normalisation_drops_is_counted_and_both_halves_can_be_left_out():
    dropped: Counter[str] = Counter()
    TextNormalizer()("Yes, yes. Don't", dropped)
    assert dropped == {",": 1, ".": 1}
    assert TextNormalizer(False, False)("Yes,  No.") == "Yes, No."
    with pytest.raises(ValueError, match=r"model\.x\.lower: True"):
        TextNormalizer.from_config({"lower": True}, "model.x")


def test_collapse_is_repeats_then_blanks():
    for path in itertools.product(range(3), repeat=5):
        slow = [label for label, _ in itertools.groupby(path) if label != 2]
        assert collapse(path, blank=2) == slow


def test_frames_needed_is_the_shortest_path_that_says_the_labels():
    shortest: dict[tuple[int, ...], int] = {}
    for length in range(7):
        for path in itertools.product(range(3), repeat=length):
            shortest.setdefault(tuple(collapse(path, blank=2)), length)
    for labels, length in shortest.items():
        assert frames_needed(labels) == length


@pytest.mark.parametrize(("kind", "size"), [("char", None), ("unigram", 24), ("bpe", 40)])
def test_a_tokenizer_gives_texts_back_and_is_the_same_every_time(kind, size, tmp_path):
    proto = train_tokenizer(TEXTS, kind, size)
    assert proto == train_tokenizer(TEXTS, kind, size)
    tokenizer = pickle.loads(pickle.dumps(SentencePieceTokenizer(proto, TextNormalizer())))
    assert size is None or tokenizer.vocab_size == size
    for text in TEXTS:
        ids = tokenizer.encode(text.upper() + "!")
        assert tokenizer.decode(ids) == text
        assert all(0 < i < tokenizer.vocab_size for i in ids)
    write_tokenizer(tmp_path, tokenizer, {"normalization": tokenizer.normalizer.as_dict()})
    again = SentencePieceTokenizer.load(tmp_path)
    assert (again.proto, again.normalizer) == (proto, TextNormalizer())
    assert len((tmp_path / "vocab.txt").read_text().splitlines()) == tokenizer.vocab_size - 1


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_too_many_pieces_are_refused_with_the_largest_number_that_works(kind):
    with pytest.raises(ValueError, match=r"vocab_size 5000 is too large.* (\d+) is the largest") as caught:
        train_tokenizer(TEXTS, kind, 5000)
    largest = int(str(caught.value).split(":")[-1].split()[0])
    assert SentencePieceTokenizer(train_tokenizer(TEXTS, kind, largest)).vocab_size == largest


def test_too_few_pieces_and_no_text_are_refused():
    with pytest.raises(ValueError, match="too small: 18 only take the characters"):
        train_tokenizer(TEXTS, "bpe", 5)
    with pytest.raises(ValueError, match="18 take all"):
        train_tokenizer(TEXTS, "char", 5)
    with pytest.raises(ValueError, match="no text"):
        train_tokenizer(["", ""], "char", None)
    with pytest.raises(ValueError, match="no SentencePiece model"):
        SentencePieceTokenizer(b"nonsense")


def edits(a: list, b: list) -> int:
    """Levenshtein distance, the slow way."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def test_error_counts_are_edit_distances_and_empty_references_count_insertions():
    references = ["a b c", "", "press one now", "x"]
    hypotheses = ["a c c", "z z", "press won", ""]
    words, characters = word_errors(references, hypotheses), character_errors(references, hypotheses)
    assert words.errors == sum(
        edits(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)
    )
    assert words.total == 7
    assert characters.errors == sum(
        edits(list(r), list(h)) for r, h in zip(references, hypotheses, strict=True)
    )
    assert characters.total == 5 + 13 + 1
    assert words.rate == words.errors / 7
    with pytest.raises(ValueError, match="2 references and 1"):
        word_errors(["a", "b"], ["a"])
