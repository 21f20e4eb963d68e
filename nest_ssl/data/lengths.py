"""Lengths of an utterance in every unit that a limit may be in: seconds, feature frames, LLM tokens.

FunASR uses one word for several of them: max_source_length counts 10-ms frames in its index and 60-ms frames
in its dataset, max_token_length 10-ms frames plus text tokens in its sampler and LLM tokens in its dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any, Protocol

import numpy as np

UNITS = {
    "seconds": "s of audio",
    "speech_length": "10-ms frames (speech_length of a messages line)",
    "lfr_frames": "60-ms frames (what the encoder sees)",
    "text_length": "LLM tokens of the text (text_length of a messages line)",
    "sampler_length": "10-ms frames + LLM tokens of the text (max_token_length of FunASR's sampler)",
    "sequence_length": "LLM tokens of prompt, audio and text (max_token_length of FunASR's dataset)",
    "ctc_slack": "60-ms frames that CTC has to spare for the text; below 0 it cannot align",
}
NEED_TOKENIZER = ("text_length", "sampler_length", "sequence_length")

WINDOW_MS, SHIFT_MS = 25.0, 10.0  # of FunASR's WavFrontend
LFR = 6  # feature frames per frame of the encoder
LOW_FRAME_RATE = 8  # frames of the adaptor per LLM token: three halvings, rounded up

Lengths = Mapping[str, np.ndarray]  # unit -> (N,) float64, NaN where a row has none


class Counts(Protocol):
    """A tokenizer that counts, such as LlmTokenizer."""

    def count(self, text: str) -> int: ...


def speech_length(duration_s: float) -> int:
    """Give the 10-ms frames of `duration_s` seconds, floor((ms - 25) / 10) + 1; 0 below 25 ms.

    FunASR's own converter computes the same in floating point and is one frame short for some durations,
    such as 4.015 s; here a duration that is a whole number of samples gives the frames that WavFrontend has.
    """
    milliseconds = duration_s * 1000.0 + 1e-6  # below any sample period, above what rounding takes away
    return max(0, int((milliseconds - WINDOW_MS) // SHIFT_MS) + 1)


def lfr_frames(speech_frames: int) -> int:
    """Give the 60-ms frames that the encoder sees of 10-ms frames; audio below 25 ms has one too."""
    return -(-max(1, speech_frames) // LFR)


def audio_tokens(speech_frames: int) -> int:
    """Give the LLM tokens that the audio takes: the low frame rate keeps an eighth of the 60-ms frames."""
    return -(-lfr_frames(speech_frames) // LOW_FRAME_RATE)


def row_lengths(
    row: Mapping[str, Any],
    tokenizer: Counts | None = None,
    prompt_tokens: int = 0,
    ctc_encode: Callable[[str], Sequence[int]] | None = None,
) -> dict[str, float]:
    """Give {unit: length} of a row: the units of its duration, with a tokenizer those of its text too.

    prompt_tokens: of everything but audio and text, see messages.prompt_tokens.  ctc_encode: the CTC
    tokenizer, for ctc_slack: CTC needs a frame per token and one between two equal ones.
    """
    duration = row.get("duration")
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration < inf:
        return {}
    frames = speech_length(duration)
    found = {"seconds": float(duration), "speech_length": frames, "lfr_frames": lfr_frames(frames)}
    text = row.get("text")
    if not isinstance(text, str):
        return found
    if tokenizer is not None:
        tokens = tokenizer.count(text)
        found["text_length"] = tokens
        found["sampler_length"] = frames + tokens
        found["sequence_length"] = prompt_tokens + audio_tokens(frames) + tokens + 1  # <|im_end|>
    if ctc_encode is not None:
        targets = list(ctc_encode(text))
        equal = sum(a == b for a, b in pairwise(targets))
        found["ctc_slack"] = lfr_frames(frames) - len(targets) - equal
    return found


def as_columns(lengths: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Give {unit: (N,) float64} from the lengths of N rows; NaN where a row lacks a unit."""
    units = [unit for unit in UNITS if any(unit in row for row in lengths)]
    count = len(lengths)
    return {
        unit: np.fromiter((row.get(unit, np.nan) for row in lengths), np.float64, count) for unit in units
    }
