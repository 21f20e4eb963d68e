"""The prepare verb: every row accounted for, nothing leaks, a kill costs little, planted faults are found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("tokenizers", reason="the library tokenizers is not installed (extra llm)")

from nest_ssl.bin import prepare as verb
from nest_ssl.files.manifest import read_rows, write_rows
from tests.data_room.stage0.corpora import WORDS, make_calls, make_tokenizer, make_wenetspeech

CHECKOUT = Path(__file__).resolve().parents[2]
# one row for each kind of fault that the corpus is given
FAULTS = {
    (0, 0): {"text": ""},
    (0, 1): {"text": "<b>你好</b>今天"},
    (1, 0): {"text": "好" * 90},
    (1, 1): {"end_time": 500.0},
    (2, 0): {"begin_time": "soon"},
    (2, 1): {"confidence": 0.5},
}
CLEAN = ["sets.simulated.simulate.mix=default", "sets.simulated.split.dev=0.4", "sets.real.split.dev=0.4"]


def rows_of(path):
    return [row for _, row in read_rows(path)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A tiny WenetSpeech with faults, calls, a tokenizer."""
    folder = tmp_path_factory.mktemp("sources")
    make_wenetspeech(folder / "wenet", recordings=5, segments=4, changes=FAULTS)
    make_calls(folder / "calls")
    make_tokenizer(folder / "tokenizer")
    return folder


def words(sources, out, *more):
    return [
        *("--simulated", str(sources / "wenet" / "WenetSpeech.json"), "--real", f"calls={sources / 'calls'}"),
        *("--out", str(out), "--tokenizer", str(sources / "tokenizer"), "--workers", "1", *more, *CLEAN),
    ]


