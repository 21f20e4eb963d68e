"""The verb `score`: files in, a page out, and mistakes named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nest_ssl.bin import score


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    found = {}
    for name, text in (("base", "press won"), ("lora", "press one")):
        found[name] = tmp_path / f"{name}.jsonl"
        rows = [{"key": f"u{i}", "reference": "Press one.", "duration": 1.5, "text": text} for i in range(6)]
        found[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return found


def words(files: dict[str, Path], *more: str) -> list[str]:
    return ["--hypotheses", *(f"{name}={path}" for name, path in files.items()), "--rounds", "50", *more]


def test_a_page_and_figures_come_out_and_say_how(files, tmp_path, capsys):
    (tmp_path / "keywords.txt").write_text("one\n", encoding="utf-8")
    more = ["--baseline", "base", "--keywords", str(tmp_path / "keywords.txt")]
    out, figures = tmp_path / "exp" / "RESULTS.md", tmp_path / "exp" / "scores.json"
    assert (
        score.main(words(files, *more, "--note", "seed 17", "--out", str(out), "--json", str(figures))) == 0
    )
    text = out.read_text(encoding="utf-8")
    assert "| lora | **text** | **0.00** [0.00, 0.00] |" in text
    assert "100.00 [100.00, 100.00] over base" in text
    assert "* seed 17" in text and "python -m nest_ssl.bin.score --hypotheses base=" in text
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["keywords"] == {"all": ["one"]}
    assert "base (text): CER 22.22 WER 50.00 KWER 33.33" in capsys.readouterr().out


def test_missing_utterances_are_counted_and_said(files, tmp_path, capsys):
    lines = files["lora"].read_text().splitlines()
    files["lora"].write_text("\n".join(lines[:4]) + "\n")
    assert score.main(words(files)) == 0
    printed = capsys.readouterr().out
    assert "lora (text): CER 33.33 WER 33.33" in printed
    assert "2 utterances failed or are missing; they count as deleted" in printed


def test_the_references_of_a_manifest_stand_in_for_those_of_the_rows(files, tmp_path, capsys):
    manifest = tmp_path / "test.jsonl"
    rows = [
        {"id": f"u{i}", "audio_filepath": "a.wav", "duration": 1.5, "text": "press one"} for i in range(8)
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert score.main(words(files, "--references", str(manifest))) == 0
    assert "lora (text): CER 25.00" in capsys.readouterr().out


def test_decoded_rows_as_references_of_a_manifest_are_said(tmp_path, caplog):
    manifest, decoded = tmp_path / "test.jsonl", tmp_path / "decoded.jsonl"
    said = {"key": "u0", "audio_filepath": "a.wav", "duration": 1.0, "text": "press one"}
    manifest.write_text(json.dumps(said) + "\n")
    decoded.write_text(json.dumps({"key": "u0", "text": "press a", "text_ctc": "press a"}) + "\n")
    for hypotheses, references, warned in (
        (decoded, manifest, 0),
        (manifest, decoded, 1),
        (decoded, decoded, 0),
    ):
        caplog.clear()
        call = ["--hypotheses", str(hypotheses), "--references", str(references), "--rounds", "10"]
        assert score.main(call) == 0
        assert caplog.text.count("given for one another") == warned


def test_keywords_come_from_training_texts_and_where_none_is_frequent_that_is_said(files, tmp_path, caplog):
    train, out = tmp_path / "train.jsonl", tmp_path / "RESULTS.md"
    for count, expected in ((3, "KWER"), (2, "so there is no KWER")):
        rows = [{"id": f"t{i}", "audio_filepath": "a.wav", "text": "press one"} for i in range(count)]
        train.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert score.main(words(files, "--keywords-from", str(train), "--out", str(out))) == 0
        assert expected in out.read_text(encoding="utf-8").split("## ")[-1 if count == 2 else 0]
    assert "no term is frequent in" in caplog.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hypotheses", "lora=x.jsonl"], "the name lora comes twice"),
        (["--hypotheses", "=x.jsonl"], "must be NAME=PATH"),
        (["--hypotheses", "lora.jsonl"], "the name lora comes twice"),
        (["--compare", "base"], "--compare base: must be two of base, lora"),
        (["--compare", "base,bass"], "--compare base,bass: must be two of base, lora"),
        (["--baseline", "bass"], "--baseline bass: --hypotheses has base, lora"),
        (["--fields", "text_llm"], "--fields must have 'text'"),
        (["--fields", "text,text_lm"], "--fields text_lm: a hypothesis has text,"),
        (["--out", "."], "is a folder"),
        (["--rounds", "0"], "not a positive number"),
    ],
)
def test_mistakes_in_the_call_are_named(files, more, message, capsys):
    with pytest.raises(SystemExit):
        score.parse(words(files, *more))
    assert message in capsys.readouterr().err


def test_single_utterances_and_alignments_are_written(files, tmp_path):
    out = [tmp_path / "u.jsonl", tmp_path / "a.txt"]
    assert score.main(words(files, "--utterances", str(out[0]), "--alignments", str(out[1]))) == 0
    rows = [json.loads(line) for line in out[0].read_text(encoding="utf-8").splitlines()]
    assert [(row["system"], row["key"]) for row in rows[:2]] == [("base", "u0"), ("base", "u1")]
    assert rows[0]["edits"] == [["equal", "press ", "press "], ["insert", "", "w"], ["equal", "on", "on"],
                                ["delete", "e", ""]]  # fmt: skip
    text = out[1].read_text(encoding="utf-8")
    assert "REF: press one" in text and "HYP: press won" in text
    assert text.count("u0: 1 error in 2 words (1 substituted, 0 deleted, 0 inserted); base") == 1


def test_a_system_of_which_every_row_failed_is_an_error_and_no_rate(files):
    rows = [{"key": f"u{i}", "error": "unreadable"} for i in range(6)]
    files["lora"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"\(lora\): all 6 rows failed, so .*; the first, 'u0': unreadable"):
        score.main(words(files))
    files["lora"].write_text("\n")
    with pytest.raises(ValueError, match="has no row; did the decoding of lora end well"):
        score.main(words(files))


def test_texts_of_kaldi_and_sclite_are_scored_alike(tmp_path, capsys):
    (tmp_path / "text").write_text("\ufeffa-1 press  one\r\na-2 你好\n", encoding="utf-8")
    (tmp_path / "kaldi.txt").write_text("a-2 你\na-1 press won\n", encoding="utf-8")
    (tmp_path / "sclite.trn").write_text(";; a comment\npress won (a-1)\n你 (a-2)\n", encoding="utf-8")
    call = ["--hypotheses", str(tmp_path / "kaldi.txt"), str(tmp_path / "sclite.trn"), "--rounds", "20"]
    assert score.main([*call, "--references", str(tmp_path / "text")]) == 0
    # 2 and 1 of 11 characters; 1 and 1 of 4 words
    assert capsys.readouterr().out.splitlines() == [
        "kaldi (text): CER 27.27 WER 50.00",
        "sclite (text): CER 27.27 WER 50.00",
    ]


def test_mode_present_scores_what_every_system_has(files, capsys, tmp_path):
    lines = files["lora"].read_text().splitlines()
    files["lora"].write_text("\n".join(lines[:4]) + "\n")
    out = tmp_path / "S.md"
    assert score.main(words(files, "--mode", "present", "--out", str(out))) == 0
    printed = capsys.readouterr().out
    assert (
        "lora (text): CER 0.00" in printed and "2 utterances that a system or the references lack" in printed
    )
    assert "2 utterances that a system or the references lack were left out" in out.read_text("utf-8")
    manifest = tmp_path / "test.jsonl"
    manifest.write_text('{"key": "u0", "text": "press one"}\n{"key": "u9", "text": "stop"}\n')
    assert score.main(words(files, "--mode", "present", "--references", str(manifest))) == 0
    assert "6 utterances that a system or the references lack" in capsys.readouterr().out  # u1 to u5, u9


def test_metadata_come_from_a_manifest_and_speakers_are_drawn(files, tmp_path):
    manifest, figures = tmp_path / "test.jsonl", tmp_path / "s.json"
    rows = [{"id": f"u{i}", "speaker": f"s{i % 3}", "channel": {"preset": "p"}} for i in range(9)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--metadata", str(manifest), "--resample-by", "speaker", "--json", str(figures)]
    assert score.main(words(files, *more)) == 0
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert (found["bootstrap"]["unit"], found["bootstrap"]["units"]) == ("speaker", 3)
    assert found["same_for_all"]["preset"] == "p"
    speakers = found["rows"][0]["conditions"]["speaker"]
    assert {name: group["utterances"] for name, group in speakers.items()} == {"s0": 2, "s1": 2, "s2": 2}
    with pytest.raises(ValueError, match="no utterance states its speaker"):
        score.main(words(files, "--resample-by", "speaker"))
    manifest.write_text('{"id": "other"}\n')
    with pytest.raises(ValueError, match="has a row for none of the 6 utterances, such as 'u0'"):
        score.main(words(files, "--metadata", str(manifest)))


def test_pairs_to_compare_and_rules_are_chosen(files, tmp_path):
    figures, page = tmp_path / "s.json", tmp_path / "S.md"
    more = ["--no-case", "--json", str(figures), "--out", str(page)]
    assert score.main(words(files, "--compare", "lora,base", *more)) == 0
    assert "| lora | base | +22.22 [+22.22, +22.22] |" in page.read_text(encoding="utf-8")
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert {(one["a"], one["b"]) for one in found["comparisons"]} == {("lora", "base")}
    assert found["rows"][1]["cer"]["errors"] == 6  # the references begin with a capital
    assert not any("lower case" in rule for rule in found["rules"])


def test_keywords_are_read_in_the_language_that_all_references_state(tmp_path, capsys):
    hypotheses, references = tmp_path / "es.jsonl", tmp_path / "ref.jsonl"
    hypotheses.write_text('{"key": "a", "text": "marque 25"}\n{"key": "b", "text": "marque tres"}\n')
    references.write_text(
        '{"key": "a", "text": "Marque veinticinco", "lang": "es"}\n'
        '{"key": "b", "text": "marque 3", "lang": "es"}\n'
    )
    (tmp_path / "keywords.txt").write_text("veinticinco\n3\n")
    more = ["--references", str(references), "--keywords", str(tmp_path / "keywords.txt")]
    figures = tmp_path / "scores.json"
    assert score.main(words({"es": hypotheses}, *more, "--json", str(figures))) == 0
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["keywords"] == {"all": ["25", "tres"]}
    assert "es (text): CER 0.00 WER 0.00 KWER 0.00" in capsys.readouterr().out


def test_digits_alone_are_read_as_the_rest_of_the_set_and_so_are_keywords(tmp_path, capsys):
    """Nobody states a language, as in Kaldi's texts."""
    for name, texts in (("ref", "press 5|5|用五G网络"), ("hyp", "press five|five|用5G网络")):
        lines = [f"u{i} {text}\n" for i, text in enumerate(texts.split("|"))]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    (tmp_path / "keywords.txt").write_text("5\n5G\nfax\n", encoding="utf-8")
    more = ["--references", str(tmp_path / "ref"), "--keywords", str(tmp_path / "keywords.txt")]
    more += ["--json", str(tmp_path / "scores.json"), "--out", str(tmp_path / "SCORES.md")]
    assert score.main(words({"hyp": tmp_path / "hyp"}, *more)) == 0
    assert "hyp (text): CER 0.00 WER 0.00 KWER 0.00" in capsys.readouterr().out
    found = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert found["keywords_not_said"] == ["fax"]
    assert found["rows"][0]["keywords"]["all"]["expected"] == 4  # 5 three times: 五 stands in 五g
    page = (tmp_path / "SCORES.md").read_text(encoding="utf-8")
    assert "In no reference, as whole words: 1 keywords, `fax`." in page


