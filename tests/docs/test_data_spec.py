"""Every example of docs/TRAINING_DATA_SPEC.md through the code that reads such files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nest_ssl.bin.decode_options import joint_weights
from nest_ssl.data.corpus import Corpus
from nest_ssl.data.fun_asr_rows import conversation_of
from nest_ssl.data.lengths import audio_tokens, lfr_frames, speech_length
from nest_ssl.data.manifest_check import Checked, check_manifests
from nest_ssl.data.messages import check_messages, read_messages_audio
from nest_ssl.data.prompts import PromptSettings
from nest_ssl.data.sources.build import BuildOptions, SourceReport, rows_of
from nest_ssl.data.sources.record import Unusable
from nest_ssl.data.tarred import TarredAudio
from nest_ssl.decoding.fun_asr_items import read_hotwords
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.text.hypotheses import joined_references, outputs_of, read_references, read_system
from nest_ssl.text.keyword_files import read_keyword_lists
from nest_ssl.text.score_table import score_lines
from tests.docs.pages import cells, code, examples, page, table_rows

SPEC = page("TRAINING_DATA_SPEC.md")
KINDS = {
    "manifest",
    "tarred",
    "messages",
    "funasr",
    "lhotse",
    "channel",
    "hypotheses",
    "weights",
    "configuration",
    "metrics",
    "env",
    "scores",
    "utterances",
    "plain",
}


def of_kind(kind: str) -> str:
    """Give the texts of all examples of a kind, one after another."""
    found = [example.text for example in examples(SPEC) if example.kind == kind]
    assert found, f"the page has no example of the kind {kind}"
    return "".join(found)


def rows_in(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line]


def sound(path: Path, seconds: float, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(1).normal(0, 0.1, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate)


def named_keys() -> set[str]:
    """Give every name that stands in the first column of a table of the page."""
    lines = [line for line in SPEC.splitlines() if line.startswith("| `")]
    return {name for line in lines for name in code(cells(line)[0])}


def after_fault_table(name: str) -> list[list[str]]:
    """Give the rows of the table below `<!-- faults: NAME -->`."""
    found = table_rows(SPEC.split(f"<!-- faults: {name} -->\n")[1], "|")
    assert found
    return found


@pytest.mark.parametrize("example", examples(SPEC), ids=lambda example: f"line {example.line}")
def test_each_json_example_is_json_and_names_its_reader(example):
    if example.language == "jsonl":
        assert rows_in(example.text)
    elif example.language == "json":
        json.loads(example.text)
    else:
        return
    assert example.kind in KINDS


def test_manifest_rows_pass_the_check_and_the_training_reader(tmp_path):
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(of_kind("manifest"), encoding="utf-8")
    for row in rows_in(of_kind("manifest")):
        path = tmp_path / row["audio_filepath"]
        sound(path, row.get("offset", 0) + row["duration"], row.get("orig_sample_rate", 16000))
    checked = Checked()
    assert list(check_manifests([manifest], checked)) == []
    assert checked.rows == len(Corpus(str(manifest), name="train_ds")) == 3


@pytest.mark.parametrize("row", after_fault_table("manifest"), ids=lambda row: code(row[1])[0][:40])
def test_manifest_faults_are_told_as_the_page_says(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "a.wav", 1.0)
    (tmp_path / "empty.wav").touch()
    Path("m.jsonl").write_text(code(row[0])[0] + "\n", encoding="utf-8")
    problems = [f"{found.kind}: {found.detail}" for found in check_manifests([Path("m.jsonl")], Checked())]
    assert any(code(row[1])[0] in problem for problem in problems), problems


def test_tarred_rows_find_their_members(tmp_path):
    import tarfile

    manifest = tmp_path / "sharded_manifests" / "manifest_0.json"
    manifest.parent.mkdir()
    manifest.write_text(of_kind("tarred"), encoding="utf-8")
    for name in ("call1-0003.wav", "call1-0004.wav"):
        sound(tmp_path / name, 3.2)
    with tarfile.open(tmp_path / "audio_0.tar", "w") as tar:
        for name in ("call1-0003.wav", "call1-0004.wav"):
            tar.add(tmp_path / name, arcname=name)
    archives = TarredAudio([ManifestIndex.open(manifest)], [tmp_path / "audio_0.tar"], name="train_ds")
    assert archives.matched.all()
    checked = Checked()
    assert list(check_manifests([manifest], checked)) == []
    assert checked.in_archives == 2


def written_messages(folder: Path) -> Path:
    """Write the page's messages lines with audio of the stated lengths, below `folder`."""
    path = folder / "messages.jsonl"
    path.write_text(of_kind("messages").replace("/corpus/", f"{folder}/corpus/"), encoding="utf-8")
    for _, line in read_rows(path):
        for audio in read_messages_audio(line):
            sound(Path(audio), line["speech_length"] / 100 + 0.015)
    return path