@pytest.fixture(scope="module")
def prepared(sources, tmp_path_factory):
    """A finished folder; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("prepared") / "stage0"
    assert verb.main(words(sources, out)) == 0
    return out


@pytest.fixture
def copy(prepared, tmp_path, sources):
    """A copy of the finished folder, whose lines name the audio of the copy."""
    out = tmp_path / "stage0"
    shutil.copytree(prepared, out)
    assert verb.main(words(sources, out)) == 0
    return out


def test_every_raw_row_is_in_train_in_dev_or_dropped_with_reasons(prepared, sources):
    audios = json.loads((sources / "wenet" / "WenetSpeech.json").read_text(encoding="utf-8"))["audios"]
    every = {segment["sid"] for audio in audios for segment in audio["segments"]}
    dropped = rows_of(prepared / "simulated" / "dropped.jsonl")
    kept = [
        row["source_id"]
        for side in ("train", "dev")
        for row in rows_of(prepared / "simulated" / "audio" / f"{side}.jsonl")
    ]
    assert sorted([*kept, *(row["id"] for row in dropped)]) == sorted(every - {"Y0000002_S00001"})
    assert Counter(row["reason"] for row in dropped) == {
        "empty_text": 1,
        "markup_left": 1,
        "impossible_rate": 1,
        "audio_shorter_than_segment": 1,
        "bad_segment": 1,
    }
    for row in dropped:
        file, line = row["place"].rsplit(":", 1)
        assert row["id"] in Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        assert row["reason"] in row["reasons"]
        assert row["text"] is not None and row["audio_filepath"]


def test_no_recording_is_on_both_sides(prepared):
    for name in ("simulated", "real"):
        sides = [
            {row["recording"] for row in rows_of(prepared / name / "audio" / f"{side}.jsonl")}
            for side in ("train", "dev")
        ]
        assert sides[0] and sides[1]
        assert not sides[0] & sides[1]


def test_messages_lines_state_audio_text_and_lengths(prepared, sources):
    texts = {}
    for audio in json.loads((sources / "wenet" / "WenetSpeech.json").read_text(encoding="utf-8"))["audios"]:
        texts |= {segment["sid"]: segment["text"] for segment in audio["segments"]}
    lines = rows_of(prepared / "simulated" / "train.jsonl")
    for line in lines:
        prompt, text = (turn["content"] for turn in line["messages"][-2:])
        path = re.fullmatch(r"语音转写：<\|startofspeech\|>!(.+)<\|endofspeech\|>", prompt)[1]
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert text == texts[line["key"].split("#")[0]]
        assert line["text_length"] == len(text)  # a token per character
        assert line["speech_length"] == (info.frames * 1000 // 16000 - 25) // 10 + 1


def test_calls_are_split_by_party_and_only_resampled(prepared, sources):
    lines = rows_of(prepared / "real" / "audio" / "train.jsonl")
    assert {line["party"] for line in lines} == {"agent", "customer"}
    row = next(row for row in lines if row["party"] == "customer")
    made, rate = soundfile.read(prepared / "real" / "audio" / row["audio_filepath"])
    assert rate == 16000
    call, _ = soundfile.read(sources / "calls" / f"{row['key']}.wav")
    start = float((sources / "calls" / f"{row['key']}.tsv").read_text(encoding="utf-8").splitlines()[
        int(row["id"].split("-")[1]) - 1].split("\t")[0])  # fmt: skip
    source = call[round(start * 8000) : round(start * 8000) + round(1.3 * 8000), 1]
    assert len(made) == 2 * len(source)
    # every second sample of the doubled rate is the old one, but for the very edge of the band
    inner = slice(200, -200)
    error = made[::2][inner] - source[inner]
    assert (error**2).mean() < 1e-4 * (source[inner] ** 2).mean()


def test_the_report_says_what_the_files_hold(prepared):
    report = json.loads((prepared / "STAGE0_REPORT.json").read_text(encoding="utf-8"))
    page = (prepared / "STAGE0_REPORT.md").read_text(encoding="utf-8")
    html = (prepared / "STAGE0_REPORT.html").read_text(encoding="utf-8")
    for name, raw in (("simulated", 19), ("real", 12)):
        counts = report["sets"][name]["counts"]
        found = {
            side: len(rows_of(prepared / name / f"{side}.jsonl")) for side in ("train", "dev", "dropped")
        }
        assert counts == found | {"raw": raw, "valid": found["train"] + found["dev"]}
        assert f"| {raw} | {counts['valid']} | {counts['train']} | {counts['dev']} |" in page
        durations = [row["duration"] for row in rows_of(prepared / name / "audio" / "train.jsonl")]
        assert report["sets"][name]["hours"]["train"] == pytest.approx(sum(durations) / 3600, abs=1e-4)
        assert sum(report["sets"][name]["durations"]["counts"]["train"]) == len(durations)
        assert f"{raw} raw = {counts['train']} train" in html
    simulated = report["sets"]["simulated"]
    assert simulated["in_source"] == 20
    assert simulated["not_selected"] == {"confidence below 0.95": 1}
    assert sum(simulated["channels"]["presets"].values()) == simulated["counts"]["valid"]
    assert not re.search(r"(src|href)\s*=|https?://|@import|url\(", html)  # one file, no network


def test_the_limits_leave_no_line_out(prepared):
    import yaml

    limits = yaml.safe_load((prepared / "funasr_limits.yaml").read_text(encoding="utf-8"))["dataset_conf"]
    for name in ("simulated", "real"):
        for side in ("train", "dev"):
            for line in rows_of(prepared / name / f"{side}.jsonl"):
                assert limits["min_source_length"] <= line["speech_length"] <= limits["max_source_length"]
                assert line["speech_length"] + line["text_length"] <= limits["max_token_length"]
                assert line["text_length"] <= limits["max_target_length"]


def tree(folder):
    """Bytes of what a run makes, without what states times and the working files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".flac", ".jsonl", ".yaml")
        and "work" not in path.parts
        and "records" not in path.parts
    }


def test_a_second_run_does_nothing_and_changes_nothing(copy, sources, caplog):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.flac")}
    caplog.set_level("INFO")
    assert verb.main(words(sources, copy)) == 0
    skipped = [
        record.getMessage() for record in caplog.records if "done already, skipped" in record.getMessage()
    ]
    assert len(skipped) == 2 * (len(verb.STEP_NAMES) + 1)  # and measuring
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*.flac")}


