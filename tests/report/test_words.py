"""Figures in words."""

from __future__ import annotations

import pytest

from nest_ssl.report.words import spelled


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (322, "5 min 22 s"),
        (3599, "59 min 59 s"),
        (7265, "2 h 1 min"),
        (48 * 3600 - 1, "47 h 59 min"),
        (200000, "2 d 7 h"),
    ],
)
def test_times_are_spelled_by_their_size(seconds: float, words: str) -> None:
    assert spelled(seconds) == words
