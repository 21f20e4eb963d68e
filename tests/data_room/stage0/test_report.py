"""The account of stage 0: pictures that one wild row does not spoil, reasons in few words."""

from __future__ import annotations

import pytest

from nest_ssl.data.stage0.markdown import by_kind, histogram_table
from nest_ssl.data.stage0.report import _histogram


def test_a_dropped_row_of_hours_does_not_flatten_the_durations():
    """Segments that state nonsense are dropped; their durations must not set the axis."""
    found = _histogram({"train": [2.0, 3.0, 4.0], "dev": [3.0], "dropped": [2.5, 9999.0]}, "s")
    assert found["edges"][-1] <= 8.0
    assert {name: sum(counts) for name, counts in found["counts"].items()} == {
        "train": 3,
        "dev": 1,
        "dropped": 2,
    }
    assert found["beyond"] == 1
    assert "and more" in histogram_table(found).splitlines()[-1]


def test_durations_of_dropped_rows_alone_are_shown():
    assert sum(_histogram({"train": [], "dev": [], "dropped": [1.0, 2.0]}, "s")["counts"]["dropped"]) == 2


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ([("annotation", "empty_text", 571), ("length", "seconds_over_max", 3143)],
         "571 annotation errors, 3,143 by length"),
        ([("read", "audio_shorter_than_segment", 2), ("annotation", "duplicate", 1), ("read", "bad_line", 4)],
         "4 unusable in the source, 3 annotation errors"),
    ],
)  # fmt: skip
def test_the_overview_says_in_few_words_what_rows_were_dropped_for(dropped, said):
    """Annotation errors are so called whichever step has found them."""
    section = {"dropped": [{"step": step, "reason": reason, "rows": rows} for step, reason, rows in dropped]}
    assert by_kind(section) == said
