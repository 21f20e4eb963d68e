"""Length limits in explicit units, shown before they are applied, and written as FunASR's keys.

FunASR uses one word for several units: max_source_length counts 10-ms frames in its index and 60-ms frames
in its dataset, max_token_length 10-ms frames plus text tokens in its sampler and LLM tokens in its dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

UNITS = {
    "seconds": "s of audio",
    "speech_length": "10-ms frames (speech_length of a messages line)",
    "lfr_frames": "60-ms frames (what the encoder sees)",
    "text_length": "LLM tokens of the text (text_length of a messages line)",
    "sampler_length": "speech_length + text_length (max_token_length of FunASR's sampler)",
    "sequence_length": "LLM tokens of prompt, audio and text (max_token_length of FunASR's dataset)",
    "ctc_slack": "60-ms frames that CTC has to spare for the text; below 0 it cannot align",
}

Lengths = Mapping[str, np.ndarray]  # unit -> (N,) float64, NaN where a row has none


@dataclass(frozen=True)
class Limit:
    """A limit on a unit: side "min" or "max"; value in the unit, or percentile in (0, 100) of the corpus."""

    unit: str
    side: str
    value: float | None = None
    percentile: float | None = None


@dataclass(frozen=True)
class LengthLimits:
    """Limits that a row must keep, all of them; both ends are allowed values."""

    limits: tuple[Limit, ...] = ()

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None, name: str = "length") -> LengthLimits:
        """Build from {unit: {min: number | "p0.5", max: number | "p99.5"}}; ValueError names the key."""
        raise NotImplementedError

    def units(self) -> tuple[str, ...]:
        """Give the units that limits are set on."""
        raise NotImplementedError

    def resolve(self, lengths: Lengths) -> LengthLimits:
        """Give the same limits with every percentile replaced by the length it means in this corpus."""
        raise NotImplementedError

    def check(self, lengths: Mapping[str, float]) -> dict[str, str]:
        """Give {"speech_length_over_max": detail, ...} of one row; {} if it is kept. Limits must be resolved."""
        raise NotImplementedError

    def keep(self, lengths: Lengths) -> np.ndarray:
        """Give (N,) bool: True for rows within all limits.  Limits must be resolved."""
        raise NotImplementedError

    def preview(self, lengths: Lengths) -> list[dict[str, Any]]:
        """Give what each limit, its neighbours and all together would remove, one JSON-able row each.

        limit: "speech_length_max" or "all"; setting: as configured ("p99.5", "8000") or the neighbour's;
        chosen: bool; value; unit; rows, hours, share (of rows) removed; rows_kept, hours_kept.
        """
        raise NotImplementedError

    def funasr_limits(
        self,
        lengths: Lengths | None = None,
        batch_size: int = 6000,
        batch_size_sample_max: int = 10,
        prompt_tokens: int = 64,
    ) -> dict[str, Any]:
        """Give {"dataset_conf": {FunASR's keys}, "units": {key: what it counts and where}}.

        With the lengths of the kept rows the values are the smallest with which FunASR drops none of them.
        """
        raise NotImplementedError


def row_lengths(row: Mapping[str, Any], tokenizer: Any = None, prompt_tokens: int = 0) -> dict[str, float]:
    """Give {unit: length} of a row: the units of its duration, with a tokenizer those of its text too."""
    raise NotImplementedError


def as_columns(lengths: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Give {unit: (N,) float64} from the lengths of N rows; NaN where a row lacks a unit."""
    raise NotImplementedError


def preview_table(preview: Sequence[Mapping[str, Any]]) -> str:
    """Give a preview as a Markdown table."""
    raise NotImplementedError
