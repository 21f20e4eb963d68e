"""Recordings through the recognizer: batches of like length, long ones in windows, rows of results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nest_ssl.decoding.fun_asr_items import Item
from nest_ssl.decoding.fun_asr_joint import rounded
from nest_ssl.decoding.fun_asr_recognizer import Recognized, Recognizer, Segment, text_tn
from nest_ssl.decoding.fun_asr_windows import Window, joined_text, merge, plan_windows, timed_units

log = logging.getLogger(__name__)

Row = dict[str, Any]
SCORES = ("logp_llm", "logp_ctc", "joint")


@dataclass(frozen=True)
class BatchOptions:
    """batch_s: seconds of audio in a batch, padding included; batch_size: segments in it.

    window_s: longer recordings are cut into windows, which overlap by overlap_s where nobody pauses.
    candidates: rows carry the candidates of the joint choice.
    """

    batch_s: float = 60.0
    batch_size: int = 16
    window_s: float = 30.0
    overlap_s: float = 4.0
    candidates: bool = False

    def __post_init__(self) -> None:
        if not self.batch_s > 0 or self.batch_size < 1:
            raise ValueError(f"a batch of {self.batch_s} s and {self.batch_size} segments holds nothing")
        plan_windows(np.zeros(1, np.float32), 1000, self.window_s, self.overlap_s)


def decode_items(
    recognizer: Recognizer, items: Sequence[Item], options: BatchOptions
) -> Iterator[tuple[Item, Row, float]]:
    """Give (item, row, seconds of audio) for each item, batch by batch, the longest first.

    What cannot be read or decoded gets a row with "error" and stops nothing.  While a batch is decoded the
    next one is read.
    """
    batches = planned(items, options)

    def read(batch: Sequence[Item]) -> list[np.ndarray | Exception]:
        return [_read(item, recognizer.sample_rate) for item in batch]

    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(read, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches):
            audio = ahead.pop().result()
            ahead += [pool.submit(read, following) for following in batches[number + 1 : number + 2]]
            sound: list[tuple[Item, np.ndarray]] = []
            for item, samples in zip(batch, audio, strict=True):
                if isinstance(samples, Exception):
                    yield item, error_row(item, samples), 0.0
                else:
                    sound.append((item, samples))
            yield from _decoded(recognizer, sound, options)


def planned(items: Sequence[Item], options: BatchOptions) -> list[list[Item]]:
    """Give the items in batches, longest first; one that is longer than a window comes alone."""
    lengths = {item.key: item.length_s() for item in items}
    batches: list[list[Item]] = []
    room = 0
    for item in sorted(items, key=lambda item: (-lengths[item.key], item.key)):
        length_s = max(lengths[item.key], 1e-3)
        if room < 1:
            batches.append([])
            room = min(options.batch_size, max(1, int(options.batch_s / length_s)))
        batches[-1].append(item)
        room = 0 if length_s > options.window_s else room - 1
    return batches


def error_row(item: Item, error: Exception | str) -> Row:
    """Give the row of an item that could not be decoded; its text is empty."""
    return {**_facts(item, None), "text": "", "error": str(error) or type(error).__name__}


def _read(item: Item, sample_rate: int) -> np.ndarray | Exception:
    try:
        return item.read(sample_rate)
    except (ValueError, OSError) as error:
        return error
    except Exception as error:  # a decoder's own kinds of errors: they too are about this file
        log.debug("%s", item.place, exc_info=True)
        return error


def _decoded(
    recognizer: Recognizer, sound: Sequence[tuple[Item, np.ndarray]], options: BatchOptions
) -> Iterator[tuple[Item, Row, float]]:
    """Decode a batch; if it fails, item by item, so that one bad item or too little memory costs itself."""
    if not sound:
        return
    rate = recognizer.sample_rate
    try:
        rows = _rows(recognizer, sound, options)
    except Exception as error:
        if len(sound) > 1:
            log.warning("a batch of %d failed (%s); decoding them one by one", len(sound), _first_line(error))
            for one in sound:
                yield from _decoded(recognizer, [one], options)
            return
        log.debug("%s", sound[0][0].place, exc_info=True)
        rows = [error_row(sound[0][0], _first_line(error))]
    for (item, samples), row in zip(sound, rows, strict=True):
        yield item, row, len(samples) / rate


def _rows(
    recognizer: Recognizer, sound: Sequence[tuple[Item, np.ndarray]], options: BatchOptions
) -> list[Row]:
    rate = recognizer.sample_rate
    segments: list[Segment] = []
    plans: list[list[Window]] = []
    for item, samples in sound:
        plan = plan_windows(samples, rate, options.window_s, options.overlap_s)
        plans.append(plan)
        for window in plan:
            before = item.prev_text if window.start == 0 else None
            part = samples[window.start : window.end]
            segments.append(Segment(part, item.prompt, item.system, before))
    found: list[Recognized] = []
    longest_s = max(len(segment.samples) for segment in segments) / rate
    count = min(options.batch_size, max(1, int(options.batch_s / max(longest_s, 1e-3))))
    count = max(count, len(sound)) if len(segments) == len(sound) else count
    for start in range(0, len(segments), count):
        found += recognizer.recognize(segments[start : start + count])
    rows, at = [], 0
    for (item, samples), plan in zip(sound, plans, strict=True):
        own = found[at : at + len(plan)]
        at += len(plan)
        row = _facts(item, len(samples) / rate)
        row |= _said(own[0], options) if len(plan) == 1 else _joined(own, plan, rate)
        rows.append(row)
    return rows


def _facts(item: Item, length_s: float | None) -> Row:
    row: Row = {"key": item.key, "audio_filepath": str(item.span.path) if item.span else None}
    if length_s is not None:
        row["duration"] = round(length_s, 4)
    if item.span is not None and item.span.offset_s:
        row["offset"] = item.span.offset_s
    if item.reference is not None:
        row["reference"] = item.reference
    return row | dict(item.copied)


def _said(found: Recognized, options: BatchOptions) -> Row:
    """Give what one window says."""
    row: Row = {"text": found.text, "text_tn": text_tn(found.raw)}
    row |= {
        name: value
        for name in ("text_llm", "text_ctc", "text_joint")
        if (value := getattr(found, name)) is not None
    }
    row["score"] = {name: rounded(found.score[name]) for name in SCORES if name in found.score}
    if found.gate is not None:
        row["score"]["gate"] = {
            k: v for k, v in asdict(found.gate).items() if k != "silent" and v is not None
        }
    if options.candidates:
        row["candidates"] = [candidate.as_row() for candidate in found.candidates]
    row["ctc_timestamps"], row["timestamps"] = found.ctc_times, found.times
    row["silence_gate"] = found.gate.silent if found.gate is not None else None
    return row


def _joined(found: Sequence[Recognized], plan: Sequence[Window], rate: int) -> Row:
    """Give what the windows of a recording say together."""

    def joined(
        text: Callable[[Recognized], str], times: Callable[[Recognized], list[Row]]
    ) -> tuple[str, list]:
        texts = [text(one) for one in found]
        return join_windows(plan, rate, texts, [times(one) for one in found])

    whole, times = joined(lambda one: one.text, lambda one: one.times)
    row: Row = {"text": whole, "text_tn": text_tn(whole)}
    ctc_times: list[Row] = []
    if found[0].text_llm is not None:
        row["text_llm"], _ = joined(lambda one: one.text_llm or "", lambda one: one.llm_times)
    if found[0].text_ctc is not None:
        row["text_ctc"], ctc_times = joined(lambda one: one.text_ctc or "", lambda one: one.ctc_times)
    if found[0].text_joint is not None:
        row["text_joint"] = whole
    row["score"] = {"windows": len(plan)}
    for name in SCORES:
        values = [one.score[name] for one in found if one.score.get(name) is not None]
        if values:
            row["score"][name] = rounded(sum(values))
    silent = [one.gate.silent if one.gate is not None else None for one in found]
    row["score"]["silent_windows"] = sum(gate is not None for gate in silent)
    row["ctc_timestamps"], row["timestamps"] = ctc_times, times
    row["silence_gate"] = silent[0] if all(silent) else None
    return row


def join_windows(
    plan: Sequence[Window], rate: int, texts: Sequence[str], times: Sequence[Sequence[Row]]
) -> tuple[str, list[Row]]:
    """Give the text of a recording and its timestamps; those of the windows count from their beginning."""
    units: list[Any] = []
    for number, window in enumerate(plan):
        start_s, end_s = window.start / rate, window.end / rate
        own = timed_units(texts[number], times[number], start_s, end_s - start_s)
        if number == 0:
            units = own
            continue
        before = plan[number - 1]
        units = merge(units, own, start_s, before.end / rate, before.seam / rate)
    return joined_text(units), [dict(stamp) for unit in units for stamp in unit.stamps]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
