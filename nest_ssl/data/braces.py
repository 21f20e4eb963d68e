"""Patterns that stand for many paths: `audio_{0..127}.tar`, and NeMo's other spellings of the braces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

OPENING, CLOSING = ("_OP_", "(", "[", "<"), ("_CL_", ")", "]", ">")
MAX_PATHS = 1_000_000
RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?|([A-Za-z])\.\.([A-Za-z])")


def expand_paths(pattern: str, name: str) -> list[str]:
    """Give the paths that a pattern stands for, in its order; one that is a file as written stands for
    itself.

    {A..B}, {A..B..STEP} (leading zeros are kept) and {a,b,c}, nested too; `_OP_`, (, [ and < mean {, as in
    NeMo. `name` is the key, for messages.  Raises ValueError for braces that do not match.
    """
    if not any(mark in pattern for mark in ("{", *OPENING)) or Path(pattern).expanduser().exists():
        return [pattern]
    braced = pattern
    for mark in OPENING:
        braced = braced.replace(mark, "{")
    for mark in CLOSING:
        braced = braced.replace(mark, "}")
    depth = 0
    for character in braced:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            break
    if depth:
        raise ValueError(f"{name}: the braces of {pattern!r} do not match (_OP_ ( [ < count as opening ones)")
    paths = []
    for path in _expanded(braced):
        paths.append(path)
        if len(paths) > MAX_PATHS:
            raise ValueError(f"{name}: {pattern!r} stands for more than {MAX_PATHS} paths")
    return paths


def split_commas(text: str) -> list[str]:
    """Give the parts between commas that are not inside of braces, without blanks around them."""
    marked = text.replace("_OP_", "{\0\0\0").replace("_CL_", "}\0\0\0")
    parts, depth, start = [], 0, 0
    for position, character in enumerate(marked):
        depth += (character in "{([<") - (character in "})]>")
        if character == "," and depth <= 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def _expanded(text: str) -> Iterator[str]:
    start = text.find("{")
    if start < 0:
        yield text
        return
    depth, end = 0, start
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            break
    head, body, tail = text[:start], text[start + 1 : end], text[end + 1 :]
    for middle in _alternatives(body):
        for rest in _expanded(tail):
            yield head + middle + rest


def _alternatives(body: str) -> Iterator[str]:
    span = RANGE.fullmatch(body)
    if span is None:
        for part in split_commas(body):
            yield from _expanded(part)
        return
    first, last, step, letter, last_letter = span.groups()
    if letter:
        sign = 1 if letter <= last_letter else -1
        yield from (chr(code) for code in range(ord(letter), ord(last_letter) + sign, sign))
        return
    low, high = int(first), int(last)
    padded = any(
        digits.lstrip("-").startswith("0") and len(digits.lstrip("-")) > 1 for digits in (first, last)
    )
    width = max(len(first), len(last)) if padded else 0
    stride = (abs(int(step)) if step else 1) or 1
    sign = 1 if low <= high else -1
    yield from (f"{number:0{width}d}" for number in range(low, high + sign, sign * stride))
