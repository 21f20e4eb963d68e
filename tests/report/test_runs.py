"""Run directories are read whatever of them is there."""

from __future__ import annotations

import pytest

from nest_ssl.report.runs import read_runs
from tests.report.experiments import make_run, train, validation


def only(folder):
    (run,) = read_runs(folder)
    return run


def test_figures_follow_their_definitions(tmp_path):
    rows = [
        validation(0, 5.0),
        train(10, **{"hours_seen": 1.0, "audio_s/s": 100.0, "mem_gb": 3.25}),
        validation(10, 3.0),
        train(20, **{"hours_seen": 3.0, "audio_s/s": 400.0, "mem_gb": 7.0}),
        validation(20, 4.0),
    ]
    make_run(tmp_path / "lora", rows, env={})
    run = only(tmp_path)
    f = run.figures
    assert (f.first_val_loss, f.first_step, f.best_val_loss, f.best_step, f.last_val_loss) == (
        5.0,
        0,
        3.0,
        10,
        4.0,
    )
    assert f.fall == pytest.approx(0.4) and f.validations == 3
    # an hour of audio at 100 s/s and two at 400 s/s: 36 and 18 seconds, for 20 steps
    assert f.train_s == pytest.approx(54.0) and f.ms_per_step == pytest.approx(2700.0)
    assert (f.hours_seen, f.mem_gb, run.on_gpu, run.step, run.max_steps) == (3.0, 7.0, True, 20, 20)


def test_a_line_that_is_being_written_is_no_fault_but_one_amid_others_is(tmp_path):
    make_run(tmp_path / "a", [train(1), train(2)], end='{"kind": "train", "st')
    assert [row["step"] for row in only(tmp_path).train] == [1, 2]
    assert only(tmp_path).faults == []
    make_run(tmp_path / "a", [train(1)], end='{"kind": "tr\n{"kind": "train", "step": 3}\n[1]\n{}\n')
    run = only(tmp_path)
    assert [row["step"] for row in run.train] == [1, 3]
    assert len(run.faults) == 1 and "2 lines" in run.faults[0] and "the first is line 2" in run.faults[0]


def test_losses_that_are_null_are_counted_and_left_out_of_the_figures(tmp_path):
    rows = [
        validation(0, None),
        train(5, None),
        validation(5, 4.0),
        validation(10, 2.0),
        validation(15, None),
    ]
    make_run(tmp_path / "a", rows)
    f = only(tmp_path).figures
    assert (f.first_val_loss, f.best_val_loss, f.fall, f.validations, f.nonfinite) == (4.0, 2.0, 0.5, 2, 3)


def test_a_run_of_null_alone_has_no_figures(tmp_path):
    make_run(tmp_path / "a", [validation(0, None), train(1, None, mem_gb=None)])
    f = only(tmp_path).figures
    assert (f.first_val_loss, f.fall, f.mem_gb, f.nonfinite) == (None, None, None, 2)


def test_an_empty_run_and_one_with_env_alone_are_runs(tmp_path):
    make_run(tmp_path / "empty")
    make_run(tmp_path / "begun", env={})
    (tmp_path / "begun" / "metrics.jsonl").unlink()
    (tmp_path / "no_run").mkdir()
    runs = {run.name: run for run in read_runs(tmp_path)}
    assert set(runs) == {"empty", "begun"}
    assert runs["empty"].step == 0 and runs["empty"].max_steps is None and runs["empty"].on_gpu is None


def test_files_of_something_else_are_faults_in_words(tmp_path):
    make_run(tmp_path / "a", [train(1)], config="- a\n- b\n")
    (tmp_path / "a" / "env.json").write_text("{oh", encoding="utf-8")
    faults = only(tmp_path).faults
    assert len(faults) == 2
    assert any("env.json cannot be read" in fault for fault in faults)
    assert any("config.yaml holds list" in fault for fault in faults)


def test_runs_come_in_order_of_start_and_by_path(tmp_path):
    make_run(tmp_path / "late", env={"started": "2026-11-22T09:00:00+00:00"})
    make_run(tmp_path / "a" / "early", env={"started": "2026-11-20T09:00:00+00:00"})
    make_run(tmp_path / "never")
    make_run(tmp_path / "late" / "checkpoints" / "step-1", env={})
    assert [run.name for run in read_runs(tmp_path)] == ["a/early", "late", "never"]


def test_a_resumed_run_began_with_its_first_row(tmp_path):
    make_run(tmp_path / "a", [train(3)], env={"started": "2026-11-23T09:00:00+00:00"})
    assert only(tmp_path).started.isoformat() == "2026-11-21T10:03:00"


def test_a_link_back_to_the_experiment_is_not_walked_for_ever(tmp_path):
    make_run(tmp_path / "a", env={})
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert [run.name for run in read_runs(tmp_path)] == ["a"]


def test_a_copied_run_is_told_from_the_one_that_was_trained(tmp_path):
    env = {"command": ["finetune", "--out", "/x/exp/heads", "a=1"]}
    make_run(tmp_path / "heads", [train(1)], env=env)
    make_run(tmp_path / "base", [train(1)], env=env)
    assert {run.name: run.copy_of for run in read_runs(tmp_path)} == {"heads": None, "base": "heads"}


def test_two_runs_that_are_merely_alike_are_no_copies(tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path / name, [train(1)], env={"command": ["finetune", "--out", f"/x/exp/{name}"]})
    assert [run.copy_of for run in read_runs(tmp_path)] == [None, None]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        read_runs(tmp_path / "nowhere")
