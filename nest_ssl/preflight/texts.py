"""Transcripts against the tokenizers, and against what CTC can align."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np

from nest_ssl.data.messages import CONTROL
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown
from nest_ssl.preflight.rows import Row, spread
from nest_ssl.text.transcript_faults import bad_encoding

SAMPLE = 4000  # texts that are encoded, decoded and read for faults
BROKEN = 3  # units of one character from which on it is spelt in bytes
TIGHT = 0.1


def check_texts(context: Context) -> Iterator[Finding]:
    """Check texts for what no tokenizer should see: nothing at all, control tokens, damaged characters."""
    for name, found in context.sets:
        empty = [row for row in found.rows if not all(text.strip() for text in row.texts)]
        if empty:
            yield Finding(
                "error",
                "TEXT.empty",
                f"{len(empty)} of {len(found)} rows of the {name} set have no text: "
                f"{shown(row.place for row in empty)}",
                "Such rows teach the model to end at once; CTC has no target, an error rate no reference.",
                "Remove the rows, or transcribe them.",
            )
        controls = [(row, token) for row in found.rows if (token := _control(row, context.tokenizer))]
        if controls:
            row, token = controls[0]
            yield Finding(
                "error",
                "TEXT.control",
                f"{len(controls)} rows of the {name} set have control tokens in their text, such as "
                f"{token!r} in {row.place}: {row.text[:60]!r}",
                "The language model reads them as commands: <|im_end|> ends the answer before the text does.",
                "Take them out of the transcripts.",
            )
        rows = spread(found.rows, SAMPLE // 2, SAMPLE // 2)
        damaged = [(row, fault) for row in rows if (fault := bad_encoding(row.text))]
        if damaged:
            row, fault = damaged[0]
            yield Finding(
                "warning",
                "TEXT.encoding",
                f"{len(damaged)} of {len(rows)} texts of the {name} set are damaged, such as {row.place}: "
                f"{fault}",
                "The file was read or written in another encoding than UTF-8.",
                "Convert the transcripts again from their source.",
            )


def check_llm_tokens(context: Context) -> Iterator[Finding]:
    """Check that the language model's tokenizer can say the texts, and that text_length is its count."""
    tokenizer, rows = context.tokenizer, spread(context.training.rows, SAMPLE // 2, SAMPLE // 2)
    if tokenizer is None or not rows:
        return
    changed = [row for row in rows if tokenizer.decode(tokenizer.encode(row.text)) != _composed(row.text)]
    if changed:
        back = tokenizer.decode(tokenizer.encode(changed[0].text))
        yield Finding(
            "error" if len(changed) > 0.5 * len(rows) else "warning",
            "TEXT.tokens",
            f"{len(changed)} of {len(rows)} texts come back changed from the tokenizer of the language "
            f"model, such as {changed[0].place}: {changed[0].text[:40]!r} becomes {back[:40]!r}",
            "Characters outside the tokenizer become <unk> or vanish: the model cannot say them.",
            "Use the tokenizer of the published model, or normalise the text.",
        )
    counts = tokenizer.counts([row.texts[0] for row in rows])
    wrong = [
        (row, count)
        for row, count in zip(rows, counts, strict=True)
        if row.text_length is not None and row.text_length != count and "prev_content" not in str(row.line)
    ]
    if len(wrong) > 0.01 * len(rows):
        row, count = wrong[0]
        letters = sum(len(row.texts[0]) == row.text_length for row, _ in wrong)
        yield Finding(
            "warning",
            "TEXT.text_length",
            f"text_length is wrong in {len(wrong)} of {len(rows)} rows: {row.place} states "
            f"{row.text_length}, the text has {count} LLM tokens",
            "It seems to count characters. " * (letters > len(wrong) / 2)
            + "FunASR packs batches and applies max_target_length and max_token_length by it.",
            "Write the lengths again with python -m nest_ssl.bin.prepare and the model's own tokenizer.",
        )


def check_ctc(context: Context) -> Iterator[Finding]:
    """Count texts that CTC cannot align at the encoder's frame rate, and characters outside its units."""
    weight = context.value("ctc_weight", 0.0)
    tokenizer = context.ctc_tokenizer
    if tokenizer is None or not weight or not context.training.rows:
        return
    slack = context.lengths.get("ctc_slack")
    if slack is not None:
        yield from _feasible(context, slack)
    rows = spread(context.training.rows, SAMPLE // 2, SAMPLE // 2)
    used = {character for row in rows for character in row.text if not character.isspace()}
    spelt = sorted(c for c in used if len(tokenizer.encode(c)) >= BROKEN)
    if spelt and len(spelt) > 0.05 * len(used):
        yield Finding(
            "note",
            "CTC.bytes",
            f"{len(spelt)} of {len(used)} different characters are spelt byte by byte in the CTC units: "
            f"{' '.join(spelt[:20])}",
            f"Each takes {BROKEN} or more frames and labels; rates that CTC could align become infeasible.",
            "Take CTC units made from such texts (nest_ssl.bin.tokenizer), or the published "
            "multilingual.tiktoken.",
        )


def _feasible(context: Context, slack: np.ndarray) -> Iterator[Finding]:
    rows = context.training.rows
    known = ~np.isnan(slack)
    impossible = known & (slack < 0)
    seconds = context.encoder_seconds
    if impossible.any():
        index = int(np.flatnonzero(impossible)[0])
        labels = len(context.ctc_labels(rows[index].text))
        share = impossible.sum() / max(1, known.sum())
        conformer = context.value("audio_encoder") == "ConformerEncoder"
        factor = context.value("audio_encoder_conf.subsampling_factor")
        advice = (
            f"The ConformerEncoder sub-samples by {factor}: take audio_encoder_conf.subsampling_factor=4 "
            "with combine_time_steps 4, or CTC units that are larger (more characters each)."
            if conformer and factor == 8
            else "Take larger CTC units (more characters each), or an encoder with more frames."
        )
        yield Finding(
            "error" if share > 0.2 else "warning",
            "CTC.infeasible",
            f"{int(impossible.sum())} of {int(known.sum())} rows ({100 * share:.2f} %) have more CTC labels "
            f"than frames, such as {rows[index].place}: {labels} labels, {int(slack[index])} frames to spare "
            f"at {1000 * seconds:g} ms a frame",
            "CTC needs a frame per label and one between equal labels. The loss of such a row is infinite; "
            "it is set to zero and counted as infeasible, so the row teaches CTC nothing.",
            f"{advice} Check that text and audio of these rows belong together.",
        )
    elif known.any():
        tight = float((slack[known] <= 0.1 * np.maximum(1, context.lengths["lfr_frames"][known])).mean())
        level: Any = "note"
        yield Finding(
            level,
            "CTC.feasible",
            f"CTC can align all {int(known.sum())} rows at {1000 * seconds:g} ms a frame"
            + (
                f"; {100 * tight:.1f} % have less than a tenth of their frames to spare"
                if tight > TIGHT
                else ""
            ),
        )


def _control(row: Row, tokenizer: Any) -> str | None:
    for text in row.texts:
        found = CONTROL.search(text)
        if found:
            return str(found.group())
        special = getattr(tokenizer, "special_in", None)
        if special is not None and (token := special(text)):
            return str(token)
    return None


def _composed(text: str) -> str:
    """Give a text as Qwen's tokenizer normalises it, NFC."""
    return unicodedata.normalize("NFC", text)