def test_messages_pass_the_check_and_the_training_reader(tmp_path):
    path = written_messages(tmp_path)
    assert check_messages(path).problems == []
    for number, line in read_rows(path):
        conversation = conversation_of(line, path, number, PromptSettings())
        assert conversation.utterance_id == line["key"]
        assert conversation.turns[0].text == line["messages"][-1]["content"]


@pytest.mark.parametrize("row", after_fault_table("messages"), ids=lambda row: code(row[0])[0][:40])
def test_messages_faults_are_told_as_the_page_says(row, tmp_path):
    sound(tmp_path / "a.flac", 1.0)
    change = json.loads("{" + code(row[0])[0] + "}")
    user = f"语音转写：<|startofspeech|>!{tmp_path}/a.flac<|endofspeech|>"
    line = {
        "messages": [
            {"role": "user", "content": change.pop("user", user)},
            {"role": "assistant", "content": change.pop("assistant", "你好")},
        ],
        "speech_length": 98,
        "text_length": 1,
    } | change
    write_rows(tmp_path / "m.jsonl", [line])
    said = [f"{found.kind}: {found.detail}" for found in check_messages(tmp_path / "m.jsonl").problems]
    assert any(code(row[1])[0] in one for one in said), said


def test_units_of_one_second():
    frames = speech_length(1.0)
    assert (frames, lfr_frames(frames), audio_tokens(frames)) == (98, 17, 3)
    assert "1 s is 98" in SPEC and "1 s is 17" in SPEC and "1 s is 3" in SPEC


def converted(kind: str, source: Path) -> list[dict]:
    """Give the rows that `manifest --from KIND` makes."""
    made = list(rows_of(kind, [str(source)], source.parent, BuildOptions(), SourceReport(), dry=True))
    assert not [row for row in made if isinstance(row, Unusable)]
    return made  # type: ignore[return-value]


def written_files(prefix: str, folder: Path) -> None:
    for example in examples(SPEC):
        if example.kind.startswith(f"{prefix}/"):
            path = folder / example.kind.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(example.text, encoding="utf-8")


def test_funasr_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "audio/u1.wav", 1.0)
    sound(tmp_path / "audio/u2.wav", 1.0)
    (tmp_path / "old.jsonl").write_text(of_kind("funasr"), encoding="utf-8")
    assert [row["text"] for row in converted("funasr", tmp_path / "old.jsonl")] == ["hello"]
    written_files("funasr", tmp_path)
    assert [row["text"] for row in converted("funasr", tmp_path / "wav.scp")] == ["hello", "hello there"]


def test_kaldi_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written_files("kaldi", tmp_path / "data")
    sound(tmp_path / "audio/call1.wav", 20.0, 8000)
    sound(tmp_path / "audio/call2.wav", 2.0, 8000)
    from dataclasses import replace

    segments = tmp_path / "data/segments"
    segments.write_text(segments.read_text().replace(" 1\n", " 0\n"))  # files of one channel here
    options = replace(BuildOptions(), audio_dir=tmp_path / "parts")
    rows = list(rows_of("kaldi", [str(tmp_path / "data")], tmp_path, options, SourceReport(), dry=True))
    assert [(row["id"], row["duration"], row["text"], row["speaker"]) for row in rows] == [
        ("call1-a-0003", 3.2, "hello there", "call1-a"),
        ("call2-b-0001", 2.0, "good bye", "call2-b"),
    ]


