"""Curves of runs from known rows of metrics.jsonl."""

import re
from pathlib import Path

from nest_ssl.report.plots import Style, styles_of
from nest_ssl.report.runs import Run
from nest_ssl.report.training_figures import run_figures, shared_figures
from tests.report.experiments import train, validation


def run(name: str = "encoder", steps: int = 20, **more) -> Run:
    rows = [
        train(step, 5.0 / step, **{"lr": 1e-3, "grad_norm": 1.0, "mem_gb": 2.0, **more})
        for step in range(1, steps + 1)
    ]
    checks = [validation(step, 6.0 / step, val_acc=0.5) for step in (10, 20)]
    return Run(name, Path(name), train=rows, validation=checks)


def curves(svg: str) -> list[str]:
    return re.findall(r"<title>([^<]*)</title>", svg)


def test_the_loss_has_training_and_validation():
    loss = run_figures(run(), Style()).first[0]
    assert loss.caption == "loss"
    assert curves(loss.svg) == ["training", "validation"]


def test_many_values_have_their_mean_before_them():
    loss = run_figures(run(steps=100), Style()).first[0]
    assert curves(loss.svg) == ["training, as logged", "training", "validation"]
    assert "mean of 5 logged values" in loss.note


def test_what_was_logged_beside_the_loss_is_drawn_but_no_bookkeeping():
    found = run_figures(run(acc=0.1, llm_loss=2.0, eta="00:01", batch=3), Style())
    assert [f.caption for f in found.first] == ["loss", "accuracy of the next token, %"]
    assert [f.caption for f in found.rest] == ["loss of the LLM"]


def test_shares_are_drawn_in_per_cent():
    found = run_figures(run(ctc_cer=0.25, masked_acc=0.5, gain_nats=0.5), Style())
    by_name = {f.caption: f.svg for f in found.first + found.rest}
    assert "last training value 25" in by_name["CER of CTC, %"]
    assert "last training value 50" in by_name["accuracy on masked frames, %"]
    assert "last training value 0.5" in by_name["gain over guessing by frequency, nats"]


def test_a_loss_that_is_not_finite_is_a_gap_and_said():
    one = run()
    one.train[5]["loss"] = float("nan")
    one.train[6]["loss"] = None
    assert "2 values are not finite" in run_figures(one, Style()).first[0].note


def test_a_word_where_a_number_should_be_is_a_gap():
    assert "20 values are not finite" in run_figures(run(acc="oops"), Style()).first[1].note


def test_shared_figures_have_a_curve_for_each_run_that_logged():
    runs = [run("a"), run("b", lr=None), Run("empty", Path("empty"))]
    figures = {f.caption: curves(f.svg) for f in shared_figures(runs, styles_of(r.name for r in runs))}
    assert figures == {"Learning rate": ["a"], "Gradient norm": ["a", "b"], "Memory, GB": ["a", "b"]}


def test_shared_figures_say_what_is_smoothed():
    runs = [run("a", steps=100), run("b")]
    notes = {f.caption: f.note for f in shared_figures(runs, styles_of(r.name for r in runs))}
    assert notes["Learning rate"] == notes["Memory, GB"] == ""
    assert notes["Gradient norm"] == "means of 5 logged values, of fewer in shorter runs"


def test_a_run_without_rows_has_no_figures():
    found = run_figures(Run("empty", Path("empty")), Style())
    assert found.first == found.rest == []
