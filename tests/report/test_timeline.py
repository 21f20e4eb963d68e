"""Bars of stages on a line of time."""

from datetime import datetime, timedelta
from pathlib import Path

from nest_ssl.report.stages import StageState
from nest_ssl.report.timeline import timeline

NINE = datetime(2026, 11, 22, 9)


def stage(number: int, begin_s: float | None, took_s: float | None, state: str = "done") -> StageState:
    started = None if begin_s is None else NINE + timedelta(seconds=begin_s)
    ended = started + timedelta(seconds=took_s) if started and took_s is not None else None
    return StageState(number, f"s{number}", state, started, ended, took_s, Path("log"), "", Path("exp"))


def test_bars_lie_where_the_clock_says():
    first, second = timeline([stage(1, 0, 100), stage(2, 100, 300)]).bars
    assert (first.left, first.width) == (0.0, 25.0)
    assert (second.left, second.width) == (25.0, 75.0)


def test_nights_between_stages_are_left_out_and_said():
    line = timeline([stage(1, 0, 100), stage(2, 90_000, 300)])
    assert [bar.left for bar in line.bars] == [0.0, 25.0]
    assert "left out" in line.note
    assert line.total == "6 min 40 s"


def test_a_stage_that_has_not_run_has_no_bar():
    line = timeline([stage(1, 0, 100), stage(2, None, None, "missing")])
    assert line.bars[1].width == 0.0
    assert line.bars[1].took == ""


def test_a_running_stage_reaches_to_now():
    stages = [stage(1, 0, 100), stage(2, 100, None, "running")]
    assert timeline(stages, NINE + timedelta(seconds=400)).bars[1].width == 75.0
    assert timeline(stages).bars[1].width < 1.0


def test_a_stage_of_no_time_is_seen_within_the_line():
    bar = timeline([stage(1, 0, 1000), stage(2, 1000, 0)]).bars[1]
    assert bar.width > 0
    assert bar.left + bar.width <= 100


def test_no_stage_and_no_time_are_no_error():
    assert timeline([]).bars == []
    assert timeline([stage(1, None, None, "missing")]).total == ""
