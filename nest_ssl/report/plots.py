"""Curves and intervals as small SVG figures for an HTML page.

They are written directly, as text: a figure then takes the page's font and its light or dark colours, has one
size that a phone shows without shrinking, is a few kB, and takes a millisecond: a page has fifty of them.
Colours are classes c0 to c7 of the page's style sheet; whatever comes from a file is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 350  # pixels, the width of a phone's page: text of 12 px stays 12 px there
HEIGHT = 210
COLOURS = 8
PATTERNS = ("", "dash", "dots")
MOST_POINTS = 400  # of a drawn line: more than a figure of this width can show
MOST_MARKS = 24  # points that a line shows as such
LOG_FROM = 20.0  # ratio of largest to smallest value from which an axis is logarithmic
CHARACTER = 6.9  # pixels of a character of 12 px, for margins


@dataclass(frozen=True)
class Style:
    """How one run or system is drawn everywhere: a colour of the style sheet, and a pattern."""

    colour: int = 0
    pattern: str = ""  # "", "dash" or "dots"

    @property
    def classes(self) -> str:
        """Give the CSS classes."""
        return f"c{self.colour} {self.pattern}".rstrip()


@dataclass(frozen=True)
class Series:
    """One curve: x and y of the same length; a y that is not finite breaks it.

    kind: "line"; "faint" for values as they were logged behind their mean; "marks" for a line with points.
    """

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    style: Style = Style()
    kind: str = "line"


@dataclass(frozen=True)
class Bar:
    """A value with its interval (None where there is none), as a share of one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    style: Style = Style()


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    """Give each run or system its style, by the order of names; control_X is dashed in the colour of X."""
    given = list(dict.fromkeys(names))
    plain = [name for name in given if name.removeprefix("control_") not in given or _is_plain(name)]
    found = {}
    for number, name in enumerate(plain):
        found[name] = Style(number % COLOURS, PATTERNS[number // COLOURS % len(PATTERNS)])
    for name in given:
        if name not in found:
            found[name] = Style(found[name.removeprefix("control_")].colour, "dash")
    return found


def _is_plain(name: str) -> bool:
    return not name.startswith("control_")


def smoothed(values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, int]:
    """Give the mean of each value's neighbourhood, and how many values it spans (1: as they are).

    The window is centred and shrinks at both ends, so that the curve neither lags nor starts elsewhere; it is
    a twentieth of the curve, an odd number. Values that are not finite are left out of the means.
    """
    raw = np.asarray(values, dtype=np.float64)
    window = len(raw) // 20 | 1
    if window < 3:
        return raw, 1
    finite = np.isfinite(raw)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, raw, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    here = np.arange(len(raw))
    half = np.minimum(window // 2, np.minimum(here, len(raw) - 1 - here))
    begin, end = here - half, here + half + 1
    number = counts[end] - counts[begin]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, (sums[end] - sums[begin]) / number, np.nan), window


def line_plot(
    series: Sequence[Series],
    alt: str,
    x_label: str = "step",
    log_y: bool | None = None,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
) -> str:
    """Give a figure of curves as SVG.

    log_y None: logarithmic where all values are positive and the largest is LOG_FROM times the smallest.
    Faint curves keep their peaks when they are thinned. No finite value at all gives a figure that says so.
    """
    values = _finite_of([one.y for one in series])
    places = _finite_of([one.x for one in series])
    if len(values) == 0 or len(places) == 0:
        return _svg(60, alt, [_text(WIDTH / 2, 34, "no finite value was logged", "middle")])
    if log_y is None:
        log_y = bool(values.min() > 0 and values.max() / values.min() >= LOG_FROM)
    log_y = log_y and bool(values.min() > 0)
    low, high = y_range or (float(values.min()), float(values.max()))
    y_axis = _Axis.of(low, high, log_y, spare=0.0 if y_range else 0.05)
    x_axis = _Axis.of(*(x_range or (float(places.min()), float(places.max()))), False, spare=0.0)
    left = 10 + CHARACTER * max(len(text) for _, text in y_axis.ticks)
    x_axis.place(left, WIDTH - 14)
    y_axis.place(HEIGHT - 36, 10)
    parts = []
    for value, text in y_axis.ticks:
        y = y_axis.at(value)
        parts += [
            f'<path class="grid" d="M{left:.1f} {y:.1f}H{WIDTH - 10}"/>',
            _text(left - 6, y + 4, text, "end"),
        ]
    for value, text in x_axis.ticks:
        x = x_axis.at(value)
        parts += [
            f'<path class="axis" d="M{x:.1f} {HEIGHT - 36}v4"/>',
            _text(x, HEIGHT - 19, text, "end" if x + CHARACTER / 2 * len(text) > WIDTH else "middle"),
        ]
    parts.append(f'<path class="axis" d="M{left:.1f} {HEIGHT - 36}H{WIDTH - 10}"/>')
    label = x_label + (" · vertical axis logarithmic" if log_y else "")
    parts.append(_text(WIDTH - 10, HEIGHT - 4, label, "end"))
    for one in series:
        parts += _curve(one, x_axis, y_axis)
    return _svg(HEIGHT, alt, parts)


def interval_plot(bars: Sequence[Bar], alt: str) -> str:
    """Give bars from zero with intervals as whiskers and values in per cent."""
    if not bars:
        return _svg(40, alt, [_text(WIDTH / 2, 24, "nothing to show", "middle")])
    step, top = 30, 6
    bottom = top + step * len(bars)
    names = [_short(bar.name, 16) for bar in bars]
    left = 8 + CHARACTER * max(len(name) for name in names)
    highest = max([bar.high if bar.high is not None else bar.value for bar in bars])
    axis = _Axis.of(0.0, 100 * highest or 1.0, False, spare=0.0)
    axis.place(left, WIDTH - 68)
    parts = _grid(axis, top, bottom)
    for number, (bar, name) in enumerate(zip(bars, names, strict=True)):
        y = top + step * number + step / 2
        parts += [
            _text(left - 8, y + 4, name, "end", "name"),
            f'<rect class="bar {bar.style.classes}" x="{left:.1f}" y="{y - 8:.1f}" '
            f'width="{max(1.0, axis.at(100 * bar.value) - left):.1f}" height="16"/>',
            *_whisker(bar, axis, y, 5),
            _text(WIDTH - 4, y + 4, f"{100 * bar.value:.1f} %", "end", "value"),
        ]
    return _svg(bottom + 24, alt, parts)


def group_plot(groups: Mapping[str, Sequence[Bar]], alt: str, highest: float) -> str:
    """Give for each group (a codec, say) one point with its interval for every system, below one another.

    highest: the rate that the axis ends at, so that figures side by side compare.  The value of the last
    system of each group stands at its right end.
    """
    rows = max((len(bars) for bars in groups.values()), default=0)
    if rows == 0:
        return _svg(40, alt, [_text(WIDTH / 2, 24, "nothing to show", "middle")])
    names = {name: _short_head(name, 34) for name in groups}
    left, pitch, gap = 10.0, 11, 30
    step = gap + pitch * rows
    bottom = 4 + step * len(groups)
    axis = _Axis.of(0.0, 100 * highest or 1.0, False, spare=0.0)
    axis.place(left, WIDTH - 68)
    parts = _grid(axis, 4, bottom, zero="start")
    for number, (name, bars) in enumerate(groups.items()):
        y = 4 + step * number
        parts.append(_text(left, y + 15, names[name], "start", "name"))
        for row, bar in enumerate(bars):
            place = y + 26 + pitch * row
            parts += _whisker(bar, axis, place, 3, "whisker thin")
            x = axis.at(100 * bar.value)
            parts.append(f'<circle class="dot {bar.style.classes}" cx="{x:.1f}" cy="{place}" r="4"/>')
        parts.append(_text(WIDTH - 4, place + 4, f"{100 * bars[-1].value:.1f} %", "end", "value"))
    return _svg(bottom + 24, alt, parts)


def _grid(axis: _Axis, top: int, bottom: int, zero: str = "middle") -> list[str]:
    """The lines of an axis of per cents; zero: the anchor of the text below 0."""
    parts = []
    for value, text in axis.ticks:
        x = axis.at(value)
        parts += [
            f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>',
            _text(x, bottom + 16, f"{text} %", zero if value == 0 else "middle"),
        ]
    return parts


def _whisker(bar: Bar, axis: _Axis, y: float, half: int, classes: str = "whisker") -> list[str]:
    if bar.low is None or bar.high is None:
        return []
    low, high = axis.at(100 * bar.low), axis.at(100 * bar.high)
    return [
        f'<path class="{classes} {bar.style.classes}" d="M{low:.1f} {y - half:.1f}v{2 * half}'
        f'M{low:.1f} {y:.1f}H{high:.1f}M{high:.1f} {y - half:.1f}v{2 * half}"/>'
    ]


@dataclass
class _Axis:
    """Where values lie on the figure, and the values that are written beside it."""

    low: float
    high: float
    log: bool
    ticks: list[tuple[float, str]]
    begin: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, low: float, high: float, log: bool, spare: float) -> _Axis:
        if log:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-12 * max(1.0, abs(high)):
            middle = abs(high) * 0.05 or 0.5
            low, high = low - middle, high + middle
        low, high = low - spare * (high - low), high + spare * (high - low)
        return cls(low, high, log, _log_ticks(low, high) if log else _ticks(low, high))

    def place(self, begin: float, end: float) -> None:
        """Set the pixels of both ends."""
        self.begin, self.end = begin, end

    def at(self, value: float) -> float:
        """Give the pixel of a value."""
        place = math.log10(value) if self.log else value
        return self.begin + (place - self.low) / (self.high - self.low) * (self.end - self.begin)


def _ticks(low: float, high: float, most: int = 5) -> list[tuple[float, str]]:
    """Give round values within [low, high], a step of 1, 2, 2.5 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1.0, 2.0, 2.5, 5.0, 10.0) if power * unit >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(n * step, tick_text(n * step, step)) for n in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Give powers of ten within the exponents [low, high], and twice and five times them where few."""
    units = (1, 2, 5) if high - low < 2.2 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1, max(1, math.ceil((high - low) / 6)))
    values = [unit * 10.0**power for power in powers for unit in units]
    return [(v, tick_text(v, v)) for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]


