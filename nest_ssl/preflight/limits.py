"""P3: the limits that FunASR names alike in four units, and what each would drop from this data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nest_ssl.data.length_limits import FUNASR_UNITS, LengthLimits
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown

LONGEST_S = 30.0  # longer utterances are cut at pauses: the model was trained on such, and repeats beyond


class Rule(NamedTuple):
    """One limit as one part of FunASR reads it."""

    key: str
    default: int  # of FunASR's code
    where: str
    unit: str  # of data/lengths.py
    side: str
    effect: str


RULES = (
    Rule("max_source_length", 8000, "index", "speech_length", "max", "dropped in silence"),
    Rule("min_source_length", 10, "index", "speech_length", "min", "dropped in silence"),
    Rule("max_target_length", 2048, "index", "text_length", "max", "dropped in silence"),
    Rule("max_source_length", 3000, "dataset", "lfr_frames", "max", "another row in its place"),
    Rule("max_token_length", 1500, "dataset", "sequence_length", "max", "another row in its place"),
    Rule("max_token_length", 2048, "sampler", "sampler_length", "max", "never scheduled"),
)
COUNTS = {
    "speech_length": "10-ms frames",
    "lfr_frames": "60-ms frames",
    "text_length": "LLM tokens of the text",
    "sequence_length": "LLM tokens of all",
    "sampler_length": "10-ms frames + tokens",
}


def check_limits(context: Context) -> Iterator[Finding]:
    """Print one table of what each limit would drop; warn where one drops anything."""
    lengths, rows = context.lengths, context.training.rows
    if not rows or "speech_length" not in lengths:
        return
    lines = [f"{'key':<20}{'in':<9}{'value':>7} {'counts':<23}{'in s':>7} {'rows':>7}{'hours':>8}  effect"]
    worst: list[tuple[Rule, np.ndarray]] = []
    together = np.zeros(len(rows), bool)
    for rule in RULES:
        if rule.unit not in lengths:
            continue
        value = float(context.value(f"dataset_conf.{rule.key}", rule.default))
        known = lengths[rule.unit]
        dropped = known > value if rule.side == "max" else known < value
        together |= dropped
        hours = float(np.nansum(lengths["seconds"][dropped])) / 3600
        lines.append(
            f"{rule.key:<20}{rule.where:<9}{value:>7g} {COUNTS[rule.unit]:<23}{_seconds(rule, value):>7} "
            f"{int(dropped.sum()):>7}{hours:>8.2f}  {rule.effect}"
        )
        if dropped.any():
            worst.append((rule, dropped))
    share = 100 * together.mean()
    hours = float(np.nansum(lengths["seconds"][together])) / 3600
    lines.append(f"{'all':<67} {int(together.sum()):>7}{hours:>8.2f}  {share:.2f} % of {len(rows)} rows")
    longest = float(np.nanmax(lengths["seconds"]))
    yield Finding(
        "note",
        "P3.table",
        f"what each length limit would drop of {len(rows)} training rows (longest {longest:.2f} s)",
        "FunASR has one key for several units; 8000 of max_source_length are 80 s in the index and 480 s in "
        "the dataset, 3500 of max_token_length are 35 s of audio in the sampler and 28 min in the dataset.",
        "" if together.any() else "Nothing is dropped.",
        tuple(lines),
    )
    for rule, dropped in worst:
        index = int(np.flatnonzero(dropped)[0])
        value = context.value(f"dataset_conf.{rule.key}", rule.default)
        yield Finding(
            "error" if dropped.all() else "warning",
            "P3.drops",
            f"dataset_conf.{rule.key}={value} ({rule.where}: {COUNTS[rule.unit]}) would drop "
            f"{int(dropped.sum())} of {len(rows)} rows ({100 * dropped.mean():.2f} %), such as "
            f"{rows[index].place} with {lengths[rule.unit][index]:g}",
            f"FunASR: {rule.effect}. Long utterances are lost first, so the model never learns them.",
            f"Cut utterances over {LONGEST_S:g} s at pauses, or raise {rule.key}; preflight --suggest-limits "
            "99.5 writes limits that agree with each other."
            if rule.side == "max"
            else f"Lower {rule.key}, or remove the rows in data preparation, where it is reported.",
        )
    long = lengths["seconds"] > LONGEST_S
    if long.any():
        index = int(np.flatnonzero(long)[0])
        yield Finding(
            "warning",
            "P3.long",
            f"{int(long.sum())} rows are longer than {LONGEST_S:g} s, such as {rows[index].place} with "
            f"{lengths['seconds'][index]:.1f} s",
            "The published model was trained on, and is run with, segments of at most 30 s; beyond it "
            "repeats.",
            "Cut them at pauses (VAD) in data preparation.",
        )
    yield from _collator(context)
    if context.options.suggest_percentile is not None:
        yield from _suggest(context, context.options.suggest_percentile)


def _collator(context: Context) -> Iterator[Finding]:
    """Count the batches of FunASR's sampler that its collator would cut."""
    lengths = context.lengths
    if "sampler_length" not in lengths or "sequence_length" not in lengths:
        return
    size = int(context.value("dataset_conf.batch_size", 2000))
    most = int(context.value("dataset_conf.batch_size_sample_max", 200))
    tokens = int(context.value("dataset_conf.batch_size_token_max", 2500))
    stated = np.array(
        [(row.stated or 0) + (row.text_length or 0) for row in context.training.rows], dtype=np.float64
    )
    units = np.where(stated > 0, stated, lengths["sampler_length"])
    batches = funasr_batches(units, size, most)
    cut, lost = 0, 0
    for batch in batches:
        left = sorted(lengths["sequence_length"][batch])
        while len(left) > 1 and len(left) * left[-1] > tokens:
            left.pop()
        cut += len(left) < len(batch)
        lost += len(batch) - len(left)
    if cut:
        yield Finding(
            "warning",
            "P3.collator",
            f"FunASR's collator would cut {cut} of {len(batches)} batches and drop the longest {lost} "
            f"samples of them (batch_size {size}, batch_size_token_max {tokens})",
            "Its sampler packs by 10-ms frames + text tokens, its collator allows padded LLM tokens; above "
            "batch_size_token_max it throws the longest samples away, epoch after epoch. Our data plan "
            "splits the batch and drops none.",
            f"For FunASR itself set dataset_conf.batch_size_token_max to {_needed(lengths, batches)} or "
            "more.",
        )