def test_a_killed_run_goes_on_to_the_same_files(sources, prepared, tmp_path, monkeypatch):
    """Stopped in each of these functions once, as a kill would, then run to the end."""
    out = tmp_path / "stage0"
    for name in ("filter_annotation", "filter_lengths", "divide", "write_messages"):
        with monkeypatch.context() as patch:

            def killed(*_):
                raise KeyboardInterrupt

            patch.setattr(f"nest_ssl.data.stage0.pipeline.{name}", killed)
            with pytest.raises(KeyboardInterrupt):
                verb.main(words(sources, out))
    assert verb.main(words(sources, out)) == 0
    made, expected = tree(out), tree(prepared)
    assert made.keys() == expected.keys()
    moved = {name: content.replace(os.fsencode(out), os.fsencode(prepared)) for name, content in made.items()}
    assert [name for name in moved if moved[name] != expected[name]] == []


def test_facts_that_were_measured_before_a_kill_are_kept(sources, tmp_path, monkeypatch):
    from nest_ssl.data.stage0 import annotate

    measured = []
    real = annotate.audio_facts

    def facts(path, *rest):
        measured.append(path)
        if len(measured) == 18:
            raise KeyboardInterrupt
        return real(path, *rest)

    monkeypatch.setattr(annotate, "audio_facts", facts)
    only = [word for word in words(sources, tmp_path / "o") if "calls=" not in word and word != "--real"]
    with pytest.raises(KeyboardInterrupt):
        verb.main(only)
    (path,) = (tmp_path / "o" / "simulated" / "work").glob("facts-*.jsonl")
    with open(path, "ab") as file:
        file.write(b'{"id": "cut o')  # as a kill leaves it
    assert verb.main(only) == 0
    assert len(measured) == 18 + 18 - 16  # the first task of 16 was written


@pytest.fixture
def wenet(sources, tmp_path):
    """A WenetSpeech of its own, and the words of a run on it alone."""
    shutil.copytree(sources / "wenet", tmp_path / "wenet")
    given = words(sources, tmp_path / "stage0")
    del given[2:4]  # --real
    given[1] = str(tmp_path / "wenet" / "WenetSpeech.json")
    return tmp_path / "wenet" / "audio" / "train" / "youtube", tmp_path / "stage0" / "simulated", given


def test_paths_may_be_relative_to_the_working_folder(wenet, tmp_path, monkeypatch):
    _, out, given = wenet
    monkeypatch.chdir(tmp_path)
    given[1], given[3] = "wenet/WenetSpeech.json", "stage0"
    assert verb.main(given) == 0
    assert {row["reason"] for row in rows_of(out / "dropped.jsonl")}.isdisjoint({"audio_unreadable"})
    assert verb.main(["--check", "stage0"]) == 0


def test_audio_that_was_replaced_is_measured_and_made_anew(wenet, monkeypatch):
    """Under the same path: its utterances are made anew; nothing else is measured again."""
    from nest_ssl.data.stage0 import annotate

    audio, out, given = wenet
    assert verb.main(given) == 0
    made = [path for path in out.rglob("*.flac") if path.name.startswith("Y0000003")]
    before = {path: path.read_bytes() for path in made}
    samples, rate = soundfile.read(audio / "B00003" / "Y0000003.wav")
    soundfile.write(audio / "B00003" / "Y0000003.wav", samples[::-1], rate)
    measured = []
    real = annotate.audio_facts
    monkeypatch.setattr(annotate, "audio_facts", lambda *given: measured.append(given) or real(*given))
    assert verb.main(given) == 0
    assert {Path(path).name for path, *_ in measured} == {"Y0000003.wav"}
    assert before and all(path.read_bytes() != content for path, content in before.items())
    measured.clear()
    assert verb.main(given) == 0
    assert not measured
    assert verb.main(["--check", str(out.parent)]) == 0


def test_audio_that_was_missing_is_used_once_it_is_there(wenet, tmp_path):
    audio, out, given = wenet
    path = audio / "B00003" / "Y0000003.wav"
    path.rename(tmp_path / "away.wav")
    assert verb.main(given) == 0
    missing = [row for row in rows_of(out / "dropped.jsonl") if row["reason"] == "audio_missing"]
    assert len(missing) == 4 and all(row["text"] and row["audio_filepath"] for row in missing)
    (tmp_path / "away.wav").rename(path)
    assert verb.main(given) == 0
    assert not [row for row in rows_of(out / "dropped.jsonl") if row["reason"] == "audio_missing"]


