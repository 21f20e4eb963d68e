"""Reports of data preparation, whoever wrote them, come to the same table."""

from __future__ import annotations

import json

import pytest

from nest_ssl.report.data_reports import data_reports_near, read_data_report


def written(path, report):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def test_sets_of_a_recipe_with_minutes_and_what_was_dropped_of_a_group(tmp_path):
    report = {
        "train_gsm": {"prompts": 396, "minutes": 15.0, "characters": 10727},
        "dropped": {"gsm: shorter than wanted": 7, "gsm: no text": 2},
    }
    first, group = read_data_report(written(tmp_path / "report.json", report))
    assert (first.name, first.utterances, first.hours, first.characters) == ("train_gsm", 396, 0.25, 10727)
    assert group.name == "gsm, all splits" and group.utterances is None
    assert group.dropped == {"shorter than wanted": 7, "no text": 2}


def test_the_report_of_stage_0(tmp_path):
    section = {
        "counts": {"raw": 72, "train": 61, "dev": 6, "dropped": 5, "valid": 67},
        "hours": {"train": 0.05, "dev": 0.01, "dropped": 0.02},
        "dropped": [{"reason": "empty_text", "rows": 3}, {"reason": "bad_encoding", "rows": 2}],
        "durations": {"counts": {"train": [1, 2]}},
    }
    report = {"sets": {"simulated": section}, "settings": {"sets": {"x": {"rows": 5}}}}
    sets = read_data_report(written(tmp_path / "STAGE0_REPORT.json", report))
    assert [(s.name, s.utterances, s.hours) for s in sets] == [
        ("simulated", 67, pytest.approx(0.06)), ("simulated/train", 61, 0.05), ("simulated/dev", 6, 0.01),
    ]  # fmt: skip
    assert sets[0].dropped == {"empty_text": 3, "bad_encoding": 2}


def test_the_report_of_manifest_and_one_that_lists_keys(tmp_path):
    report = {
        "options": {"dev": {"rows": 9}},
        "splits": {"train": {"rows": 2283, "hours": 1.5, "keys": 455}},
        "archives": {"en": {"kept": 551, "dropped": {"no speech": ["a", "b"]}}},
        "dropped": {"longer than 20.0 s": {"rows": 51, "first_ids": ["x"]}},
    }
    train, archive, everything = read_data_report(written(tmp_path / "report.json", report))
    assert (train.name, train.utterances, train.hours) == ("train", 2283, 1.5)
    assert (archive.name, archive.utterances, archive.hours, archive.dropped) == (
        "en",
        551,
        None,
        {"no speech": 2},
    )
    assert everything.dropped == {"longer than 20.0 s": 51}


@pytest.mark.parametrize(
    ("text", "named"), [("{oh", "is not JSON"), ("[1]", "names no set"), ('{"a": {"b": 1}}', "names no set")]
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, text, named):
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=named):
        read_data_report(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.json does not exist"):
        read_data_report(tmp_path / "gone.json")


def test_reports_are_found_by_their_usual_names(tmp_path):
    wanted = [
        written(tmp_path / name, {})
        for name in ("finetune/report.json", "stage0/STAGE0_REPORT.json", "en.report.json")
    ]
    written(tmp_path / "finetune" / "other.json", {})
    assert data_reports_near([tmp_path]) == sorted(wanted)