def funasr_batches(units: np.ndarray, batch_size: int, most: int, sort_size: int = 1024) -> list[np.ndarray]:
    """Pack rows by FunASR's rule, sorted in buffers, in file order instead of a random one.

    units: (N,) lengths as its sampler adds them.  Gives indices of each batch: the longest times the count is
    batch_size at most, and a batch has `most` samples at most.
    """
    batches: list[np.ndarray] = []
    for start in range(0, len(units), sort_size):
        order = start + np.argsort(units[start : start + sort_size], kind="stable")
        batch: list[int] = []
        for index in order:
            if batch and (units[index] * (len(batch) + 1) > batch_size or len(batch) >= most):
                batches.append(np.array(batch))
                batch = []
            batch.append(int(index))
        if batch:
            batches.append(np.array(batch))
    return batches


def _suggest(context: Context, percentile: float) -> Iterator[Finding]:
    unit = "sequence_length" if "sequence_length" in context.lengths else "speech_length"
    if unit == "speech_length":
        yield Finding(
            "warning",
            "P3.suggest",
            "limits cannot be suggested without the tokenizer",
            "Three of FunASR's limits count tokens of the language model.",
            "Give --model with the folder Qwen3-0.6B in it.",
        )
        return
    resolved, dataset_conf = suggested_limits(context, percentile)
    kept = int(resolved.keep(context.lengths).sum())
    lines = [f"++dataset_conf.{key}={value}" for key, value in dataset_conf.items()]
    yield Finding(
        "note",
        "P3.suggest",
        f"limits that keep {kept} of {len(context.training)} rows (p{percentile:g} of speech_length and of "
        "text_length)",
        "They agree with each other: no part of FunASR drops a row that another one keeps.",
        "Give these words to finetune or funasr-train-ds:",
        tuple(f"{line:<48}{FUNASR_UNITS[key]}" for line, key in zip(lines, dataset_conf, strict=True)),
    )


def suggested_limits(context: Context, percentile: float) -> tuple[LengthLimits, dict[str, Any]]:
    """Give the limits at a percentile of the training rows, and FunASR's dataset_conf keys for them."""
    sides = {"max": f"p{percentile:g}"}
    limits = LengthLimits.from_config({"speech_length": sides, "text_length": sides})
    resolved = limits.resolve(context.lengths)
    kept = resolved.keep(context.lengths)
    lengths = {unit: values[kept] for unit, values in context.lengths.items()}
    written = resolved.funasr_limits(
        lengths,
        batch_size=int(context.value("dataset_conf.batch_size", 6000)),
        batch_size_sample_max=int(context.value("dataset_conf.batch_size_sample_max", 10)),
    )
    return resolved, written["dataset_conf"]


def _seconds(rule: Rule, value: float) -> str:
    """Give a limit on the audio in seconds of audio."""
    factor = {"speech_length": 0.01, "lfr_frames": 0.06, "sampler_length": 0.01}.get(rule.unit)
    return "" if factor is None else f"{value * factor:g}"


def _needed(lengths: Mapping[str, np.ndarray], batches: Sequence[np.ndarray]) -> int:
    return int(max(len(batch) * lengths["sequence_length"][batch].max() for batch in batches))


def check_dead_limits(context: Context) -> Iterator[Finding]:
    """Warn of limits that nobody reads."""
    dead = [
        key
        for key in ("max_speech_length", "dataset_conf.max_speech_length", "train_conf.max_speech_length")
        if context.value(key) is not None
    ]
    if dead:
        yield Finding(
            "warning",
            "P3.max_speech_length",
            f"{shown(dead)} is {context.value(dead[0])}",
            "FunASR reads max_speech_length nowhere: setting it changes nothing.",
            "Set dataset_conf.max_source_length (10-ms frames in the index), or cut long utterances.",
        )