def test_audio_that_was_lost_or_cut_is_made_again(copy, sources):
    paths = sorted((copy / "simulated" / "audio" / "train").rglob("*.flac"))
    content = [path.read_bytes() for path in paths]
    untouched = {path: path.stat().st_mtime_ns for path in paths[2:]}
    paths[0].unlink()
    paths[1].write_bytes(content[1][:-100])
    assert verb.main(words(sources, copy)) == 0
    assert [path.read_bytes() for path in paths] == content
    assert untouched == {path: path.stat().st_mtime_ns for path in paths[2:]}


def test_a_moved_folder_is_mended_by_the_same_command(prepared, sources, tmp_path, capsys, caplog):
    """Lines are written again, audio is not; the channels of calls are found in the new place."""
    first, out = tmp_path / "first", tmp_path / "second"
    assert verb.main(words(sources, first)) == 0
    first.rename(out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert verb.main(["--check", str(out)]) == 1
    assert "the folder was moved or copied" in capsys.readouterr().out
    caplog.set_level("INFO")
    assert verb.main(words(sources, out)) == 0
    again = [record.getMessage() for record in caplog.records if " again, since " in record.getMessage()]
    assert len(again) == 4 and all(": messages-" in message for message in again)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert verb.main(["--check", str(out)]) == 0


def test_redo_measures_and_simulates_again(wenet, monkeypatch):
    from nest_ssl.data.stage0 import annotate

    _, out, given = wenet
    assert verb.main(given) == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "audio" / "train").rglob("*.flac")}
    content = {path: path.read_bytes() for path in before}
    measured = []
    real = annotate.audio_facts
    monkeypatch.setattr(annotate, "audio_facts", lambda *words: measured.append(words) or real(*words))
    assert verb.main([*given, "--redo", "annotation", "--redo", "channel-train"]) == 0
    assert len(measured) == 18
    assert all(path.stat().st_mtime_ns != at for path, at in before.items())
    assert content == {path: path.read_bytes() for path in before}


def test_changed_settings_redo_what_depends_on_them_only(copy, sources, caplog):
    caplog.set_level("INFO")
    assert verb.main([*words(sources, copy), "sets.real.length.seconds.max=1.0e+9"]) == 0
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "real: length again, since limits was" in said
    assert "real: split is done already" in said  # the same rows come out
    assert "real: annotation is done already" in said


def test_check_passes_what_prepare_has_made(copy, capsys):
    assert verb.main(["--check", str(copy)]) == 0
    assert "0 problems" in capsys.readouterr().out


def first_line(out, name="simulated", side="train"):
    path = out / name / f"{side}.jsonl"
    rows = rows_of(path)
    return path, rows


def plant_missing_audio(out):
    next((out / "simulated" / "audio" / "train").rglob("*.flac")).unlink()
    return "does not exist|missing"


def plant_changed_text(out):
    path, rows = first_line(out)
    text = rows[0]["messages"][-1]["content"]
    rows[0]["messages"][-1]["content"] = ("再" if text[0] != "再" else "见") + text[1:]
    write_rows(path, rows)
    return "changed text"


def plant_wrong_length(out):
    path, rows = first_line(out, "real")
    rows[0]["speech_length"] *= 2
    write_rows(path, rows)
    return "speech_length"


def plant_wrong_tokens(out):
    path, rows = first_line(out)
    rows[0]["text_length"] += 1
    write_rows(path, rows)
    return "text_length"


def plant_cut_audio(out):
    path = next((out / "real" / "audio" / "dev").rglob("*.flac"))
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, samples[: len(samples) // 2], rate)
    return "duration|length"


def plant_truncated_file(out):
    path = next((out / "real" / "audio" / "dev").rglob("*.flac"))
    path.write_bytes(path.read_bytes()[:-200])
    return "unreadable audio"


def plant_flipped_bytes(out):
    path = next((out / "simulated" / "audio" / "train").rglob("*.flac"))
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 40):
        content[place] ^= 0x55
    path.write_bytes(content)
    return "unreadable audio"


