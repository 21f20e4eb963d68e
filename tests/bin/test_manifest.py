"""The manifest verb: divisions that keep together what belongs together, checks that name every bad line."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile

from nest_ssl.bin import manifest as verb
from nest_ssl.data.corpus import Corpus
from nest_ssl.files.audio import write_audio
from nest_ssl.files.manifest import read_rows, write_rows

LANGUAGES, FORMATS = ("en", "fr"), ("g722", "gsm")


def make_prompts(folder, keys=40, seconds=1.0):
    """One manifest per format; each key in two languages."""
    write_audio(
        folder / "audio" / "a b é.flac", (np.arange(round(16000 * seconds)) % 99).astype(np.int16), 16000
    )
    paths = []
    for fmt in FORMATS:
        rows = [
            {"id": f"{lang}/k{k}/{fmt}", "audio_filepath": "audio/a b é.flac", "duration": seconds,
             "key": f"k{k}", "lang": lang, "text": "拨"}
            for lang in LANGUAGES
            for k in range(keys)
        ]  # fmt: skip
        write_rows(folder / f"{fmt}.jsonl", rows)
        paths.append(folder / f"{fmt}.jsonl")
    return paths


def run(inputs, out_dir, *options):
    named = [word for path in inputs for word in ("--in", str(path))]
    return verb.main([*named, "--out-dir", str(out_dir), *map(str, options)])


def rows_of(path):
    return [row for _, row in read_rows(path)]


def test_no_key_is_in_two_splits_and_no_row_is_lost(tmp_path, capsys):
    inputs = make_prompts(tmp_path)
    assert run(inputs, tmp_path / "out", "--dev", 0.2, "--test", 0.2) == 0
    splits = {name: rows_of(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    where: dict[str, set[str]] = {}
    for name, rows in splits.items():
        for row in rows:
            where.setdefault(row["key"], set()).add(name)
    assert len(where) == 40 and all(len(names) == 1 for names in where.values())
    found = Counter(row["id"] for rows in splits.values() for row in rows)
    assert found == Counter(row["id"] for path in inputs for row in rows_of(path))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["splits"]["train"]["rows"] == len(splits["train"])
    assert report["splits"]["dev"]["keys"] * 4 == len(splits["dev"])
    assert report["splits"]["test"]["hours"] == pytest.approx(len(splits["test"]) / 3600, abs=1e-4)
    assert "train" in capsys.readouterr().out


def test_a_key_stays_in_its_split_when_data_are_added(tmp_path):
    def splits_of_keys(keys, out, *options):
        (tmp_path / out).mkdir()
        run(make_prompts(tmp_path / out, keys), tmp_path / out, "--dev", 0.2, "--test", 0.2, *options)
        names = ("train", "dev", "test")
        return {row["key"]: name for name in names for row in rows_of(tmp_path / out / f"{name}.jsonl")}

    small, large = splits_of_keys(30, "a"), splits_of_keys(60, "b")
    assert all(large[key] == name for key, name in small.items())
    assert splits_of_keys(60, "c", "--seed", 5) != large


def test_paths_lead_to_the_audio_also_after_a_move(tmp_path):
    inputs = make_prompts(tmp_path / "data")
    rows = rows_of(inputs[0])
    absolute = str(tmp_path / "data" / "audio" / "a b é.flac")
    write_rows(inputs[0], [{**row, "audio_filepath": absolute} for row in rows[:1]] + rows[1:])
    run(inputs, tmp_path / "data" / "sub" / "manifests", "--dev", 0, "--test", 0)
    written = rows_of(tmp_path / "data" / "sub" / "manifests" / "train.jsonl")
    assert written[0]["audio_filepath"] == absolute
    assert written[1]["audio_filepath"] == "../../audio/a b é.flac"
    shutil.move(tmp_path / "data", tmp_path / "moved")
    corpus = Corpus(tmp_path / "moved" / "sub" / "manifests" / "train.jsonl")
    assert corpus[1].audio_path.is_file()


def test_durations_outside_are_dropped_with_their_ids(tmp_path):
    folder = tmp_path / "m"
    (path, _) = make_prompts(folder, 3)
    rows = rows_of(path)
    for row, duration in zip(rows, [0.4, 0.5, 20.0, 20.1, 0.1, 3.0], strict=True):
        row["duration"] = duration
    write_rows(path, rows)
    run([path], folder, "--dev", 0, "--test", 0, "--min-duration", 0.5, "--max-duration", 20)
    assert [row["duration"] for row in rows_of(folder / "train.jsonl")] == [0.5, 20.0, 3.0]
    dropped = rows_of(folder / "dropped.jsonl")
    assert [(row["id"], row["reason"], row["row"]) for row in dropped] == [
        ("en/k0/g722", "shorter than 0.5 s", f"{path}:1"),
        ("fr/k0/g722", "longer than 20.0 s", f"{path}:4"),
        ("fr/k1/g722", "shorter than 0.5 s", f"{path}:5"),
    ]
    report = json.loads((folder / "report.json").read_text())
    assert report["dropped"]["shorter than 0.5 s"] == {
        "rows": 2, "hours": round(0.5 / 3600, 4), "first_ids": ["en/k0/g722", "fr/k1/g722"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio_filepath": "audio/no.flac"}, "audio missing: audio/no.flac is neither there nor in"),
        ({"audio_filepath": ""}, "no audio_filepath"),
        ({"key": ""}, "no key: --split-by key needs that field; the row has id, "),
        ({"duration": -1}, "bad duration: -1 is not a positive number"),
        ({"duration": "1"}, "bad duration: '1'"),
        ({"id": "en/k0/g722"}, "double id: 'en/k0/g722' is also that of .*g722.jsonl:1"),
    ],
)
def test_rows_that_cannot_be_used_stop_the_verb_or_are_counted(tmp_path, change, message):
    (path, _) = make_prompts(tmp_path)
    rows = rows_of(path)
    rows[2].update(change)
    write_rows(path, rows)
    with pytest.raises(ValueError, match=rf"1 rows cannot be used; .*\n  .*g722\.jsonl:3: {message}"):
        run([path], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    run([path], tmp_path / "out", "--drop-bad", "--dev", 0.2)
    (dropped,) = rows_of(tmp_path / "out" / "dropped.jsonl")
    assert dropped["row"] == f"{path}:3" and message.startswith(dropped["reason"])


def test_a_missing_duration_is_read_from_the_audio(tmp_path):
    (path, _) = make_prompts(tmp_path, 2, seconds=1.25)
    rows = [{key: value for key, value in row.items() if key != "duration"} for row in rows_of(path)]
    rows[1]["offset"] = 0.5
    write_rows(path, rows)
    run([path], tmp_path, "--dev", 0, "--test", 0)
    assert [row["duration"] for row in rows_of(tmp_path / "train.jsonl")] == [1.25, 0.75, 1.25, 1.25]


def test_an_empty_split_and_an_empty_manifest_are_refused(tmp_path):
    (path, other) = make_prompts(tmp_path, 2)
    with pytest.raises(ValueError, match=r"the split (dev|test) is empty: 2 values of 'key' are few for --"):
        run([path], tmp_path / "out")
    other.write_text("")
    with pytest.raises(ValueError, match=r"no row of .*gsm\.jsonl is left: the manifests are empty"):
        run([other], tmp_path / "out")
    with pytest.raises(ValueError, match=r"no row of .* is left: 4 shorter than 9"):
        run([path], tmp_path / "out", "--min-duration", 9)
    with pytest.raises(ValueError, match="leave nothing to train on"):
        run([path], tmp_path / "out", "--dev", 0.5, "--test", 0.5)


def test_a_split_that_is_no_longer_wanted_goes(tmp_path):
    inputs = make_prompts(tmp_path)
    run(inputs, tmp_path / "out", "--dev", 0.3, "--test", 0.3)
    run(inputs, tmp_path / "out", "--dev", 0.3, "--test", 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dev.jsonl", "dropped.jsonl", "report.json", "train.jsonl",
    ]  # fmt: skip


def test_the_same_command_writes_the_same_bytes(tmp_path):
    inputs = make_prompts(tmp_path)
    run(inputs, tmp_path / "out", "--dev", 0.2)
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    run(inputs, tmp_path / "out", "--dev", 0.2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def check(*words):
    return verb.main(["--check", *map(str, words)])


def test_a_good_manifest_passes_and_leaves_no_file(tmp_path, capsys):
    (path, _) = make_prompts(tmp_path, 3)
    (tmp_path / "g722.jsonl.problems.txt").write_text("of a former check")
    assert check(path, "--sample-rate", 16000, "--decode") == 0
    assert "checked 6 rows, 0.002 h, 0 problems" in capsys.readouterr().out
    assert not (tmp_path / "g722.jsonl.problems.txt").exists()


def test_check_names_every_bad_line(tmp_path, capsys):
    good = {"audio_filepath": "a.wav", "duration": 1.0}
    write_audio(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    write_audio(tmp_path / "8k.wav", np.zeros(8000, np.int16), 8000)
    soundfile.write(tmp_path / "st.wav", np.zeros((16000, 2)), 16000)
    write_audio(tmp_path / "none.wav", np.zeros(0, np.int16), 16000)
    (tmp_path / "bad.flac").write_bytes(b"fLaC")
    lines = [
        (good | {"id": "one"}, ""),
        ("{", "bad JSON"),
        ("", ""),
        ({"text": "x"}, "missing key"),
        ({"audio_filepath": "a.wav"}, "missing key: there is no duration"),
        (good | {"audio_filepath": "b.wav"}, "missing audio"),
        (good | {"duration": 1.1, "id": 3}, r"wrong duration: 1\.1 s do not match the 1\.000 s"),
        (good | {"duration": 1.01, "id": 4}, ""),  # rounded
        (good | {"offset": 0.5, "duration": 0.5}, ""),
        (
            good | {"offset": 0.5, "duration": 0.6},
            "wrong duration: offset 0.5 s and duration 0.6 s reach behind",
        ),
        (good | {"audio_filepath": "bad.flac"}, "unreadable audio"),
        (good | {"audio_filepath": "none.wav"}, "unreadable audio.*no samples"),
        (good | {"audio_filepath": "8k.wav"}, "wrong sample rate: .*8000 Hz, not 16000"),
        (good | {"id": "one"}, "double id: 'one' is also that of .*m é.jsonl:1"),
        (good | {"duration": 0, "id": 5}, "bad duration: 0"),
        (good | {"duration": -2.0, "id": 6}, "bad duration: -2.0"),
        (good | {"audio_filepath": "st.wav"}, ""),
    ]
    path = tmp_path / "m é.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line, _ in lines))
    assert check(path, "--sample-rate", 16000) == 1
    problems = (tmp_path / "m é.jsonl.problems.txt").read_text().splitlines()
    lines_with_problems = {int(problem.removeprefix(f"{path}:").partition(":")[0]) for problem in problems}
    assert lines_with_problems == {i for i, (_, kind) in enumerate(lines, start=1) if kind}
    for i, (_, kind) in enumerate(lines, start=1):
        if kind:
            assert any(re.match(rf"{re.escape(str(path))}:{i}: {kind}", problem) for problem in problems), (
                i,
                kind,
            )
    printed = capsys.readouterr().out
    assert f"{len(problems)} problems" in printed and "1 rows have several channels" in printed


def test_check_finds_an_id_that_two_manifests_share(tmp_path, capsys):
    write_audio(tmp_path / "a.wav", np.zeros(16000, np.int16), 16000)
    good = {"audio_filepath": "a.wav", "duration": 1.0}
    names = {"train": ["a", "b"], "dev": ["c"], "test": ["d", "b"]}
    for split, ids in names.items():
        write_rows(tmp_path / f"{split}.jsonl", [good | {"id": name} for name in ids])
    train, dev, test = (tmp_path / f"{split}.jsonl" for split in names)
    assert check(train, dev) == check(train, train) == 0
    capsys.readouterr()
    assert check(train, dev, test) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{test}:2: double id: 'b' is also that of {train}:2"
    assert "checked 5 rows, 0.001 h, 1 problems" in printed


def test_without_ids_check_compares_the_audio_itself(tmp_path):
    row = {"audio_filename": "a.wav", "duration": 1.0}
    for folder in ("one", "two"):
        write_audio(tmp_path / folder / "a.wav", np.zeros(16000, np.int16), 16000)
        write_rows(tmp_path / folder / "m.jsonl", [row])
    one, two = tmp_path / "one" / "m.jsonl", tmp_path / "two" / "m.jsonl"
    assert check(one, two) == 0
    write_rows(two, [row, {"audio_filepath": "../one/a.wav", "duration": 1.0, "offset": 0}])
    assert check(one, two) == 1
    found = (tmp_path / "one" / "m.jsonl.problems.txt").read_text().splitlines()
    assert found == [f"{two}:2: double id: '../one/a.wav@0.0' is also that of {one}:1"]


def test_a_reader_that_goes_away_ends_the_verb_quietly(tmp_path, checkout):
    (tmp_path / "m.jsonl").write_text("{\n" * 50)
    program = f"{sys.executable} -m nest_ssl.bin.manifest --check m.jsonl"
    done = subprocess.run(
        ["bash", "-c", f"{program} | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


def test_decode_finds_damage_behind_the_header(tmp_path):
    write_audio(
        tmp_path / "a.flac", (np.random.default_rng(0).standard_normal(32000) * 3000).astype(np.int16), 16000
    )
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": "a.flac", "duration": 2.0}])
    assert check(tmp_path / "m.jsonl") == 0
    assert check(tmp_path / "m.jsonl", "--decode", "--problems", tmp_path / "list.txt") == 1
    assert "m.jsonl:1: unreadable audio:" in (tmp_path / "list.txt").read_text()


def test_an_empty_manifest_is_a_problem(tmp_path, capsys):
    (tmp_path / "m.jsonl").write_text("\n")
    assert check(tmp_path / "m.jsonl") == 1
    assert "empty manifest" in capsys.readouterr().out


def test_only_the_first_problems_are_printed(tmp_path, capsys):
    (tmp_path / "m.jsonl").write_text("{\n" * 50)
    assert check(tmp_path / "m.jsonl") == 1
    assert capsys.readouterr().out.count("bad JSON:") == 20
    assert len((tmp_path / "m.jsonl.problems.txt").read_text().splitlines()) == 50


@pytest.mark.parametrize("words", [[], ["--in", "a"], ["--in", "a", "--check", "b"]])
def test_a_wrong_choice_of_options_is_refused(words):
    with pytest.raises(SystemExit) as raised:
        verb.main(words)
    assert raised.value.code == 2


def test_the_verb_ends_in_one_line_without_a_traceback(tmp_path, checkout):
    done = subprocess.run(
        [sys.executable, "-m", "nest_ssl.bin.manifest", "--in", "no.jsonl", "--out-dir", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["manifest: error: manifest no.jsonl does not exist"]