def test_calls_and_cuts_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written_files("calls", tmp_path / "calls")
    sound(tmp_path / "calls/call1.wav", 5.0, 8000, channels=2)
    options = BuildOptions(audio_dir=tmp_path / "parts")
    rows = list(rows_of("calls", ["calls"], tmp_path, options, SourceReport(), dry=True))
    assert [(row["id"], row["party"]) for row in rows] == [
        ("call1-00002-agent", "agent"),
        ("call1-00003-customer", "customer"),
    ]
    (tmp_path / "cuts.jsonl").write_text(of_kind("lhotse"), encoding="utf-8")
    sound(tmp_path / "audio/call1.wav", 10.0)
    (cut,) = converted("lhotse", tmp_path / "cuts.jsonl")
    assert (cut["offset"], cut["duration"], cut["text"]) == (1.5, 3.2, "hello there")


def test_channel_example_has_the_keys_that_the_simulation_writes():
    from nest_ssl import telephone

    example = json.loads(of_kind("channel"))
    speech = np.random.default_rng(1).normal(0, 0.1, 16000).astype(np.float32)
    _, fresh = telephone.preset("pstn_g711a")(speech, sr=16000, key="u", seed=1, out_sr=16000)
    fresh = {key: value for key, value in fresh.items() if key not in ("sr", "out_sr")}
    assert set(example) - {"libraries"} == set(fresh) - {"libraries"}
    assert set(example) <= named_keys()
    assert set(fresh["legs"][0]) <= set(example["legs"][0])


def test_hot_words_and_keywords_are_read(tmp_path):
    (tmp_path / "hot.txt").write_text(of_kind("hotwords"), encoding="utf-8")
    assert read_hotwords(tmp_path / "hot.txt") == ["套餐", "流量包", "roaming"]
    (tmp_path / "keywords.txt").write_text(of_kind("keywords"), encoding="utf-8")
    lists = read_keyword_lists([tmp_path / "keywords.txt"])
    assert {name: listed.words for name, listed in lists.domains.items()} == {
        "billing": ("话费", "套餐"),
        "network": ("宽带", "5g"),
    }


def test_hypotheses_are_scored_by_their_own_references(tmp_path):
    path = tmp_path / "hyp.jsonl"
    path.write_text(of_kind("hypotheses"), encoding="utf-8")
    system = read_system("a", path)
    references = joined_references([system], None)
    assert {key: said.text for key, said in references.items()} == {
        "call1-0003": "hello there",
        "call1-0004": "good bye",
    }
    assert set().union(*rows_in(of_kind("hypotheses"))) <= named_keys()
    outputs = outputs_of(system, list(references), "text_ctc")
    assert outputs is not None and outputs.texts == ["helo there", ""] and outputs.failed == ["call1-0004"]


def same_keys(example: object, made: object, where: str = "") -> None:
    """Compare the keys of two objects at every depth; of lists the first items, of free names one."""
    if isinstance(example, dict) and isinstance(made, dict):
        if where.endswith((".hypotheses", ".keywords", ".conditions", ".conditions.*", ".same_for_all")):
            example, made = {"*": next(iter(example.values()))}, {"*": next(iter(made.values()))}
        assert set(example) == set(made), where
        for key in example:
            same_keys(example[key], made[key], f"{where}.{key}")
    elif isinstance(example, list) and isinstance(made, list) and example and made:
        same_keys(example[0], made[0], f"{where}[]")