def plant_other_audio_of_that_length(out):
    path = next((out / "simulated" / "audio" / "train").rglob("*.flac"))
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, 0 * samples, rate)
    return "changed audio"


def plant_other_limits(out):
    path = out / "funasr_limits.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\n  batch_size: ", "\n  batch_size: 1"), encoding="utf-8")
    return "other limits"


def plant_damaged_limits(out):
    (out / "funasr_limits.yaml").write_text("{", encoding="utf-8")
    return "bad YAML"


def plant_wrong_rate(out):
    path = next((out / "real" / "audio" / "dev").rglob("*.flac"))
    samples, _ = soundfile.read(path, dtype="int16")
    soundfile.write(path, samples, 8000)
    return "rate"


def plant_leak(out):
    manifests = [out / "simulated" / "audio" / f"{side}.jsonl" for side in ("train", "dev")]
    train_rows, dev_rows = (rows_of(path) for path in manifests)
    train_rows[0]["recording"] = dev_rows[0]["recording"]
    write_rows(manifests[0], train_rows)
    return "leak"


def plant_lost_line(out):
    path, rows = first_line(out)
    write_rows(path, rows[:-1])
    return "wrong count"


def plant_other_report(out):
    path = out / "STAGE0_REPORT.md"
    path.write_text(
        path.read_text(encoding="utf-8").replace("| simulated | ", "| simulated | 9"), encoding="utf-8"
    )
    return "other report"


def plant_lost_drops(out):
    path = out / "simulated" / "dropped.jsonl"
    write_rows(path, rows_of(path)[1:])
    return "wrong sum|wrong count"


PLANTS = [
    plant_missing_audio,
    plant_changed_text,
    plant_wrong_length,
    plant_wrong_tokens,
    plant_cut_audio,
    plant_truncated_file,
    plant_flipped_bytes,
    plant_other_audio_of_that_length,
    plant_other_limits,
    plant_damaged_limits,
    plant_wrong_rate,
    plant_leak,
    plant_lost_line,
    plant_other_report,
    plant_lost_drops,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__.removeprefix("plant_"))
def test_check_finds_a_planted_fault(prepared, tmp_path, plant, capsys):
    out = tmp_path / "stage0"
    shutil.copytree(prepared, out)
    for name in ("simulated", "real"):  # the copy's lines name the copy's audio
        for side in ("train", "dev"):
            path = out / name / f"{side}.jsonl"
            path.write_bytes(path.read_bytes().replace(os.fsencode(prepared), os.fsencode(out)))
    expected = plant(out)
    assert verb.main(["--check", str(out)]) == 1
    assert re.search(expected, capsys.readouterr().out)


def test_without_a_tokenizer_it_stops_after_the_manifests_and_goes_on_later(sources, tmp_path, caplog):
    out = tmp_path / "stage0"
    whole = words(sources, out)
    without = [word for word in whole if word not in ("--tokenizer", str(sources / "tokenizer"))]
    assert verb.main(without) == verb.STOPPED_EARLY
    assert "Give the same command with --tokenizer" in caplog.text
    assert rows_of(out / "real" / "audio" / "train.jsonl")
    assert not (out / "real" / "train.jsonl").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert verb.main(whole) == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}


def test_a_preview_removes_nothing(sources, tmp_path, capsys):
    assert verb.main(words(sources, tmp_path / "o", "--preview")) == 0
    said = capsys.readouterr().out
    assert "what the length limits remove of 14 rows" in said and "seconds_max" in said
    assert not (tmp_path / "o" / "simulated" / "work" / "fitting.jsonl").exists()


