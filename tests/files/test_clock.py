"""Times as bars, logs and tables show them."""

import pytest

from nest_ssl.files.clock import clock


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (360000, "100:00:00")]
)
def test_a_clock_has_hours_minutes_and_seconds(seconds, shown):
    assert clock(seconds) == shown
