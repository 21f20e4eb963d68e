"""The verb decode as its users call it, on a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from nest_ssl.bin import decode
from nest_ssl.bin.decode_options import parse, prompt_options
from nest_ssl.decoding import fun_asr_recordings
from tests.fun_asr_tiny import make_corpus, make_model_dir

QUICK = ["--device", "cpu", "--gate", "off"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), 5)


def run(model: Path, *words: object) -> int:
    short = [] if "ctc" in words else ["--max-length", "6"]
    return decode.main(["--model", str(model), *QUICK, *short, *map(str, words)])


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_joint_rows_have_all_texts_in_the_order_of_the_manifest(model, corpus, tmp_path):
    out = tmp_path / "hyp.jsonl"
    assert run(model, "--manifest", corpus.manifest, "--out", out, "--beam", 3, "--candidates") == 0
    rows = rows_of(out)
    assert [row["audio_filepath"] for row in rows] == [
        row["audio_filepath"] for row in rows_of(corpus.manifest)
    ]
    for row, given in zip(rows, rows_of(corpus.manifest), strict=True):
        assert row["reference"] == given["text"] and row["lang"] == "en"
        assert row["duration"] == pytest.approx(given["duration"], abs=1e-3)
        assert row["text"] == row["text_joint"] and {"text_llm", "text_ctc", "timestamps"} <= set(row)
        texts = [candidate["text"] for candidate in row["candidates"]]
        assert {row["text_joint"], row["text_ctc"]} <= set(texts) and len(texts) == len(set(texts))
        assert row["silence_gate"] is None


def test_a_file_is_printed(model, corpus, capsys):
    first = rows_of(corpus.manifest)[0]["audio_filepath"]
    assert run(model, first, "--mode", "ctc") == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_one_bad_file_stops_nothing_and_is_counted(model, corpus, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    lines = corpus.manifest.read_text().splitlines()
    bad = [
        json.dumps({"audio_filepath": f"{tmp_path}/{name}.wav", "duration": 1}) for name in ("bad", "gone")
    ]
    (tmp_path / "mixed.jsonl").write_text("\n".join([lines[0], *bad, "{broken", lines[1]]) + "\n")
    assert run(model, "--manifest", tmp_path / "mixed.jsonl", "--out", tmp_path / "h", "--mode", "ctc") == 3
    rows = rows_of(tmp_path / "h")
    assert ["error" in row for row in rows] == [False, True, True, True, False]
    assert "gone.wav does not exist" in rows[2]["error"] and "mixed.jsonl:4" in rows[3]["error"]


def test_a_batch_that_fails_is_decoded_one_by_one(model, corpus, tmp_path, monkeypatch):
    recognize = fun_asr_recordings.Recognizer.recognize

    def short_of_memory(self, segments):
        if len(segments) > 1:
            raise RuntimeError("out of memory")
        return recognize(self, segments)

    words = ["--manifest", corpus.manifest, "--mode", "ctc", "--out"]
    assert run(model, *words, tmp_path / "a") == 0
    monkeypatch.setattr(fun_asr_recordings.Recognizer, "recognize", short_of_memory)
    assert run(model, *words, tmp_path / "b") == 0
    assert [row["text"] for row in rows_of(tmp_path / "a")] == [
        row["text"] for row in rows_of(tmp_path / "b")
    ]


def test_a_stopped_run_goes_on_with_what_is_left(model, corpus, tmp_path, monkeypatch):
    words = ["--manifest", corpus.manifest, "--mode", "ctc", "--batch-size", 1, "--out"]
    assert run(model, *words, tmp_path / "whole") == 0
    recognize, calls = fun_asr_recordings.Recognizer.recognize, []

    def interrupted(self, segments):
        calls.append(len(segments))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return recognize(self, segments)

    monkeypatch.setattr(fun_asr_recordings.Recognizer, "recognize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model, *words, tmp_path / "h")
    assert not (tmp_path / "h").exists()
    assert run(model, *words, tmp_path / "h") == 0
    assert len(calls) == 3 + 3  # two of five were done
    assert rows_of(tmp_path / "h") == rows_of(tmp_path / "whole")


def test_other_settings_and_other_weights_are_refused(model, corpus, tmp_path):
    words = ["--manifest", corpus.manifest, "--mode", "ctc", "--out", tmp_path / "h"]
    assert run(model, *words) == 0
    with pytest.raises(ValueError, match="beam was 1, is 2"):
        run(model, *words, "--beam", 2)
    other = make_model_dir(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="weights was"):
        run(other, *words)
    assert run(other, *words, "--fresh-if-changed") == 0


def test_shards_joined_are_the_whole(model, corpus, tmp_path):
    words = ["--manifest", corpus.manifest, "--mode", "ctc", "--out"]
    assert run(model, *words, tmp_path / "whole") == 0
    for number in (1, 2, 3):
        assert run(model, *words, tmp_path / f"part{number}", "--shard", f"{number}/3") == 0
    joined = [row for number in (1, 2, 3) for row in rows_of(tmp_path / f"part{number}")]
    assert joined == rows_of(tmp_path / "whole")


def test_weights_chosen_on_dev_rows_are_used(model, corpus, tmp_path):
    weights = tmp_path / "weights.json"
    tuning = ["--beam", 2, "--tune-on", corpus.manifest, "--weight-out", weights]
    assert run(model, *tuning, "--messages", corpus.jsonl, "--out", tmp_path / "a") == 0
    found = json.loads(weights.read_text())
    assert found["utterances"] == 5 and min(found["cer_by_ctc_weight"].values()) >= found["cer"]
    words = ["--messages", corpus.jsonl, "--beam", 2, "--ctc-weight", weights, "--out", tmp_path / "b"]
    assert run(model, *words) == 0
    assert [row["text"] for row in rows_of(tmp_path / "a")] == [
        row["text"] for row in rows_of(tmp_path / "b")
    ]


def test_without_ctc_weights_the_language_model_decodes(corpus, tmp_path):
    model = make_model_dir(tmp_path / "no_ctc", ctc=False)
    words = ["--model", str(model), "--device", "cpu", "--max-length", "4", "--messages", str(corpus.jsonl)]
    assert decode.main([*words, "--out", str(tmp_path / "h")]) == 0
    rows = rows_of(tmp_path / "h")
    assert all("text_ctc" not in row and row["timestamps"] == [] for row in rows)
    assert all(row["text"] == row["text_llm"] for row in rows)
    with pytest.raises(ValueError, match="take mode llm"):
        decode.main([*words, "--mode", "joint", "--out", str(tmp_path / "j")])


def test_hot_words_of_options_file_and_row_reach_the_prompt(tmp_path):
    from nest_ssl.decoding.fun_asr_items import items_of_rows

    (tmp_path / "words.txt").write_text("kilo\nalpha\n", encoding="utf-8")
    row = {"audio_filepath": "a.wav", "hotwords": ["lima"]}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    words = [
        "--model",
        "m",
        "--hotwords",
        "alpha,bravo",
        "--hotwords-file",
        str(tmp_path / "words.txt"),
        "a.wav",
    ]
    options = prompt_options(parse(words, ""), {})
    [item] = items_of_rows([tmp_path / "m.jsonl"], options)
    assert "热词列表：[alpha, bravo, kilo, lima]\n语音转写：" in item.prompt


def test_the_prompt_of_a_messages_line_and_of_the_model_are_kept():
    config = {"dataset_conf": {"prompt": {"language": "en"}}}
    plain = prompt_options(parse(["--model", "m", "a.wav"], ""), config)
    assert plain.prompt(None, {})[0] == "Speech transcription:"
    assert plain.prompt("语音转写成英文：", {})[0] == "语音转写成英文："
    chosen = prompt_options(parse(["--model", "m", "--language", "zh", "a.wav"], ""), config)
    assert chosen.prompt("Speech transcription:", {})[0] == "语音转写成中文："
    assert prompt_options(parse(["--model", "m", "--no-itn", "a.wav"], ""), {}).prompt(None, {})[0] == (
        "语音转写，不进行文本规整："
    )


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--manifest", "m.jsonl"],
        ["--manifest", "m.jsonl", "a.wav", "--out", "o"],
        ["a.wav", "--ctc-weight", "2"],
        ["a.wav", "--shard", "3/2"],
        ["a.wav", "--weight-out", "w"],
        ["--tune-on", "d.jsonl", "--weight-out", "w", "--mode", "llm"],
        ["a.wav", "--mode", "llm", "--ctc-weight", "0.5"],
        ["a.wav", "--mode", "ctc", "--length-bonus", "1"],
        ["m.jsonl"],
        ["."],
        ["--manifest", "m.jsonl", "--out", "m.jsonl"],
    ],
)
def test_options_that_make_no_sense_are_refused(words):
    with pytest.raises(SystemExit):
        run(Path("model"), *words)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--mode", "ctc", "--hotwords", "alpha"], "--hotwords"),
        (["--mode", "ctc", "--hotwords-file", "w.txt"], "--hotwords-file"),
        (["--mode", "ctc", "--language", "zh"], "--language"),
        (["--mode", "ctc", "--no-itn"], "--no-itn"),
        (["--mode", "ctc", "--prompt", "p"], "--prompt"),
        (["--mode", "ctc", "--prev-text", "p"], "--prev-text"),
        (["--mode", "ctc", "--max-length", "9"], "--max-length"),
        (["--mode", "ctc", "--candidates", "--out", "o"], "--candidates"),
        (["--mode", "llm", "--candidates", "--out", "o"], "--candidates"),
        (["--candidates"], "--candidates needs --out"),
        (["--prompt", "p", "--language", "zh"], "--prompt is the whole prompt"),
        (["--prompt", "p", "--no-itn"], "--prompt is the whole prompt"),
    ],
)
def test_an_option_that_nobody_would_read_is_refused(words, named, capsys):
    with pytest.raises(SystemExit):
        parse(["--model", "m", "a.wav", *words], "")
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--out", "--shard"])
def test_tuning_alone_writes_no_rows(word, capsys):
    with pytest.raises(SystemExit):
        parse(["--model", "m", "--tune-on", "d.jsonl", "--weight-out", "w", word, "1/2"], "")
    assert "--tune-on alone" in capsys.readouterr().err


def test_hot_words_of_rows_that_ctc_does_not_read_are_counted_once(model, corpus, tmp_path, caplog):
    rows = rows_of(corpus.manifest)
    rows[0]["hotwords"] = rows[2]["hotwords"] = ["alpha"]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(model, "--manifest", tmp_path / "m.jsonl", "--mode", "ctc", "--out", tmp_path / "h") == 0
    told = [record.getMessage() for record in caplog.records if "hot words" in record.getMessage()]
    assert told == ["2 of 5 rows have hot words, which --mode ctc does not read"]


@pytest.mark.parametrize(
    ("word", "way_out"),
    [
        ("++llm_conf.llm_dtyp=bf16", "Did you mean llm_conf.llm_dtype"),
        ("++nonsense=3", "Known keys"),
        ("++hotwords=alpha", "the option is --hotwords"),
        ("++llm_conf.llm_dtype=bf16", "the option is --dtype"),
        ("++train_conf.max_epoch=3", "leave it away"),
        ("++dataset_conf.batch_size=3", "leave it away"),
        ("++dataset_conf={batch_size: 3}", r"dataset_conf\.batch_size=3 is not read.*leave it away"),
        ("++dataset_conf.prompt=Listen", "prompt: keys such as .* are needed, not 'Listen'"),
        ("++model=elsewhere", "the option is --model DIR"),
    ],
)
def test_a_key_that_nobody_reads_is_refused(model, corpus, word, way_out):
    first = rows_of(corpus.manifest)[0]["audio_filepath"]
    with pytest.raises(ValueError, match=way_out):
        run(model, first, word)


def test_keys_in_braces_are_those_with_dots(model, corpus, capsys):
    first = rows_of(corpus.manifest)[0]["audio_filepath"]
    printed = []
    for word in ("++dataset_conf={prompt: {language: en}}", "++dataset_conf.prompt.language=en"):
        assert run(model, first, word, "--mode", "llm") == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_nothing_decoded_is_a_status_of_its_own(model, tmp_path):
    (tmp_path / "no_audio.wav").write_text("nothing")
    assert run(model, tmp_path / "no_audio.wav", "--mode", "ctc") == 1


def test_a_file_that_does_not_exist_is_refused(model, corpus, tmp_path):
    first = rows_of(corpus.manifest)[0]["audio_filepath"]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.wav does not exist"):
        run(model, first, tmp_path / "nowhere.wav", "--mode", "ctc")


def test_a_joint_weight_is_not_passed_over_without_ctc(corpus, tmp_path):
    directory = make_model_dir(tmp_path / "hf", ctc=False)
    first = rows_of(corpus.manifest)[0]["audio_filepath"]
    with pytest.raises(ValueError, match="mode joint needs the CTC branch"):
        run(directory, first, "--ctc-weight", 0.5)


def test_no_beam_is_not_the_default_beam(model, corpus):
    with pytest.raises(ValueError, match="beam 0"):
        run(model, rows_of(corpus.manifest)[0]["audio_filepath"], "--beam", 0)
