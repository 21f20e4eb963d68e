"""A whole experiment is read, and a half-finished one as well: what is missing is said in words."""

from __future__ import annotations

import json

import pytest

from nest_ssl.report.answer import Aims
from nest_ssl.report.experiment import read_experiment
from nest_ssl.report.results_page import results_page
from tests.report.experiments import make_run, mark, score_row, scores, train, validation


def test_an_empty_folder_has_a_report_that_says_so(tmp_path):
    found = read_experiment(tmp_path)
    assert [answer.verdict for answer in found.answers] == ["unknown"] * 7
    assert len(found.missing) == 4
    for words in ("no stage of a recipe", "no run directory", "no scores.json", "no report of data"):
        assert any(words in line for line in found.missing), words
    page = results_page(found)
    assert "Nothing has been scored yet." in page and "No training has begun yet." in page


def test_a_run_that_is_being_written_now(tmp_path):
    make_run(tmp_path / "encoder", [validation(0, 5.0), train(10, 4.0)], env={}, end='{"kind": "tra')
    page = results_page(read_experiment(tmp_path))
    assert "| encoder | 10 of 20 |" in " ".join(page.split())
    assert "run encoder has no config.yaml" in page
    assert "one validation alone" in page


def test_a_training_whose_loss_is_nan_from_the_start(tmp_path):
    make_run(
        tmp_path / "encoder", [validation(0, None), train(10, None), train(20, None)], env={}, config="a: 1\n"
    )
    page = results_page(read_experiment(tmp_path))
    assert "no validation with a finite loss; 3 logged lines have a loss that is NaN or infinite" in page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{oh", "cannot be read"),
        ("[1]", "it has no rows"),
        ('{"rows": []}', "it has no rows"),
        ('{"rows": [1]}', "row 0 is no object"),
        ('{"rows": [{"system": "a", "field": "text"}]}', "row 0 has no kind"),
        (json.dumps(scores(score_row("a", 0.5, gain=5))), "gain of row 0 is no object"),
        (json.dumps(scores(score_row("a", 0.5, failed=3))), "row 0 has no list failed"),
        (json.dumps(scores(score_row("a", 0.5), counted={"utterances": 1})), "counted has no without_speech"),
        (json.dumps(scores(score_row("a", 0.5), bootstrap=None)), "it has no bootstrap"),
    ],
)
def test_scores_of_something_else_are_named_and_left_out(tmp_path, text, said):
    (tmp_path / "scores.json").write_text(text, encoding="utf-8")
    found = read_experiment(tmp_path)
    assert found.scores is None and any("scores.json" in line and said in line for line in found.missing)


def test_utterances_that_are_no_objects_are_counted(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps(scores(score_row("a", 0.5))), encoding="utf-8")
    (tmp_path / "utterances.jsonl").write_text('{"system": "a", "key": "u1"}\n[1]\n\n{"key', encoding="utf-8")
    found = read_experiment(tmp_path)
    assert [row["key"] for row in found.utterances] == ["u1"]
    assert any("utterances.jsonl: 2 lines" in line for line in found.missing)


def test_further_test_sets_are_found_by_their_names(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps(scores(score_row("a", 0.5))))
    (tmp_path / "scores_dev_calls.json").write_text(json.dumps(scores(score_row("a", 0.4))))
    (tmp_path / "utterances_dev_calls.jsonl").write_text('{"system": "a", "key": "u"}\n')
    (tmp_path / "scores_torn.json").write_text('{"rows": ')
    (tmp_path / "scores_main.json").write_text(json.dumps(scores(score_row("a", 0.1))))
    found = read_experiment(tmp_path)
    assert [each.name for each in found.further] == ["dev_calls"]
    assert found.further[0].utterances == [{"system": "a", "key": "u"}]
    assert any("scores_torn.json cannot be read" in line for line in found.missing)
    assert any("scores_main.json has the name of the set of scores.json" in line for line in found.missing)


def test_aims_are_passed_on(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps(scores(score_row("a", 0.5))), encoding="utf-8")
    make_run(tmp_path / "a", [validation(0, 2.0), validation(20, 1.0)])
    verdicts = [
        answer.verdict for answer in read_experiment(tmp_path, aims=Aims(loss_fall=0.6, cer=0.5)).answers
    ]
    assert verdicts[1] == "not met" and verdicts[3] == "met"


def test_the_run_named_after_a_stage_is_the_run_and_the_other_its_copy(tmp_path):
    env = {"command": ["finetune", "--out", "/x/exp/heads"]}
    for name in ("heads", "base"):
        make_run(tmp_path / name, [train(1)], env=env)
    mark(tmp_path, 4, "base")
    found = read_experiment(tmp_path)
    assert {run.name: run.copy_of for run in found.runs} == {"heads": "base", "base": None}
    assert "heads is the run base: the recipe copied it." in results_page(found)


def test_the_stage_that_writes_the_page_is_not_on_it_as_running(tmp_path):
    mark(tmp_path, 0, "data")
    (tmp_path / ".done" / ".stages").write_text(
        "0\tdata\t.\tlog/0\n1\tscore\t.\tlog/1\n2\treport\t.\tlog/2\n"
    )
    for current, states in (
        ("2 (report)", [("data", "done"), ("score", "missing")]),
        ("1 (score)", [("data", "done"), ("score", "running"), ("report", "missing")]),
    ):
        (tmp_path / ".lock").write_text(f"pid 1\nhost elsewhere\nstart 1\nrun x.1\nstage stage {current}\n")
        found = read_experiment(tmp_path)
        assert [(stage.name, stage.state) for stage in found.stages] == states


def test_data_reports_of_the_stages_folder_are_found_and_others_passed_by(tmp_path):
    exp, data = tmp_path / "exp" / "nano", tmp_path / "data"
    mark(exp, 1, "pretrain")
    mark(data, 0, "data")
    for name, report in (("a", {"train": {"rows": 5, "hours": 0.5}}), ("b", {"something": "else"})):
        (data / name).mkdir()
        (data / name / "report.json").write_text(json.dumps(report), encoding="utf-8")
    assert [each.name for each in read_experiment(exp).data] == ["train"]
    with pytest.raises(ValueError, match="names no set"):
        read_experiment(exp, data_reports=[data / "b" / "report.json"])


def test_surroundings_are_one_value_where_runs_agree(tmp_path):
    for name, host in (("a", "box1"), ("b", "box2")):
        make_run(tmp_path / name, [train(1)], env={"host": host, "command": ["finetune", "two words"]})
    found = read_experiment(tmp_path, environment={"report written on": "this"})
    assert found.environment["host"] == "box1 (a); box2 (b)"
    assert found.environment["torch"] == "2.13.0" and found.environment["report written on"] == "this"
    assert found.environment["commit"] == "abcdef012345 with uncommitted changes"
    assert found.commands[0].command == "finetune 'two words'"
    assert found.commands[0].machine == "2 x NVIDIA H100"


def test_the_weight_of_the_joint_decoding_is_shown(tmp_path):
    (tmp_path / "decode").mkdir()
    chosen = {"ctc_weight": 0.7, "cer": 0.64, "cer_by_ctc_weight": {"0": 0.8}}
    (tmp_path / "decode" / "lora.weight.json").write_text(json.dumps(chosen), encoding="utf-8")
    page = results_page(read_experiment(tmp_path))
    assert "| lora " in page and "cer_by_ctc_weight" not in page


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        read_experiment(tmp_path / "nowhere")
