import json

import pytest

from nest_ssl.decoding.fun_asr_journal import Journal

SETTINGS = {"beam": 8, "hotwords": ["a"]}


def filled(out, *names, **options):
    with Journal(out, SETTINGS, **options) as journal:
        for name in names:
            journal.add(name, {"key": name, "text": name.upper()})


def test_a_killed_run_goes_on(tmp_path):
    out = tmp_path / "hyp.jsonl"
    filled(out, "a", "b")
    assert not out.exists()
    with Journal(out, SETTINGS) as journal:
        assert list(journal.done) == ["a", "b"]
        journal.add("c", {"key": "c"})
        assert journal.finish(["c", "a"]) == 2
    assert [json.loads(line)["key"] for line in out.read_text().splitlines()] == ["c", "a"]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_half_written_line_is_cut_off(tmp_path, cut):
    out = tmp_path / "hyp.jsonl"
    filled(out, "a", "b")
    path = tmp_path / "hyp.jsonl.journal"
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(out, SETTINGS) as journal:
        assert list(journal.done) == ["a"]
        journal.add("b", {"key": "b"})
    with Journal(out, SETTINGS) as journal:
        assert list(journal.done) == ["a", "b"]


def test_errors_are_tried_again(tmp_path):
    with Journal(tmp_path / "h", SETTINGS) as journal:
        journal.add("a", {"key": "a", "error": "gone"})
    with Journal(tmp_path / "h", SETTINGS) as journal:
        assert not journal.done


def test_other_settings_are_refused_by_name(tmp_path):
    filled(tmp_path / "h", "a")
    with pytest.raises(ValueError, match=r"beam was 8, is 4\. .*--fresh"):
        Journal(tmp_path / "h", {**SETTINGS, "beam": 4})


@pytest.mark.parametrize("option", ["fresh", "fresh_if_changed"])
def test_other_settings_start_anew_where_that_is_wanted(tmp_path, option):
    filled(tmp_path / "h", "a")
    with Journal(tmp_path / "h", {**SETTINGS, "beam": 4}, **{option: True}) as journal:
        assert not journal.done
    with Journal(tmp_path / "h", {**SETTINGS, "beam": 4}) as journal:
        assert not journal.done


def test_fresh_forgets_and_fresh_if_changed_keeps_equal_settings(tmp_path):
    filled(tmp_path / "h", "a")
    with Journal(tmp_path / "h", SETTINGS, fresh_if_changed=True) as journal:
        assert list(journal.done) == ["a"]
    with Journal(tmp_path / "h", SETTINGS, fresh=True) as journal:
        assert not journal.done


def test_results_of_unknown_origin_are_not_replaced(tmp_path):
    (tmp_path / "h").write_text("{}\n")
    with pytest.raises(ValueError, match="--fresh replaces it"):
        Journal(tmp_path / "h", SETTINGS)


def test_a_spoilt_line_is_named(tmp_path):
    filled(tmp_path / "h", "a")
    with open(tmp_path / "h.journal", "a") as file:
        file.write("nonsense\n")
    with pytest.raises(ValueError, match=r"h\.journal:3"):
        Journal(tmp_path / "h", SETTINGS)


def test_two_runs_at_once_are_refused(tmp_path):
    with Journal(tmp_path / "h", SETTINGS), pytest.raises(ValueError, match="another process"):
        Journal(tmp_path / "h", SETTINGS)
