"""The manifest verb on data of other tools: what it writes, prints and refuses."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from nest_ssl.bin import manifest as verb
from nest_ssl.files.audio import write_audio
from tests.data_room.source_data import noise, rows_of, text_files


@pytest.fixture
def kaldi(tmp_path):
    write_audio(tmp_path / "a.wav", noise(16000), 8000)
    text_files(
        tmp_path / "data",
        **{
            "wav.scp": "r1 a.wav\n",
            "segments": "u1 r1 0 1\nu2 r1 1 2\n",
            "text": "u1 x\n",
            "utt2spk": "u1 s\n",
        },
    )
    return tmp_path


def run(*words):
    return verb.main([str(word) for word in words])


def test_a_manifest_is_written_and_accounted_for(kaldi, capsys):
    out = kaldi / "made" / "train.jsonl"
    assert run("--from", "kaldi", "--in", kaldi / "data", "--root", kaldi, "--out", out, "--jobs", 2) == 0
    assert [(row["id"], row["audio_filepath"]) for row in rows_of(out)] == [
        ("u1", "../a.wav"), ("u2", "../a.wav"),
    ]  # fmt: skip
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == ["rows 2, 0.0006 h", "  2 of 8000 Hz", "  1 without text"]
    assert printed[3] == "left out 0" and str(out) in printed[4]
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "train.dropped.jsonl", "train.jsonl", "train.report.json",
    ]  # fmt: skip
    assert run("--check", out, "--sample-rate", 8000) == 0


def test_the_manifest_divides_by_its_own_fields(kaldi):
    out = kaldi / "all.jsonl"
    run("--from", "kaldi", "--in", kaldi / "data", "--root", kaldi, "--out", out)
    run("--in", out, "--out-dir", kaldi / "split", "--split-by", "id", "--dev", 0, "--test", 0)
    assert len(rows_of(kaldi / "split" / "train.jsonl")) == 2


def test_check_reads_other_kinds_and_writes_nothing_else(kaldi, capsys):
    words = ("--check", kaldi / "data", "--from", "kaldi", "--root", kaldi)
    assert run(*words) == 0
    assert "checked 2 rows, 0.001 h, 0 problems" in capsys.readouterr().out
    text_files(kaldi / "data", text="u1 x\nu7 y\n", segments="u1 r1 0 1\nu2 r1 1 5\n")
    assert run(*words) == 1
    printed = capsys.readouterr().out
    assert f"{kaldi}/data/text:2: text without audio: 'u7' is in text but not in segments" in printed
    assert f"{kaldi}/data/segments:2: behind the end of the recording" in printed
    assert (kaldi / "data.problems.txt").read_text().count("\n") == 2
    assert sorted(path.name for path in kaldi.iterdir()) == ["a.wav", "data", "data.problems.txt"]


def test_check_decodes_pipes_without_writing_their_audio(kaldi):
    text_files(kaldi / "data", **{"wav.scp": f"r1 cat '{kaldi / 'a.wav'}' |\n"})
    words = ("--check", kaldi / "data", "--from", "kaldi")
    assert run(*words) == 1
    assert "--allow-pipes" in (kaldi / "data.problems.txt").read_text()
    assert run(*words, "--allow-pipes") == 0
    assert sorted(path.name for path in kaldi.iterdir()) == ["a.wav", "data"]


def test_check_knows_telephone_formats_tarred_manifests_and_rates(tmp_path, capsys):
    (tmp_path / "a.ul").write_bytes(bytes(8000))
    rows = [
        {"id": "1", "audio_filepath": "a.ul", "duration": 1.0, "orig_sample_rate": 8000},
        {"id": "2", "audio_filepath": "a.ul", "duration": 1.0, "orig_sample_rate": 16000},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("--check", tmp_path / "m.jsonl", "--decode", "--sample-rate", 8000) == 1
    assert (
        f"{tmp_path}/m.jsonl:2: wrong sample rate: {tmp_path}/a.ul has 8000 Hz, orig_sample_rate is 16000"
        in (capsys.readouterr().out)
    )
    tarred = tmp_path / "tarred_audio_manifest.json"
    tarred.write_text(json.dumps({"audio_filepath": "x.flac", "duration": 1.0, "shard_id": 0}) + "\n")
    assert run("--check", tarred) == 0
    assert "1 rows name members of archives" in capsys.readouterr().out


def test_check_names_audio_that_is_cut_off(tmp_path, capsys):
    write_audio(tmp_path / "a.wav", np.zeros(8000, np.int16), 8000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-8000])
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 0.5}\n')
    assert run("--check", tmp_path / "m.jsonl") == 1
    assert "m.jsonl:1: unreadable audio: " in capsys.readouterr().out


def test_the_help_fits_on_a_screen_and_ends_with_an_example(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 52 and max(map(len, lines)) <= 110
    assert any(line.startswith("  python -m nest_ssl.bin.manifest --from kaldi") for line in lines)


@pytest.mark.parametrize(
    "words",
    [
        ["--from", "kaldi", "--in", "a"],
        ["--from", "kaldi", "--in", "a", "--out-dir", "b"],
        ["--from", "kaldi", "--in", "a", "--out", "b", "--out-dir", "c"],
        ["--from", "excel", "--in", "a", "--out", "b"],
        ["--from", "kaldi", "--out", "b"],
        ["--in", "a", "--out", "b"],
    ],
)
def test_a_wrong_choice_of_options_is_refused(words):
    with pytest.raises(SystemExit) as raised:
        run(*words)
    assert raised.value.code == 2


def test_bad_data_end_in_sentences_without_a_traceback(kaldi, checkout):
    text_files(kaldi / "data", segments="u1 r1 0 1\nu2 r9 1 2\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "nest_ssl.bin.manifest",
         "--from", "kaldi", "--in", "data", "--out", "m.jsonl"],
        capture_output=True, text=True, cwd=kaldi, check=False,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "manifest: error: 1 utterances cannot be used; repair them, or leave them out and have them counted "
        "with --drop-bad:",
        "  data/segments:2: segment without recording: 'u2' is a part of 'r9', which is not in wav.scp",
    ]
