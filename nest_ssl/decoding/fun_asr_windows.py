"""Long recordings in windows: where to cut them, and how to join the texts again.

A recording is cut in pauses, where no word can be lost or doubled.  Where nobody pauses for long enough the
windows overlap, and the texts are joined at a word that both of them have.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FRAME_S = 0.01
SMOOTH = 3  # frames over which the power is averaged
PAUSE_S = 0.25  # longer than the silence before a plosive
PAUSE_DB = 25.0  # below the loud frames of the window
NOISE_DB = 3.0  # above the quietest frames: a pause in noise
DYNAMICS_DB = 10.0  # between quiet and loud frames; with less nothing can be told to be a pause
QUIETEST = 1e-10  # power of a frame of zeros
SAME_WORD_S = 1.0  # how far apart two windows may place a word

# Written without spaces between words: kana, Han, Hangul.
WITHOUT_SPACES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
UNIT = re.compile(f"[{WITHOUT_SPACES}][^\\w\\s]*|[^\\s{WITHOUT_SPACES}]+")


@dataclass(frozen=True)
class Window:
    """Samples [start, end) of a recording.  seam: the sample at which the next window takes over; seam ==
    end where the cut is in a pause, and in the last window."""

    start: int
    end: int
    seam: int


@dataclass(frozen=True)
class Unit:
    """A word, or a character of a script without spaces, with its punctuation.

    time_s: of its middle, in the recording; stamps: those of its tokens, in seconds of the recording.
    """

    text: str
    time_s: float
    space_before: bool = True
    stamps: tuple[Mapping[str, Any], ...] = ()


def plan_windows(samples: np.ndarray, rate: int, window_s: float, overlap_s: float) -> list[Window]:
    """Give windows of at most `window_s` that cover float (T,) samples; one if they are not longer.

    Each ends in the longest pause of its second half; without one the next window begins `overlap_s` before
    its end, and the seam is the quietest moment in the middle half of what both have.
    """
    if not 0 < overlap_s <= window_s / 2:
        raise ValueError(f"an overlap of {overlap_s} s does not fit windows of {window_s} s: up to the half")
    length, longest, overlap = len(samples), int(window_s * rate), int(overlap_s * rate)
    windows, start = [], 0
    while length - start > longest:
        end = start + longest
        cut = _pause(samples[start:end], rate)
        if cut is not None:
            windows.append(Window(start, start + cut, start + cut))
            start += cut
            continue
        seam = end - overlap + overlap // 4
        seam += _quietest(samples[seam : seam + overlap // 2], rate)
        windows.append(Window(start, end, seam))
        start = end - overlap
    return [*windows, Window(start, length, length)]


def timed_units(
    text: str, timestamps: Sequence[Mapping[str, Any]], start_s: float, duration_s: float
) -> list[Unit]:
    """Give the units of a window's text with their times in the recording.

    timestamps: the text's, in seconds from the window's beginning; without any the units are spread evenly.
    """
    matches = list(UNIT.finditer(text))
    stamps = _stamps_of_units(matches, text, timestamps, start_s)
    found = []
    for match, own in zip(matches, stamps, strict=True):
        middle = start_s + duration_s * (match.start() + match.end()) / 2 / len(text)
        if own:
            middle = (own[0]["start_time"] + own[-1]["end_time"]) / 2
        spaced = match.start() > 0 and text[match.start() - 1].isspace()
        found.append(Unit(match.group(), middle, spaced, tuple(own)))
    return found


def joined_text(units: Sequence[Unit]) -> str:
    """Give the text of units."""
    found = ""
    for unit in units:
        found += (" " if found and unit.space_before else "") + unit.text
    return found


def merge(
    left: Sequence[Unit], right: Sequence[Unit], begin_s: float, end_s: float, seam_s: float
) -> list[Unit]:
    """Join the units of two windows that both have [begin_s, end_s] of the recording.

    Of the longest sequence of words that both say there at about the same time, the one nearest to seam_s is
    where the second window takes over.  Where they agree on nothing, the times decide.
    """
    if begin_s >= end_s:
        return [*left, *_spaced(left, right)]
    slack = SAME_WORD_S
    first = next((i for i, unit in enumerate(left) if unit.time_s >= begin_s - slack), len(left))
    last = next((j for j, unit in enumerate(right) if unit.time_s > end_s + slack), len(right))
    pairs = [(first + i, j) for i, j in _agreement(left[first:], right[:last])]
    if pairs:
        i, j = min(pairs, key=lambda pair: abs(left[pair[0]].time_s - seam_s))
        return [*left[: i + 1], *_spaced(left[: i + 1], right[j + 1 :])]
    kept = [unit for unit in left if unit.time_s < seam_s]
    return [*kept, *_spaced(kept, [unit for unit in right if unit.time_s >= seam_s])]


def _spaced(left: Sequence[Unit], right: Sequence[Unit]) -> list[Unit]:
    """Give `right` with a space before its first unit, unless both sides are of a script without spaces."""
    if not left or not right or right[0].space_before:
        return list(right)
    bare = all(re.match(f"[{WITHOUT_SPACES}]", unit.text) for unit in (left[-1], right[0]))
    return [replace(right[0], space_before=not bare), *right[1:]]


def _agreement(left: Sequence[Unit], right: Sequence[Unit]) -> list[tuple[int, int]]:
    """Give the longest common subsequence as pairs of numbers; of equally long ones the closest in time."""
    worth = np.zeros((len(left) + 1, len(right) + 1))
    gains = np.zeros((len(left), len(right)))
    names = [_name(unit) for unit in right]
    for i, unit in enumerate(left):
        name = _name(unit)
        for j, other in enumerate(right):
            apart = abs(unit.time_s - other.time_s)
            if name == names[j] and apart <= SAME_WORD_S:
                gains[i, j] = 1.0 - apart / SAME_WORD_S / 4  # a word more counts more than times do
    for i in range(len(left)):
        for j in range(len(right)):
            both = worth[i, j] + gains[i, j] if gains[i, j] else 0.0
            worth[i + 1, j + 1] = max(worth[i, j + 1], worth[i + 1, j], both)
    pairs, i, j = [], len(left), len(right)
    while i and j:
        if worth[i, j] == worth[i - 1, j]:
            i -= 1
        elif worth[i, j] == worth[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _name(unit: Unit) -> str:
    """Give what makes two units the same word: case and punctuation do not."""
    bare = "".join(c for c in unit.text.casefold() if unicodedata.category(c)[0] not in "PS")
    return bare or unit.text


def _stamps_of_units(
    matches: Sequence[re.Match[str]], text: str, timestamps: Sequence[Mapping[str, Any]], start_s: float
) -> list[list[dict[str, Any]]]:
    """Give the timestamps that belong to each unit, moved by start_s."""
    found: list[list[dict[str, Any]]] = [[] for _ in matches]
    if not matches or not timestamps:
        return found
    lengths = [len(stamp["token"]) for stamp in timestamps]
    exact = "".join(stamp["token"] for stamp in timestamps) == text
    # Tokens that are parts of a character do not spell the text; then they are spread over it.
    scale = 1.0 if exact else len(text) / max(1, sum(lengths))
    lasts = np.cumsum(lengths) * scale - 1
    numbers = np.searchsorted([match.end() for match in matches], lasts, side="right")
    for stamp, number in zip(timestamps, np.minimum(numbers, len(matches) - 1), strict=True):
        moved = {key: round(stamp[key] + start_s, 3) for key in ("start_time", "end_time")}
        found[number].append({**stamp, **moved})
    return found


def _levels_db(samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """Give the smoothed level of 10-ms frames in dB, and the samples of a frame."""
    width = max(1, round(FRAME_S * rate))
    count = len(samples) // width
    frames = np.asarray(samples[: count * width], dtype=np.float64).reshape(count, width)
    power = (
        np.convolve((frames**2).mean(axis=1), np.full(SMOOTH, 1 / SMOOTH), "same") if count else frames[:, 0]
    )
    return 10 * np.log10(np.maximum(power, QUIETEST)), width


def _pause(samples: np.ndarray, rate: int) -> int | None:
    """Give the middle of the longest pause in the second half of a window, None without one."""
    levels, width = _levels_db(samples, rate)
    if not len(levels):
        return None
    floor, loud = np.percentile(levels, [5, 95])
    if loud - floor < DYNAMICS_DB:
        # All silence, or all noise: as good a place as any if there is nothing to cut through.
        return len(samples) * 3 // 4 if loud <= 10 * np.log10(QUIETEST) else None
    half = len(levels) // 2
    quiet = levels[half:] <= max(loud - PAUSE_DB, floor + NOISE_DB)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], quiet, [False])).astype(np.int8)))
    begins, ends = edges[::2], edges[1::2]
    if not len(begins):
        return None
    longest = int((ends - begins).argmax())
    if (ends[longest] - begins[longest]) * FRAME_S < PAUSE_S:
        return None
    return int(half + (begins[longest] + ends[longest]) // 2) * width


def _quietest(samples: np.ndarray, rate: int) -> int:
    levels, width = _levels_db(samples, rate)
    return int(levels.argmin()) * width if len(levels) else 0
