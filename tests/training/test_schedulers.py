from __future__ import annotations

import json

import pytest

from nest_ssl.training.schedulers import SCHEDULES, build_schedule


def test_every_known_schedule_gives_nemos_rates(goldens):
    cases = json.loads((goldens / "nemo" / "schedulers.json").read_text())["cases"]
    compared = 0
    for case in cases.values():
        if case["sched"]["name"] in SCHEDULES:
            schedule = build_schedule(case["sched"], case["base_lr"], case["max_steps"])
            for step, lr in case["lrs"].items():
                assert schedule(int(step)) == pytest.approx(lr, rel=1e-9, abs=1e-15), (case["sched"], step)
                compared += 1
    assert compared > 500


def test_noam_of_the_stock_yaml_peaks_where_the_paper_says():
    schedule = build_schedule(
        {
            "name": "NoamAnnealing",
            "d_model": 512,
            "warmup_steps": 25000,
            "warmup_ratio": None,
            "min_lr": 1e-6,
        },
        5.0,
        500000,
    )
    assert schedule(25000) == pytest.approx(5 * 512**-0.5 * 25000**-0.5)
    assert schedule(24999) < schedule(25000) > schedule(25001)
    assert schedule(0) == schedule(1) == pytest.approx(5 * 512**-0.5 * 25000**-1.5)


def test_noam_floor_holds_after_the_warm_up_only():
    schedule = build_schedule(
        {"name": "NoamAnnealing", "d_model": 1, "warmup_steps": 4, "min_lr": 0.3}, 1.0, 100
    )
    assert schedule(1) == pytest.approx(1 * 4**-1.5)
    assert schedule(100) == 0.3


def test_cosine_warms_up_to_the_base_rate_and_ends_at_the_least_one():
    schedule = build_schedule({"name": "CosineAnnealing", "warmup_steps": 9, "min_lr": 0.1}, 1.0, 100)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(9) == pytest.approx(1.0)
    assert schedule(100) == pytest.approx(0.1)
    assert schedule(1000) == 0.1


def test_without_a_section_the_rate_is_constant():
    assert [build_schedule(None, 0.5, 10)(step) for step in (0, 5, 50)] == [0.5] * 3


@pytest.mark.parametrize(
    ("sched", "message"),
    [
        ({"name": "Noam", "d_model": 4}, r"sched\.name: 'Noam' is not one of NoamAnnealing"),
        (
            {"name": "NoamAnnealing", "d_model": 4, "warmup_steps": 3, "warmup_ratio": 0.1},
            "exclude each other",
        ),
        ({"name": "NoamAnnealing", "d_model": 4, "min_lr": 2.0}, "below model.optim.sched.min_lr"),
        ({"name": "NoamAnnealing"}, r"model\.optim\.sched\.d_model: noam_annealing needs this key"),
        ({"name": "CosineAnnealing", "min_lrs": 0.0}, "did you mean min_lr"),
    ],
)
def test_a_bad_section_is_refused_by_key(sched, message):
    with pytest.raises(ValueError, match=message):
        build_schedule(sched, 1.0, 100)
