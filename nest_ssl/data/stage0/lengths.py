"""Step 3: the length limits, shown with what they remove before they remove it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.data.length_limits import LengthLimits, preview_table
from nest_ssl.data.lengths import as_columns, row_lengths
from nest_ssl.data.stage0.parallel import batches
from nest_ssl.data.stage0.rows import rows_in, sorter
from nest_ssl.data.stage0.steps import write_json
from nest_ssl.text.llm_tokenizer import LlmTokenizer

ROWS_AT_ONCE = 8192
NEED_TOKENS = ("text_length", "sampler_length", "sequence_length")


def usable_limits(
    section: Mapping[str, Any], tokenizer: LlmTokenizer | None, name: str
) -> tuple[LengthLimits, tuple[str, ...]]:
    """Give the limits of a section, and the units of those that wait for a tokenizer."""
    limits = LengthLimits.from_config(section, name)
    if tokenizer is not None:
        return limits, ()
    waiting = tuple(unit for unit in limits.units() if unit in NEED_TOKENS)
    kept = LengthLimits(tuple(limit for limit in limits.limits if limit.unit not in waiting))
    return kept, waiting


def columns(path: Path, tokenizer: LlmTokenizer | None, prompt_tokens: int) -> dict[str, np.ndarray]:
    """Give the lengths of the rows of a working file, {unit: (N,) float64}; NaN where a row lacks a unit."""
    parts = []
    for batch in batches(rows_in(path), ROWS_AT_ONCE):
        parts.append((len(batch), as_columns([row_lengths(row, tokenizer, prompt_tokens) for row in batch])))
    units = dict.fromkeys(unit for _, part in parts for unit in part)
    return {
        unit: np.concatenate([part.get(unit, np.full(number, np.nan)) for number, part in parts])
        for unit in units
    }


def preview_limits(
    rows: Path,
    folder: Path,
    limits: LengthLimits,
    tokenizer: LlmTokenizer | None,
    prompt_tokens: int,
) -> str:
    """Write length-preview.json and give the table to print: what each limit would remove."""
    found = columns(rows, tokenizer, prompt_tokens)
    if not len(found):
        return ""
    preview: Sequence[Mapping[str, Any]] = limits.preview(found)
    resolved = limits.resolve(found)
    write_json(
        folder / "length-preview.json",
        {
            "limits": [vars(limit) | {"configured": vars(before)} for limit, before in
                       zip(resolved.limits, limits.limits, strict=True)],
            "preview": list(preview),
        },
    )  # fmt: skip
    return preview_table(preview)


def filter_lengths(
    rows: Path,
    folder: Path,
    limits: LengthLimits,
    tokenizer: LlmTokenizer | None,
    prompt_tokens: int,
    advance: Callable[[int], Any],
) -> None:
    """Write fitting.jsonl and length-dropped.jsonl."""
    found = columns(rows, tokenizer, prompt_tokens)
    resolved = limits.resolve(found) if found else limits
    with sorter("length", folder / "fitting.jsonl", folder / "length-dropped.jsonl") as files:
        for number, row in enumerate(rows_in(rows)):
            faults = resolved.check({unit: float(values[number]) for unit, values in found.items()})
            if faults:
                files.drop(row, list(faults), [str(detail) for detail in faults.values()])
            else:
                files.keep(row)
            advance(1)