def test_a_test_takes_few_rows_to_a_folder_of_its_own(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "TEST_ROWS", 8)
    monkeypatch.setattr("nest_ssl.data.stage0.read.PER_RECORDING_IN_A_TEST", 2)
    assert verb.main(words(sources, tmp_path / "o", "--test")) == 0
    assert not (tmp_path / "o").exists()
    report = json.loads((tmp_path / "o-test" / "STAGE0_REPORT.json").read_text(encoding="utf-8"))
    assert [section["counts"]["raw"] for section in report["sets"].values()] == [8, 8]
    assert verb.main(["--check", str(tmp_path / "o-test")]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--simulated", "nowhere/WenetSpeech.json"], "nowhere/WenetSpeech.json does not exist"),
        (["--simulated", "wenet=x"], "there is no kind of source 'wenet'; known are wenetspeech"),
        (["sets.simulated.wenetspeech.subsets=[XL]"], r"there is no subset XL; the file has L \(20\)"),
        (["sets.simulated.wenetspeech.min_confidence=7"], "min_confidence: 7 is no number from 0 to 1"),
        (["sets.real.split.by=[colour]"], "sets.real.split.by: 'colour' is none of recording"),
        (["sets.real.split.dev_list=nowhere.txt"], "nowhere.txt does not exist"),
        (["sets.simulated.root=nowhere"], "no utterance of .* can be used: .* audio_missing"),
        (["--tokenizer", "nowhere"], "nowhere is no folder"),
        (["sets.real.length.seconds.max=0.4"], "real: no row is left: 12 seconds_over_max"),
        (["--mix", "mars"], "there is no mix 'mars'"),
    ],
)
def test_a_mistake_has_its_sentence(sources, tmp_path, change, message):
    with pytest.raises((ValueError, OSError), match=message):
        verb.main([*words(sources, tmp_path / "o"), *change])


def test_two_runs_at_once_are_refused(sources, tmp_path):
    from nest_ssl.files.system import lock_or_fail

    out = tmp_path / "o"
    out.mkdir()
    with open(out / ".lock", "a") as lock:
        lock_or_fail(lock)
        with pytest.raises(ValueError, match="is being written by another run"):
            verb.main(words(sources, out))


def test_nothing_to_prepare_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        verb.main(["--out", "x"])
    assert caught.value.code == 2
    assert "give --simulated" in capsys.readouterr().err


def test_kaldi_and_manifests_are_sources_too(sources, tmp_path):
    kaldi = tmp_path / "kaldi"
    kaldi.mkdir()
    calls = sorted((sources / "calls").glob("*.wav"))
    (kaldi / "wav.scp").write_text("".join(f"{path.stem} {path}\n" for path in calls), encoding="utf-8")
    segments, text = [], []
    for number, path in enumerate(calls):
        for channel in "AB":
            name = f"{path.stem}-{channel}"
            segments.append(f"{name} {path.stem} 0.1 3.0 {channel}\n")
            text.append(f"{name} {WORDS[number * 2 : number * 2 + 6]}{WORDS[-3 - ord(channel) % 2]}\n")
    (kaldi / "segments").write_text("".join(segments), encoding="utf-8")
    (kaldi / "text").write_text("".join(text), encoding="utf-8")
    rows = [
        {"audio_filepath": str(path), "duration": 3.0, "offset": 0.2, "channel_selector": channel,
         "text": WORDS[10 + number + channel : 18 + number + channel], "id": f"m-{path.stem}-{channel}"}
        for number, path in enumerate(calls)
        for channel in (0, 1)
    ]  # fmt: skip
    write_rows(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "o"
    command = ["--real", str(kaldi), "--real", str(tmp_path / "rows.jsonl"), "--out", str(out)]
    assert verb.main([*command, "--tokenizer", str(sources / "tokenizer"), "sets.real.split.dev=0.4"]) == 0
    report = json.loads((out / "STAGE0_REPORT.json").read_text(encoding="utf-8"))
    assert report["sets"]["real"]["counts"]["raw"] == 12
    made = [row for side in ("train", "dev") for row in rows_of(out / "real" / "audio" / f"{side}.jsonl")]
    sides = Counter((Path(row["recording"]).name) for row in made)
    assert set(sides) == {path.name for path in calls}  # one recording, whatever the channel and the source
    assert verb.main(["--check", str(out)]) == 0


@pytest.mark.slow
def test_two_workers_give_the_files_of_one(sources, prepared, tmp_path):
    out = tmp_path / "stage0"
    command = [sys.executable, "-m", "nest_ssl.bin.prepare", *words(sources, out, "--workers", "2")]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    made, expected = tree(out), tree(prepared)
    moved = {name: content.replace(os.fsencode(out), os.fsencode(prepared)) for name, content in made.items()}
    assert moved == expected
