"""Questions about progress, losses and memory are answered as the logs are, good or bad."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from nest_ssl.report.answers_loss import loss_fall
from nest_ssl.report.answers_training import memory, progress
from nest_ssl.report.experiment import Experiment
from nest_ssl.report.runs import read_runs
from nest_ssl.report.stages import StageState
from tests.report.experiments import make_run, train, validation


def stage(
    number: int, name: str, state: str = "done", took_s: float | None = 60.0, detail: str = ""
) -> StageState:
    time = datetime(2026, 11, 21, 10, 0)
    folder = Path("exp")
    return StageState(
        number, name, state, time, time, took_s, folder / "log" / f"{number}-{name}.log", detail, folder
    )


def experiment(folder: Path, *stages: StageState) -> Experiment:
    folder.mkdir(exist_ok=True)
    return Experiment(folder=folder, title="t", stages=list(stages), runs=read_runs(folder))


@pytest.mark.parametrize(("best", "verdict"), [(2.0, "met"), (2.01, "not met")])
def test_the_aim_is_met_from_exactly_so_much_on(tmp_path, best, verdict):
    make_run(tmp_path / "encoder", [validation(0, 4.0), validation(20, best)])
    answer = loss_fall(experiment(tmp_path, stage(1, "encoder")), 0.50)
    assert answer.verdict == verdict and answer.details[0].endswith(f"lower, {verdict}")


def test_one_stage_that_falls_short_is_not_hidden_by_others(tmp_path):
    make_run(tmp_path / "encoder", [validation(0, 5.0), validation(20, 1.0)])
    make_run(tmp_path / "lora", [validation(0, 5.0), validation(20, 4.5)])
    answer = loss_fall(experiment(tmp_path, stage(1, "encoder"), stage(2, "lora")), 0.30)
    assert answer.verdict == "not met"
    assert answer.answer == "It fell in encoder 80.0 % and lora 10.0 %: 1 of 2 reach 30 %."


def test_runs_beside_the_stages_are_told_but_do_not_decide(tmp_path):
    make_run(tmp_path / "encoder", [validation(0, 5.0), validation(20, 1.0)])
    make_run(tmp_path / "control_encoder", [validation(0, 5.0), validation(20, 5.0)])
    answer = loss_fall(experiment(tmp_path, stage(1, "encoder")), 0.30)
    assert answer.verdict == "met"
    assert (
        "control_encoder: 5.000 -> 5.000" in answer.details[1]
        and "no validation was below" in answer.details[1]
    )


def test_a_run_that_is_not_at_its_end_is_not_judged_unless_it_has_met_the_aim(tmp_path):
    make_run(tmp_path / "encoder", [validation(0, 5.0), validation(10, 4.9)])
    running = experiment(tmp_path, stage(1, "encoder", "running", None))
    answer = loss_fall(running, 0.30)
    assert answer.verdict == "unknown" and "not met so far; at step 10 of 20" in answer.details[0]
    ended_early = experiment(tmp_path, stage(1, "encoder"))
    assert loss_fall(ended_early, 0.30).verdict == "not met"


def test_one_validation_and_none_are_not_judged(tmp_path):
    make_run(tmp_path / "a", [train(20), validation(20, 4.0)])
    make_run(tmp_path / "b", [train(20, None)])
    answer = loss_fall(experiment(tmp_path), 0.30)
    assert answer.verdict == "unknown"
    told = dict(detail.split(": ", 1) for detail in answer.details)
    assert told["a"].startswith("one validation alone, 4.000 at step 20")
    assert told["b"].endswith("1 logged line has a loss that is NaN or infinite")
    assert answer.answer.endswith("; NaN or infinite losses in b.")


def test_parts_of_the_loss_are_named_with_their_weights(tmp_path):
    rows = [
        validation(0, 11.0, val_llm_loss=2.0, val_ctc_loss=3.0, val_acc=0.1),
        validation(20, 8.0, val_llm_loss=2.0, val_ctc_loss=2.0, val_acc=0.1),
    ]
    make_run(tmp_path / "encoder", rows, config="ctc_weight: 3.0\n")
    (detail,) = loss_fall(experiment(tmp_path), 0.30).details
    assert "its parts: llm_loss 2.000 -> 2.000, ctc_loss 3.000 -> 2.000 (counts 3 times)" in detail
    make_run(tmp_path / "encoder", rows, config="ctc_weight: 0.0\n")
    assert "its parts" not in loss_fall(experiment(tmp_path), 0.30).details[0]  # CTC is only watched


def test_a_start_from_an_adapted_model_is_said_where_the_log_supports_it(tmp_path):
    exp = tmp_path / "nano"
    make_run(
        exp / "adaptor", [validation(0, 9.0, val_llm_loss=2.5), validation(20, 2.2, val_llm_loss=2.2)], env={}
    )
    rows = [validation(0, 2.3, val_llm_loss=2.3), validation(20, 2.2, val_llm_loss=2.2)]
    make_run(exp / "lora", rows, env={"command": ["finetune", "--model", "/was/nano/adaptor/model"]})
    adaptor, lora = loss_fall(experiment(exp), 0.30).details
    assert "it started" not in adaptor
    assert lora.endswith("it started from the model of adaptor, which had brought llm_loss to 2.200 already")
    make_run(exp / "lora", [validation(0, 4.0, val_llm_loss=4.0), validation(20, 3.9, val_llm_loss=3.9)],
             env={"command": ["finetune", "--model", "/was/nano/adaptor/model"]})  # fmt: skip
    assert loss_fall(experiment(exp), 0.30).details[1].endswith("it started from the model of adaptor")


def test_a_first_validation_that_came_late_is_said_with_the_training_loss(tmp_path):
    make_run(
        tmp_path / "ssl",
        [train(5, 6.0), train(10, 4.0), validation(10, 4.0), train(20, 3.0), validation(20, 3.9)],
    )
    (detail,) = loss_fall(experiment(tmp_path), 0.30).details
    assert (
        "the first 10 steps are not in" in detail
        and "in training 6.000 (step 5) -> 3.000 (step 20)" in detail
    )


def test_a_last_validation_above_the_best_is_said(tmp_path):
    make_run(tmp_path / "ctc", [validation(0, 8.0), validation(10, 4.0), validation(20, 5.0)])
    (detail,) = loss_fall(experiment(tmp_path), 0.30).details
    assert "the last one, 5.000, is 25.0 % above the best" in detail


def test_progress_counts_stages_and_names_what_runs_and_what_failed(tmp_path):
    make_run(tmp_path / "encoder", [train(7, 3.25, eta="00:02:00")])
    stages = [
        stage(0, "data", took_s=3600.0),
        stage(1, "encoder", "running", None),
        stage(2, "lora", "missing", None),
    ]
    answer = progress(experiment(tmp_path, *stages))
    assert answer.answer == (
        "1 of 3 stages is done, in 1 h 0 min of work; stage 1 (encoder) is running; not run yet: lora."
    )
    assert answer.details == ["stage 1 (encoder): encoder at step 7 of 20, loss 3.250, 00:02:00 to go"]
    failed = progress(experiment(tmp_path, stage(3, "score", "failed", None, "failed with status 1")))
    assert "stage 3 (score) failed" in failed.answer
    assert failed.details == ["stage 3 (score): failed with status 1; log exp/log/3-score.log"]


def test_progress_tells_stages_that_have_changed_since(tmp_path):
    stale = replace(
        stage(3, "base", "stale"), detail="changed since it was done", changes=["changed: input x"]
    )
    answer = progress(experiment(tmp_path, stage(2, "data", "done"), stale))
    assert answer.answer.endswith("; changed since they were done: base.")
    assert answer.details == ["stage 3 (base): changed since it was done; changed: input x"]


def test_without_anything_the_answers_say_so(tmp_path):
    nothing = experiment(tmp_path)
    assert [a.verdict for a in (progress(nothing), loss_fall(nothing, 0.3), memory(nothing))] == [
        "unknown"
    ] * 3


def test_memory_is_the_peak_of_each_kind_of_device(tmp_path):
    make_run(tmp_path / "a", [train(1, mem_gb=3.0), train(2, mem_gb=21.25)], env={})
    make_run(tmp_path / "b", [train(1, mem_gb=40.0)], env={"device": "cpu"})
    make_run(tmp_path / "c", [train(1, mem_gb=4.0)], env={"device": "cpu"})
    answer = memory(experiment(tmp_path))
    assert (
        answer.answer
        == "At most 21.25 GB of GPU memory in a process (a) and 40.00 GB of main memory in a process (b)."
    )
    assert answer.details[0] == "a: 21.25 GB, peak of the allocator on NVIDIA H100"


def test_a_stage_of_several_runs_is_judged_over_all_of_them(tmp_path):
    exp = tmp_path / "nano"
    first = [
        validation(0, 12.0, val_llm_loss=6.0, val_ctc_loss=6.0),
        validation(20, 4.0, val_llm_loss=1.8, val_ctc_loss=2.4),
    ]
    second = [
        validation(0, 9.0, val_llm_loss=1.8, val_ctc_loss=2.4),
        validation(20, 8.7, val_llm_loss=1.5, val_ctc_loss=2.4),
    ]
    data = "valid_data_set_list: [dev.jsonl]\n"
    make_run(exp / "heads", first, env={}, config=data)
    env = {"command": ["finetune", "--model", "/was/nano/heads/model"]}
    make_run(exp / "base", second, env=env, config=data + "ctc_weight: 3\n")
    answer = loss_fall(experiment(exp, stage(4, "base")), 0.60)
    # llm_loss from 6.0 to 1.5, a fall of 75 %; ctc_loss from 6.0 to 2.4, of 60 %: the lesser counts
    assert answer.answer == "It fell in base 60.0 %: 1 of 1 reach 60 %." and answer.verdict == "met"
    assert (
        "over heads and base: llm_loss 6.000 -> 1.500, ctc_loss 6.000 -> 2.400, at least 60.0 % lower, met"
        in (answer.details[0])
    )
    make_run(exp / "base", second, env=env, config="valid_data_set_list: [other.jsonl]\n")
    assert loss_fall(experiment(exp, stage(4, "base")), 0.60).answer.startswith("It fell in base 3.3 %")


def test_what_came_before_the_first_validation_is_not_held_against_a_stage(tmp_path):
    make_run(tmp_path / "ssl", [train(10), validation(10, 4.0), validation(20, 3.9)])
    answer = loss_fall(experiment(tmp_path, stage(3, "ssl")), 0.30)
    assert answer.verdict == "unknown" and "not met after step 10" in answer.details[0]


def test_a_run_did_not_start_from_its_own_copy(tmp_path):
    exp = tmp_path / "nano"
    for name in ("heads", "base"):
        rows = [validation(0, 12.0, val_llm_loss=6.0), validation(20, 4.0, val_llm_loss=1.8)]
        make_run(exp / name, rows, env={"command": ["finetune", "--out", "/was/nano/heads"]})
    (detail,) = [
        d for d in loss_fall(experiment(exp, stage(4, "base")), 0.30).details if d.startswith("base")
    ]
    assert detail.startswith("base: 12.00 -> 4.000") and "it started" not in detail


def test_of_many_stages_the_answer_names_the_ends_and_the_details_all(tmp_path):
    stages = []
    for number, best in enumerate((4.0, 1.0, 3.0, 4.9, 2.5), start=1):
        make_run(tmp_path / f"s{number}", [validation(0, 5.0, seed=number), validation(20, best)])
        stages.append(stage(number, f"s{number}"))
    answer = loss_fall(experiment(tmp_path, *stages), 0.30)
    assert answer.answer == (
        "Of 5 stages it fell most in s2, 80.0 %, and least in s4, 2.0 %: 3 of 5 reach 30 %."
    )
    assert [detail.partition(":")[0] for detail in answer.details] == ["s1", "s2", "s3", "s4", "s5"]
