"""Alignments for readers: as few errors as any, then most equal words, then words that look alike."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nest_ssl.text import readable_alignment
from nest_ssl.text.error_rates import Edit, alignments
from nest_ssl.text.readable_alignment import readable_edits
from tests.text import keyword_oracle as oracle

TEXT = st.lists(st.sampled_from(["a", "ab", "abcdefg", "abcdefh", "abcdefi", "卡"]), max_size=7).map(" ".join)


def most_equal(said: list[str], heard: list[str]) -> int:
    """The most equal words of all alignments with the fewest errors: an error counts 1, each of the words
    that are not equal to one of the other text counts, after that, too."""
    table: dict[tuple[int, int], tuple[int, int]] = {}
    for i in range(len(said) + 1):
        for j in range(len(heard) + 1):
            ways = [(0, 0)] if i == j == 0 else []
            if i and j:
                errors, equal = table[i - 1, j - 1]
                same = said[i - 1] == heard[j - 1]
                ways.append((errors, equal - 1) if same else (errors + 1, equal))
            ways += [(table[i - 1, j][0] + 1, table[i - 1, j][1])] if i else []
            ways += [(table[i, j - 1][0] + 1, table[i, j - 1][1])] if j else []
            table[i, j] = min(ways)
    return -table[len(said), len(heard)][1]


@settings(max_examples=200, deadline=None)
@given(reference=TEXT, hypothesis=TEXT)
@example(
    "yy abcdefgh abcdefgi abcdefgi", "abcdefgj abcdefgj abcdefgh"
)  # one equal word, or pairs that are alike
def test_it_is_an_alignment_with_the_fewest_errors_and_then_most_equal_words(reference, hypothesis):
    said, heard = reference.split(), hypothesis.split()
    edits = readable_edits(reference, hypothesis)
    assert sum(edit.errors for edit in edits) == oracle.distance(said, heard)
    i = j = equal = 0
    for edit in edits:
        assert (edit.reference_start, edit.hypothesis_start) == (i, j)
        i, j = edit.reference_end, edit.hypothesis_end
        pair = said[edit.reference_start : i], heard[edit.hypothesis_start : j]
        assert (pair[0] == pair[1]) == (edit.kind == "equal")
        if edit.kind == "substitute":
            assert len(pair[0]) == len(pair[1])
        equal += len(pair[0]) if edit.kind == "equal" else 0
    assert (i, j) == (len(said), len(heard))
    assert equal == most_equal(said, heard)


def test_words_that_look_alike_are_paired():
    assert readable_edits("please hold", "please i told") == [
        Edit("equal", 0, 1, 0, 1),
        Edit("insert", 1, 1, 1, 2),
        Edit("substitute", 1, 2, 2, 3),
    ]


def test_a_text_too_long_for_it_has_the_alignment_of_jiwer(monkeypatch):
    texts = "is lost", "lost it"
    [plain] = alignments([texts[0]], [texts[1]], "words")
    assert readable_edits(*texts) != plain
    monkeypatch.setattr(readable_alignment, "LARGEST", 3)
    assert readable_edits(*texts) == plain