LINES = ["--format", "lines"]


@pytest.mark.parametrize(
    ("hypotheses", "more", "message"),
    [
        ("press one\npress two\n", [], r"h.txt:2: the key 'press' .*--format lines reads files without keys"),
        (
            "hello one\nstop two\n",
            [],
            r"'hello', 'stop' \(these have 'a-1'\).*the first word of each line is taken",
        ),
        ("one line\n", LINES, r"h.txt \(h\) has 1 lines, the references 2: line N belongs to line N"),
        (
            "press one\n",
            ["--format", "trn"],
            r"1: a line of a .trn file .*without it each is told by its name",
        ),
        ("press \udcff\n", [], r"h.txt:1: not UTF-8 text"),
        ("a-1 x\n", ["--references", "{folder}"], r"is a folder; name a file in it, such as .*ref.txt"),
        ("a-1 x\n", ["--keywords", "{folder}/gone"], r"gone does not exist"),
        ("a-1 x\n", ["--resample-by", "speaker"], r"no utterance states its speaker.* by --metadata"),
    ],
)
def test_files_that_do_not_belong_together_are_named_with_the_way_out(hypotheses, more, message, tmp_path):
    reference = tmp_path / "ref.txt"
    reference.write_text("a-1 press one\na-2 stop\n")
    (tmp_path / "h.txt").write_text(hypotheses, encoding="utf-8", errors="surrogateescape")
    call = ["--hypotheses", str(tmp_path / "h.txt"), "--references", str(reference), "--rounds", "10"]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        score.main([*call, *(word.replace("{folder}", str(tmp_path)) for word in more)])


def test_lines_without_keys_are_scored_line_by_line(tmp_path, capsys):
    (tmp_path / "ref.txt").write_text("press one\n\nstop now\n")
    (tmp_path / "hyp.txt").write_text("press one\npress\nstop\n")
    call = ["--hypotheses", str(tmp_path / "hyp.txt"), "--references", str(tmp_path / "ref.txt"), *LINES]
    assert score.main([*call, "--rounds", "10"]) == 0
    assert "hyp (text): CER 52.94 WER 50.00" in capsys.readouterr().out  # 9 of 17, 2 of 4
