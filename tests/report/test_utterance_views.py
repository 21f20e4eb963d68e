"""Which utterances are shown, and how their texts are cut into aligned words."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nest_ssl.report.utterance_views import LONGEST_PIECE, MOST_CHARACTERS, system_text, worst_utterances


def row(key: str, errors: int, characters: int = 10, system: str = "lora", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"system": system, "key": key, "errors": errors, "characters": characters}
    return found | {"reference": "r", "hypothesis": "h", "edits": [["substitute", "r", "h"]]} | more


def keys(utterances: list) -> list[str]:
    return [utterance.key for utterance in utterances]


def test_most_errors_come_first_and_highest_rates_are_of_the_others():
    rows = [row("long", 9, 100), row("short", 2, 1), row("middle", 4, 10), row("right", 0)]
    system, by_errors, by_rate = worst_utterances(rows, most=1)
    assert system == "lora"
    assert keys(by_errors) == ["long"]
    assert keys(by_rate) == ["short"]


def test_the_last_system_decides_and_former_ones_follow():
    rows = [row("a", 9, system="base"), row("a", 1), row("b", 0, system="base"), row("b", 2)]
    _, by_errors, _ = worst_utterances(rows)
    assert keys(by_errors) == ["b", "a"]
    assert [text.system for text in by_errors[1].texts] == ["lora", "base"]


def test_words_where_nothing_was_said_are_the_highest_rate():
    rows = [row("noise", 3, 0, reference="", edits=[["insert", "", "hhh"]]), row("other", 9, 9), row("x", 99)]
    _, _, by_rate = worst_utterances(rows, most=1)
    assert keys(by_rate) == ["noise"]
    assert by_rate[0].texts[0].rate is None


def test_no_rows_and_no_errors_give_nothing():
    assert worst_utterances([]) == ("", [], [])
    assert worst_utterances([row("a", 0)]) == ("lora", [], [])


def pieces(reference: str, hypothesis: str) -> list[tuple[str, str, str]]:
    text = system_text(row("a", 1, edits=[["any", reference, hypothesis]]))
    return [(p.kind, p.reference, p.hypothesis) for word in text.words for p in word]


def test_kinds_are_told_by_what_is_there():
    assert pieces("a", "a") == [("same", "a", "a")]
    assert pieces("a", "b") == [("sub", "a", "b")]
    assert pieces("a", "") == [("del", "a", "")]
    assert pieces("", "b") == [("ins", "", "b")]


def test_a_line_may_end_after_a_space_and_after_a_chinese_character():
    text = system_text(row("a", 1, edits=[["equal", "one two", "one two"], ["equal", "密码", "密码"]]))
    assert ["".join(p.reference for p in word) for word in text.words] == ["one ", "two密", "码"]


def test_a_word_with_an_error_within_stays_together():
    text = system_text(
        row("a", 1, edits=[["equal", "ca", "ca"], ["substitute", "t", "r"], ["equal", "s", "s"]])
    )
    assert [len(word) for word in text.words] == [3]


@given(st.lists(st.tuples(st.text("ab 密", max_size=40), st.text("ab 密", max_size=40)), max_size=6))
def test_words_join_to_the_texts(edits):
    text = system_text(row("a", 1, edits=[["any", *edit] for edit in edits]))
    for side, of in ((0, "reference"), (1, "hypothesis")):
        joined = "".join(getattr(piece, of) for word in text.words for piece in word)
        assert joined == "".join(edit[side] for edit in edits)
    assert not text.cut


def test_long_stretches_are_cut_into_short_pieces():
    assert all(len(reference) <= LONGEST_PIECE for _, reference, _ in pieces("a" * 300, "b" * 300))


def test_a_very_long_text_is_cut_and_says_so():
    text = system_text(row("a", 1, edits=[["delete", "a" * (2 * MOST_CHARACTERS), ""]]))
    assert text.cut
    assert sum(len(p.reference) for word in text.words for p in word) <= MOST_CHARACTERS


def test_a_failed_utterance_and_its_keywords_are_shown():
    text = system_text(row("a", 1, error="no audio", keywords={"missed": ["pin"], "false": ["pad"]}))
    assert (text.error, text.missed, text.false) == ("no audio", ["pin"], ["pad"])