def test_scores_have_the_keys_that_score_writes(tmp_path):
    from nest_ssl.bin import score

    channels = ({"preset": "p", "legs": [{"codec": codec, "loss": None}]} for codec in ("amr_nb", "g711a"))
    rows = [
        {"key": f"u{n}", "audio_filepath": "u.wav", "duration": 2.0, "reference": "查话费", "text": "查话费",
         "lang": "zh", "channel": channel}
        for n, channel in enumerate(channels)
    ]  # fmt: skip
    write_rows(tmp_path / "base.jsonl", [row | {"text": "查花费"} for row in rows])
    write_rows(tmp_path / "lora.jsonl", rows)
    (tmp_path / "keywords.txt").write_text(of_kind("keywords"), encoding="utf-8")
    words = ["--hypotheses", f"base={tmp_path}/base.jsonl", f"lora={tmp_path}/lora.jsonl", "--rounds", "20"]
    words += ["--baseline", "base", "--keywords", f"{tmp_path}/keywords.txt", "--out", f"{tmp_path}/page.md"]
    words += ["--json", f"{tmp_path}/scores.json", "--utterances", f"{tmp_path}/utterances.jsonl"]
    assert score.main(words) == 0
    made = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    example = json.loads(of_kind("scores"))
    same_keys(example | {"rows": example["rows"][-1:]}, made | {"rows": made["rows"][-1:]})
    (row,) = rows_in(of_kind("utterances"))
    _, first = next(iter(read_rows(tmp_path / "utterances.jsonl")))
    assert set(row) == set(first) and set(row["keywords"]) == set(first["keywords"])
    assert "".join(said for _, said, _ in row["edits"]) == row["reference"]
    assert "".join(heard for _, _, heard in row["edits"]) == row["hypothesis"]


def test_scores_make_a_page():
    assert any("CER" in line for line in score_lines(json.loads(of_kind("scores"))))


def faulty_hypotheses(folder: Path) -> dict[str, object]:
    """Give, by the first cell of the page's table, what raises."""
    good = {"key": "u", "reference": "a", "text": "a"}

    def system(*rows: dict, name: str = "a"):
        write_rows(folder / f"{name}.jsonl", rows)
        return read_system(name, folder / f"{name}.jsonl")

    return {
        "no line": lambda: system(),
        "two rows of one key": lambda: system(good, good),
        "a row without key and audio": lambda: system({"text": "a"}),
        "no `reference` anywhere": lambda: joined_references([system({"key": "u", "text": "a"})], None),
        "another reference than another system's": lambda: joined_references(
            [system(good), system(good | {"reference": "b"}, name="b")], None
        ),
    }


@pytest.mark.parametrize("row", after_fault_table("hypotheses"), ids=lambda row: row[0])
def test_hypothesis_faults_are_told_as_the_page_says(row, tmp_path):
    with pytest.raises(ValueError) as raised:
        faulty_hypotheses(tmp_path)[row[0]]()
    assert code(row[1])[0] in str(raised.value)


def test_references_may_be_messages_or_manifest_rows(tmp_path):
    found = read_references([written_messages(tmp_path)])
    assert found["u1"].duration_s == pytest.approx(2.495)


def test_weights_are_what_decode_takes(tmp_path):
    path = tmp_path / "w.json"
    path.write_text(of_kind("weights"), encoding="utf-8")
    assert (joint_weights(str(path)).ctc_weight, joint_weights(str(path)).length_bonus) == (0.7, 1.0)
    with pytest.raises(argparse.ArgumentTypeError):
        joint_weights(str(tmp_path / "none.json"))


def test_configuration_names_the_files_of_a_directory(tmp_path):
    pytest.importorskip("transformers")
    from nest_ssl.checkpoints.funasr_dir import read_model_dir
    from tests.fun_asr_tiny import make_model_dir

    folder = make_model_dir(tmp_path / "model")
    (folder / "configuration.json").write_text(of_kind("configuration"), encoding="utf-8")
    assert read_model_dir(folder).weights_path == folder / "model.pt"


def test_run_directory_examples_are_read_by_the_report(tmp_path):
    from nest_ssl.report.runs import read_runs

    run = tmp_path / "encoder"
    run.mkdir()
    (run / "metrics.jsonl").write_text(of_kind("metrics"), encoding="utf-8")
    (run / "env.json").write_text(of_kind("env"), encoding="utf-8")
    (found,) = read_runs(tmp_path)
    assert (found.step, found.max_steps, len(found.train), len(found.validation)) == (20, 60, 1, 1)


def test_each_figure_of_a_run_is_explained():
    named = named_keys()
    for row in rows_in(of_kind("metrics")):
        assert {key.removeprefix("val_") for key in row} <= named
    masked = {"masked_acc", "mask_share", "target_ppl", "pred_ppl", "target_coverage", "pred_coverage"}
    assert masked | {"gain_nats", "blank_share", "cer", "wer"} <= named
