"""Error rates of systems: against jiwer on the normalised texts, and their bookkeeping."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.text.error_rates import alignments
from nest_ssl.text.hypotheses import System, Utterance, joined_references, read_references, read_system
from nest_ssl.text.keywords import Keywords
from nest_ssl.text.normalization import TextNormalizer
from nest_ssl.text.scored_text import scored_characters, scored_words
from nest_ssl.text.scoring import score

TEXT = st.text(alphabet="abc dE'.!?-ñ 你好卡，Ａ", max_size=14)


def system(name: str, texts: list[str | None], **fields: list[str]) -> System:
    rows = {}
    for i, text in enumerate(texts):
        rows[f"u{i}"] = {"key": f"u{i}"} | ({"error": "unreadable"} if text is None else {"text": text})
        rows[f"u{i}"] |= {field: values[i] for field, values in fields.items()}
    return System(name, Path(f"{name}.jsonl"), rows)


def said(texts: list[str]) -> dict[str, Utterance]:
    return {f"u{i}": Utterance(text, 1.0) for i, text in enumerate(texts)}


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_rates_are_those_of_jiwer_on_the_normalised_texts(pairs):
    references, hypotheses = ([pair[i] for pair in pairs] for i in (0, 1))
    row = score([system("a", hypotheses)], said(references), rounds=2).rows[0]
    for metric, cut, peer in (("cer", scored_characters, jiwer.cer), ("wer", scored_words, jiwer.wer)):
        scored = [(cut(r), cut(h)) for r, h in pairs]
        if all(r for r, _ in scored):  # jiwer has no alignment of an empty reference
            assert row.rates[metric].rate == peer([r for r, _ in scored], [h for _, h in scored])
        else:
            split = str.split if metric == "wer" else list
            inserted = sum(len(split(h)) for r, h in scored if not r)
            counted = [(r, h) for r, h in scored if r]
            total = sum(len(split(r)) for r, _ in counted)
            edits = round(peer(*map(list, zip(*counted, strict=True))) * total) if counted else 0
            assert (row.rates[metric].errors, row.rates[metric].total) == (edits + inserted, total)


@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_scored_text_is_the_normalised_text_but_for_spaces_beside_chinese(text):
    plain = TextNormalizer()(text)
    assert (
        scored_characters(text).replace(" ", "")
        == scored_words(text).replace(" ", "")
        == plain.replace(" ", "")
    )
    if text.isascii():
        assert scored_characters(text) == scored_words(text) == plain
    for cut in (scored_characters, scored_words):
        assert cut(cut(text)) == cut(text) == " ".join(cut(text).split())


@pytest.mark.parametrize(
    ("text", "characters", "words"),
    [
        ("我用 iPhone 打，电话。", "我用iphone打电话", "我 用 iphone 打 电 话"),
        ("ＡＴＭ　机 24小时", "atm机24小时", "atm 机 24 小 时"),
        ("E-mail, don't!", "e mail don't", "e mail don't"),
        ("你好 你好 ok ok", "你好你好ok ok", "你 好 你 好 ok ok"),
    ],
)
def test_text_is_cut_into_characters_and_words(text, characters, words):
    assert (scored_characters(text), scored_words(text)) == (characters, words)


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_alignments_are_in_the_order_of_the_texts_and_rebuild_them(pairs):
    references, hypotheses = ([scored_characters(pair[i]) for pair in pairs] for i in (0, 1))
    for reference, hypothesis, edits in zip(
        references, hypotheses, alignments(references, hypotheses, "characters"), strict=True
    ):
        assert sum(e.reference_end - e.reference_start for e in edits) == len(reference)
        assert "".join(hypothesis[e.hypothesis_start : e.hypothesis_end] for e in edits) == hypothesis
        for e in edits:
            same = (
                reference[e.reference_start : e.reference_end]
                == hypothesis[e.hypothesis_start : e.hypothesis_end]
            )
            assert same == (e.kind == "equal")


def test_failed_missing_and_absent_utterances_are_deletions_of_all_their_characters():
    references = said(["one two", "three", "four", "five"])
    whole = system("a", ["one two", None, "four", "five"], text_llm=["one two", "", "four", "five"])
    del whole.rows["u3"]
    del whole.rows["u2"]["text_llm"]
    rows = {row.field: row for row in score([whole], references, ("text", "text_llm"), rounds=10).rows}
    headline, llm = rows["text"], rows["text_llm"]
    assert headline.rates["cer"].errors == len("three") + len("five")
    assert headline.rates["wer"].errors == 2
    assert (headline.outputs.failed, headline.outputs.missing) == (["u1"], ["u3"])
    assert llm.rates["cer"].errors == len("three") + len("four") + len("five")
    assert llm.outputs.absent == ["u2"]


def test_a_field_that_a_system_lacks_is_named_and_the_headline_must_be_there():
    scores = score([system("a", ["x"])], said(["x"]), rounds=2)
    assert scores.absent == []
    with pytest.raises(ValueError, match="no row has 'text'"):
        score([System("a", Path("a"), {"u0": {"key": "u0"}})], said(["x"]))


def test_the_headline_has_the_name_of_the_field_that_it_repeats():
    joint = system("a", ["x y", "z"], text_joint=["x y", "z"], text_llm=["x", "z"], text_ctc=["q", "z"])
    ctc = system("b", ["x y", "z"], text_ctc=["x y", "z"])
    kinds = [
        (row.system, row.field, row.kind) for row in score([joint, ctc], said(["x", "z"]), rounds=2).rows
    ]
    assert kinds == [
        ("a", "text", "joint"),
        ("a", "text_llm", "LLM only"),
        ("a", "text_ctc", "CTC only"),
        ("b", "text", "CTC only"),  # and not once more as text_ctc
    ]


def test_gains_count_against_the_better_baseline_and_steps_against_the_row_before():
    references = said(["abcdefghij"] * 20)
    wrong = {"base": 5, "control": 4, "one": 3, "two": 1}
    systems = [system(name, ["x" * n + "abcdefghij"[n:]] * 20) for name, n in wrong.items()]
    rows = {
        row.system: row for row in score(systems, references, baseline=["base", "control"], rounds=50).rows
    }
    assert rows["base"].gain is None and rows["control"].gain is None
    two = rows["two"].gain
    assert two and (two.against, two.gain) == ("control", pytest.approx(0.75))
    assert (two.low, two.high, two.p_value) == (pytest.approx(0.75), pytest.approx(0.75), 2 / 51)
    steps = {name: (row.step.against, round(row.step.gain, 6)) for name, row in rows.items() if row.step}
    assert steps == {"one": ("base", 0.4), "two": ("one", round(2 / 3, 6))}
    with pytest.raises(ValueError, match="'bass' is none of the systems base"):
        score(systems, references, baseline=["bass"])


def test_a_baseline_without_errors_leaves_no_gain_to_make():
    scores = score([system("a", ["x"]), system("b", ["y"])], said(["x"]), baseline=["a"], rounds=5)
    gain = scores.rows[1].gain
    assert gain is not None and gain.gain != gain.gain  # NaN


def test_keywords_have_their_rate():
    scores = score(
        [system("a", ["the curd", "ok"])], said(["the card", "ok"]), keywords=Keywords(["card"]), rounds=5
    )
    rate = scores.rows[0].rates["kwer"]
    assert (rate.errors, rate.total) == (1, 4)
    assert (scores.counted["keyword_occurrences"], scores.counted["keyword_characters"]) == (1, 4)


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_doubles_and_rows_without_a_key_are_refused_with_their_line(tmp_path):
    path = written(tmp_path / "a.jsonl", [{"key": "x", "text": ""}, {"key": "y"}, {"key": "x"}])
    with pytest.raises(ValueError, match=r"a\.jsonl:3: the key 'x' stood on line 1 before"):
        read_system("a", path)
    with pytest.raises(ValueError, match=r"b\.jsonl:1: the row has no key"):
        read_system("b", written(tmp_path / "b.jsonl", [{"text": "x"}]))
    with pytest.raises(ValueError, match="has no row; did the decoding of c end well"):
        read_system("c", written(tmp_path / "c.jsonl", []))


def test_hypotheses_of_other_utterances_are_refused():
    known = said(["x", "y"])
    with pytest.raises(ValueError, match=r"\(a\) has 1 utterances that are not among the references: 'u2'"):
        joined_references([system("a", ["x", "y", "z"])], known)
    one, other = (
        system("a", ["x"], reference=["x"]),
        System("b", Path("b"), {"v": {"key": "v", "reference": "q"}}),
    )
    with pytest.raises(ValueError, match="shares no utterance with the files before it, such as 'u0'"):
        joined_references([one, other], None)


def test_without_a_manifest_the_union_is_scored_and_references_must_agree():
    a = system("a", ["x", "y"], reference=["one", "two"])
    b = system("b", ["x"], reference=["one"])
    assert list(joined_references([b, a], None)) == ["u0", "u1"]
    with pytest.raises(ValueError, match="u0 has the reference 'other', elsewhere 'one'"):
        joined_references([a, system("b", ["x"], reference=["other"])], None)
    with pytest.raises(ValueError, match="1 utterances have a reference in no file: 'u0'"):
        joined_references([system("a", ["x"])], None)


def test_references_are_read_from_manifests_and_messages_lines(tmp_path):
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "你好"}]
    rows = [
        {"key": "m", "messages": messages, "speech_length": 98},
        {"id": "p", "audio_filepath": "a.wav", "text": "hello", "duration": 2.5},
    ]
    found = read_references([written(tmp_path / "r.jsonl", rows)])
    told = {"audio_filepath": "a.wav"}
    assert found == {"m": Utterance("你好", pytest.approx(0.995)), "p": Utterance("hello", 2.5, told)}
    with pytest.raises(ValueError, match="comes twice among the references"):
        read_references([tmp_path / "r.jsonl", tmp_path / "r.jsonl"])
    with pytest.raises(ValueError, match="q has no text to score against"):
        read_references([written(tmp_path / "q.jsonl", [{"key": "q"}])])


def test_metadata_of_an_utterance_are_put_together_from_all_files():
    references = {"u0": Utterance("x", None, {"channel": "gsm"}), "u1": Utterance("x", 2.0, {"lang": "en"})}
    rows = {
        "u0": {"key": "u0", "text": "x", "duration": 1.0, "channel": {"preset": "p"}, "speaker": "s"},
        "u1": {"key": "u1", "text": "x", "duration": 9.0, "lang": "zh"},
    }
    joined = joined_references([System("a", Path("a"), rows)], references)
    # a record says more than a name; what is stated first stays
    assert joined["u0"] == Utterance("x", 1.0, {"channel": {"preset": "p"}, "speaker": "s"})
    assert joined["u1"] == references["u1"]


def test_the_language_that_a_row_states_decides_what_a_hesitation_is():
    rows = {key: {"key": key, "text": "um yes"} for key in ("en", "de")}
    references = {key: Utterance("yes", 1.0, {"lang": key}) for key in rows}
    result = score([System("a", Path("a"), rows)], references, rounds=2)
    assert result.rows[0].counts.errors[:, 1].tolist() == [0, 1]  # um is a word of German


@pytest.mark.parametrize(
    ("unit", "p"),
    [("utterance", 2 / 2**6), ("speaker", 2 / 2**2)],  # all swapped or none, of all ways to swap
)
def test_what_is_drawn_together_is_swapped_together(unit, p):
    references = {f"u{i}": Utterance("ab", 1.0, {"speaker": f"s{i // 3}"}) for i in range(6)}
    systems = [system("a", ["ab"] * 6), system("b", ["ax"] * 6)]
    (cer, _) = score(systems, references, rounds=100, unit=unit).comparisons
    assert (cer.metric, cer.difference, cer.p_permutation) == ("cer", 0.5, p)


def test_a_row_that_failed_is_empty_whatever_text_it_has():
    failed = System("a", Path("a.jsonl"), {"u0": {"key": "u0", "error": "late", "text": "ab"}})
    failed.rows["u1"] = {"key": "u1", "text": "cd"}
    row = score([failed], said(["ab", "cd"]), rounds=5).rows[0]
    assert (row.rates["cer"].errors, row.outputs.texts, row.outputs.failed) == (2, ["", "cd"], ["u0"])


@pytest.mark.parametrize("baseline", [["c"], []])
def test_p_of_a_group_is_that_of_its_utterances_scored_alone(baseline):
    """Against the system of the gain, and without a baseline against the first one."""
    draws = np.random.default_rng(5)
    references = {f"u{i}": Utterance("abcd", 1.0, {"channel": f"c{i % 2}"}) for i in range(80)}
    texts = {name: ["".join(draws.choice(list("abcdx"), 4)) for _ in range(80)] for name in "abc"}
    systems = [system(name, texts[name]) for name in texts]
    found = score(systems, references, baseline=baseline, rounds=400)
    keys = [f"u{i}" for i in range(1, 80, 2)]
    alone = score(
        [System(one.name, one.path, {key: one.rows[key] for key in keys}) for one in systems],
        {key: references[key] for key in keys},
        compare=[("a", "b"), ("a", "c"), ("c", "a"), ("c", "b")],
        rounds=400,
    )
    p = {(one.a, one.b): one.p for one in alone.comparisons if one.metric == "cer"}
    groups = {row.system: row.conditions["channel"]["c1"] for row in found.rows}
    other, told = ("c", "ab") if baseline else ("a", "bc")
    assert {name: (groups[name].against, groups[name].p) for name in told} == {
        name: (other, p[other, name]) for name in told
    }
    assert p[other, told[0]] != p[other, told[1]]
    assert (groups[other].against, math.isnan(groups[other].p)) == ("", True)


def test_a_group_in_which_nobody_speaks_has_no_p():
    """Without reference characters there is no CER that could have changed."""
    references = {f"u{i}": Utterance("ab" * (i % 2), 1.0, {"channel": f"c{i % 2}"}) for i in range(80)}
    found = score([system(name, ["ab"] * 80) for name in "ab"], references, rounds=50)
    groups = found.rows[1].conditions["channel"]
    assert math.isnan(groups["c0"].p) and groups["c1"].p == 1


def test_a_group_is_few_by_what_is_drawn():
    """30 utterances of a codec are enough; where speakers are drawn, 10 speakers are not."""
    references = {
        f"u{i}": Utterance("ab", 1.0, {"speaker": f"s{i % 10}", "channel": f"c{i % 2}"}) for i in range(60)
    }
    for unit, few in (("utterance", False), ("speaker", True)):
        row = score([system("a", ["ab"] * 60)], references, rounds=5, unit=unit).rows[0]
        assert {group.few for group in row.conditions["channel"].values()} == {few}
