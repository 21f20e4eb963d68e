"""Figures as SVG: what is drawn of known values, and where."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from nest_ssl.report.plots import (
    MOST_POINTS,
    WIDTH,
    Bar,
    Series,
    Style,
    group_plot,
    interval_plot,
    line_plot,
    smoothed,
    styles_of,
    tick_text,
)


def parsed(svg: str) -> ElementTree.Element:
    """The figure; it raises where it is not well formed."""
    return ElementTree.fromstring(svg)


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """Points of each curve's path."""
    paths = [p.get("d", "") for p in parsed(svg).iter("path") if {"line", "faint"} & classes(p)]
    return [[tuple(map(float, xy.split())) for xy in d.removeprefix("M").split("L")] for d in paths]


def classes(element: ElementTree.Element) -> set[str]:
    return set((element.get("class") or "").split())


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


def test_each_series_is_one_curve():
    svg = line_plot([Series("a", [1, 2, 3], [3, 2, 1]), Series("b", [1, 2], [1, 4])], "alt")
    assert [len(line) for line in lines(svg)] == [3, 2]
    assert [title.text for title in parsed(svg).iter("title")] == ["a", "b"]


def test_larger_values_are_higher_and_later_steps_further_right():
    [curve] = lines(line_plot([Series("a", [0, 50, 100], [1.0, 3.0, 2.0])], "alt"))
    xs, ys = zip(*curve, strict=True)
    assert list(xs) == sorted(xs)
    assert ys[1] < ys[2] < ys[0]  # y grows downwards
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)


def test_a_value_that_is_not_finite_breaks_the_curve():
    svg = line_plot([Series("a", range(6), [1, 2, float("nan"), 3, 4, float("inf")])], "alt")
    assert [len(line) for line in lines(svg)] == [2, 2]


def test_no_finite_value_says_so():
    assert "no finite value was logged" in texts(line_plot([Series("a", [1], [float("nan")])], "alt"))


def test_one_value_is_a_point():
    assert [e.tag for e in parsed(line_plot([Series("a", [5], [1.0])], "alt")).iter("circle")] == ["circle"]


@pytest.mark.parametrize(
    ("values", "log"), [([1.0, 100.0], True), ([1.0, 5.0], False), ([-1.0, 100.0], False)]
)
def test_an_axis_is_logarithmic_where_values_span_it_and_are_positive(values, log):
    svg = line_plot([Series("a", [0, 1], values)], "alt")
    assert any("logarithmic" in text for text in texts(svg)) == log


def test_thinning_keeps_the_peak_of_a_long_curve():
    values = np.zeros(50_000)
    values[31_415] = 7.0
    [curve] = lines(line_plot([Series("a", np.arange(50_000), values)], "alt"))
    assert len(curve) <= MOST_POINTS + 2
    assert min(y for _, y in curve) < max(y for _, y in curve) - 50


def test_a_curve_stays_within_its_figure():
    svg = line_plot([Series("a", [0, 3000], [0.001, 12345.0])], "alt", x_range=(0, 4000))
    assert all(0 <= x <= WIDTH and y >= 0 for line in lines(svg) for x, y in line)


def test_names_and_alt_texts_are_escaped():
    svg = line_plot([Series('<script>"', [1, 2], [1, 2])], '"><script>')
    svg += interval_plot([Bar("<b>", 0.5)], "<i>") + group_plot({"<u>": [Bar("a", 0.5)]}, "", 1.0)
    assert not re.search(r"<(script|b|i|u)>", svg)


def test_smoothing_is_the_mean_of_the_neighbours_and_keeps_both_ends():
    values = np.arange(60.0) % 2
    mean, window = smoothed(values)
    assert window == 3
    assert mean[0] == values[0]
    assert mean[-1] == values[-1]
    assert mean[10] == pytest.approx(np.mean(values[9:12]))


def test_smoothing_leaves_out_what_is_not_finite():
    values = [1.0] * 30 + [float("nan")] + [3.0] * 29
    mean, _ = smoothed(values)
    assert np.isnan(mean[30])
    assert mean[29] == 1.0


def test_few_values_are_not_smoothed():
    mean, window = smoothed([5.0, 1.0, 4.0])
    assert window == 1
    assert list(mean) == [5.0, 1.0, 4.0]


def test_bars_begin_at_zero_and_are_as_long_as_their_rates():
    svg = interval_plot([Bar("a", 0.2, 0.1, 0.3), Bar("b", 0.4)], "alt")
    first, second = parsed(svg).iter("rect")
    assert first.get("x") == second.get("x")
    assert float(second.get("width")) == pytest.approx(2 * float(first.get("width")), abs=0.2)
    assert [t for t in texts(svg) if t.endswith(" %") and "." in t] == ["20.0 %", "40.0 %"]
    assert sum("whisker" in classes(path) for path in parsed(svg).iter("path")) == 1


def test_groups_have_a_point_for_each_system():
    svg = group_plot({"g711": [Bar("a", 0.1), Bar("b", 0.2)], "gsm": [Bar("a", 0.3)]}, "alt", 0.4)
    assert len(list(parsed(svg).iter("circle"))) == 3
    assert {"g711", "gsm", "20.0 %", "30.0 %"} <= set(texts(svg))


def test_a_control_run_has_the_colour_of_its_run_and_dashes():
    styles = styles_of(["control_encoder", "base", "encoder", "control_alone"])
    assert styles["control_encoder"] == Style(styles["encoder"].colour, "dash")
    assert styles["control_alone"].pattern == ""


def test_twenty_runs_differ_in_colour_or_pattern():
    assert len(set(styles_of(map(str, range(20))).values())) == 20


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0, 1, "0"),
        (250_000, 50_000, "250k"),
        (1.5e6, 5e5, "1.5M"),
        (0.25, 0.25, "0.25"),
        (2e-5, 2e-5, "2e-5"),
    ],
)
def test_ticks_are_short(value, step, text):
    assert tick_text(value, step) == text


def test_a_long_name_of_a_group_keeps_its_count_and_the_mark_of_small_ones():
    drawn = group_plot({f"{'amr_nb > ' * 6}g711a · 11 utt. *": [Bar("a", 0.5, 0.4, 0.6, Style())]}, "x", 1.0)
    assert "… · 11 utt. *" in drawn
