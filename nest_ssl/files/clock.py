"""Times that are left or have passed, as bars, logs and tables show them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Give h:mm:ss of a finite time of zero seconds or more; days are hours, too."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