def tick_text(value: float, step: float) -> str:
    """Give a value of an axis in few characters: 250k, 1.5M, 0.25, 2e-5; digits as the step needs them."""
    size = max(abs(value), abs(step))
    if value == 0:
        return "0"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit * (10 if unit == 1e3 else 1):
            return f"{value / unit:.{_digits(step / unit)}f}{letter}"
    if size < 1e-3:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{value:.{_digits(step)}f}"


def _digits(step: float) -> int:
    return next(
        (n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6 * 10**n * abs(step)), 6
    )


def _curve(one: Series, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    """Give the paths of a curve, one piece for each stretch of finite values, and its points."""
    places = np.asarray(one.x, dtype=np.float64)
    values = np.asarray(one.y, dtype=np.float64)
    keep = _kept(values, MOST_POINTS) if len(values) > MOST_POINTS else np.arange(len(values))
    pieces: list[list[str]] = [[]]
    for x, y in zip(places[keep], values[keep], strict=True):
        if math.isfinite(x) and math.isfinite(y):
            pieces[-1].append(f"{x_axis.at(float(x)):.1f} {y_axis.at(float(y)):.1f}")
        elif pieces[-1]:
            pieces.append([])
    pieces = [piece for piece in pieces if piece]
    classes = f"{'faint' if one.kind == 'faint' else 'line'} {one.style.classes}"
    drawn = [f'<path class="{classes}" d="M{"L".join(piece)}"/>' for piece in pieces if len(piece) > 1]
    points = (
        [place for piece in pieces for place in piece]
        if one.kind == "marks" and len(keep) <= MOST_MARKS
        else []
    )
    points += [piece[0] for piece in pieces if len(piece) == 1 and not points]
    for place in points:
        x_text, y_text = place.split()
        drawn.append(f'<circle class="dot {one.style.classes}" cx="{x_text}" cy="{y_text}" r="3.2"/>')
    return [f"<g><title>{escape(one.name)}</title>{''.join(drawn)}</g>"] if drawn else []


def _kept(values: np.ndarray, most: int) -> np.ndarray:
    """Give the indices of the smallest and the largest value of each of most / 2 stretches, and of gaps."""
    length = -(-len(values) // (most // 2))
    padded = np.full(-(-len(values) // length) * length, np.nan)
    padded[: len(values)] = values
    rows = padded.reshape(-1, length)
    finite = np.isfinite(rows)
    starts = np.arange(len(rows)) * length
    some = finite.any(axis=1)
    lowest = (starts + np.where(finite, rows, np.inf).argmin(axis=1))[some]
    highest = (starts + np.where(finite, rows, -np.inf).argmax(axis=1))[some]
    gaps = (starts + (~finite).argmax(axis=1))[~finite.all(axis=1)]
    kept = np.concatenate([[0, len(values) - 1], lowest, highest, gaps])
    return np.unique(kept[kept < len(values)])


def _finite_of(several: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    joined = np.concatenate([np.zeros(0), *(np.asarray(one, dtype=np.float64) for one in several)])
    return joined[np.isfinite(joined)]


def _short_head(text: str, most: int) -> str:
    """Shorten what stands before " · ", and keep the count and its mark behind it."""
    head, dot, count = text.rpartition(" · ")
    return _short(head, most - len(dot + count)) + dot + count if dot else _short(text, most)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, alt: str, parts: Iterable[str]) -> str:
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {height:g}" aria-label="{escape(alt)}">'
        f"{''.join(parts)}</svg>"
    )
