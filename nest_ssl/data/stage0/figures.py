"""Pictures of the report: histograms as inline SVG, bars as HTML; no library, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 14, 28
SERIES = ("a", "b", "c")  # classes of the style sheet, in the order of the series


def histogram(edges: Sequence[float], series: Mapping[str, Sequence[int]], unit: str, title: str) -> str:
    """Give stacked bars over intervals: `edges` (N + 1,), each series N counts."""
    number = len(edges) - 1
    totals = [sum(counts[i] for counts in series.values()) for i in range(number)]
    top = _round_up(max(totals, default=0))
    wide = (WIDTH - LEFT - RIGHT) / max(1, number)
    high = HEIGHT - TOP - BOTTOM
    parts = [_open(title)]
    for share in (0.0, 0.5, 1.0):
        y = TOP + high * (1 - share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(top * share)}</text>')
    for i in range(number):
        y = TOP + high
        for name, counts in zip(SERIES, series.values(), strict=False):
            tall = high * counts[i] / top if top else 0.0
            if tall <= 0:
                continue
            y -= tall
            x = LEFT + i * wide
            label = f"{short(edges[i])} to {short(edges[i + 1])} {unit}: {counts[i]}"
            parts.append(
                f'<rect class="{name}" x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(0.5, wide - 1):.1f}" '
                f'height="{tall:.1f}"><title>{escape(label)}</title></rect>'
            )
    step = max(1, round(number / 7))
    for i in range(0, number + 1, step):
        x = LEFT + i * wide
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{short(edges[i])}</text>')
    return "".join([*parts, "</svg>"])


def bars(counts: Mapping[str, int]) -> str:
    """Give a horizontal bar per name with its count and share, the largest first."""
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(counts.values()) or 1
    most = max((count for _, count in shown), default=1) or 1
    rows = [
        f'<div class="label">{escape(name)}</div>'
        f'<div class="bar"><i style="width:{max(0.5, 100 * count / most):.1f}%"></i></div>'
        f'<div class="value">{count:,} <span>{100 * count / total:.1f} %</span></div>'
        for name, count in shown
    ]
    return f'<div class="bars">{"".join(rows)}</div>'


def short(value: float) -> str:
    """Give a number in few characters: 12.5, 340, 12k, 1.2M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:.4g}"


def _open(title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
    )


def _round_up(value: float) -> float:
    """Give the next 1, 2 or 5 times a power of ten, so that the axis has round numbers."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)
