"""Figures in words, the same on both pages and in the terminal."""

from __future__ import annotations

from collections.abc import Iterable


def percent(share: float, digits: int = 1) -> str:
    """Give 0.0712 as "7.1 %"."""
    return f"{100 * share:.{digits}f} %"


def spelled(seconds: float) -> str:
    """Give a time as recipes do: "12 s", "3 min 5 s", "2 h 10 min"; from two days on "3 d 4 h"."""
    whole = int(seconds + 0.5)
    if whole >= 48 * 3600:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def hours(value: float) -> str:
    """Give hours with as many digits as say something."""
    return f"{value:,.1f}" if value >= 100 else f"{value:.2f}"


def p_value(p: float) -> str:
    """Give "p < 0.001" or "p 0.012"."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def listed(names: Iterable[str]) -> str:
    """Give "a", "a and b", "a, b and c"; "" for none."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def counted(number: int, noun: str) -> str:
    """Give "1 run", "3 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
