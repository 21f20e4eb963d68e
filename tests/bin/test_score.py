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
    assert found["keywords"] == ["one"]
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
        (["--hypotheses", "x.jsonl"], "must be NAME=PATH"),
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
