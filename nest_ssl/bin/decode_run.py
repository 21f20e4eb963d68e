"""The work of the verb decode: the model, its settings and journal, the rows."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nest_ssl.bin.arguments import chosen_device
from nest_ssl.bin.decode_options import chosen_weights
from nest_ssl.bin.progress import corpus_progress
from nest_ssl.checkpoints.funasr_dir import ModelDir
from nest_ssl.decoding.fun_asr_items import Item, PromptOptions, shard_of
from nest_ssl.decoding.fun_asr_joint import Candidate, JointWeights, tune
from nest_ssl.decoding.fun_asr_journal import Journal
from nest_ssl.decoding.fun_asr_recognizer import Options, Recognizer
from nest_ssl.decoding.fun_asr_recordings import BatchOptions, Row, decode_items
from nest_ssl.files.atomic import replaced
from nest_ssl.files.digests import content_digest
from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.text.error_rates import character_errors
from nest_ssl.text.normalization import TextNormalizer

log = logging.getLogger(__name__)

SHOWN_ERRORS = 5
SOME_ROWS_FAILED = 3  # exit status; 2 is argparse's
MANY_SILENT = 0.5  # of the rows: more often the CTC branch is not trained than nobody speaks


def decode_all(
    arguments: argparse.Namespace,
    directory: ModelDir,
    prompts: PromptOptions,
    items: Sequence[Item],
    dev: Sequence[Item],
) -> int:
    """Choose the weights on `dev`, where there is any, and decode `items`; gives the exit status."""
    device = chosen_device(arguments.device)
    model = FunASRNano.from_pretrained(
        arguments.model,
        init_param=arguments.init_param,
        overrides=arguments.overrides or None,
        dtype=arguments.dtype,
        device=device,
    )
    options = options_of(arguments, model)
    with_words = sum(bool(item.hotwords) for item in items)
    if options.mode == "ctc" and with_words:
        log.warning("%d of %d rows have hot words, which --mode ctc does not read", with_words, len(items))
    recognizer = Recognizer(model, options, device)
    batches = BatchOptions(
        arguments.batch_duration, arguments.batch_size, arguments.window, arguments.overlap,
        arguments.candidates,
    )  # fmt: skip
    settings = settings_of(arguments, options, batches, directory.weights_path, directory.config)
    settings |= {
        "prompt": prompts.settings.text(),
        "hotwords": list(prompts.hotwords),
        "prev_text": prompts.prev_text,
    }
    tuned_on: list[Row] = []
    if dev:
        weights, tuned_on = tuned(recognizer, dev, batches, settings, arguments)
        options = recognizer.options = replace(options, weights=weights)
    if not items:
        return status_of(tuned_on)
    if options.mode == "joint":
        weights = options.weights
        settings |= {"ctc_weight": weights.ctc_weight, "length_bonus": weights.length_bonus}
    part = shard_of(items, *arguments.shard)
    decoded = decode(recognizer, part, batches, settings, arguments.out, arguments)
    if arguments.files and not arguments.out:
        for row in decoded:
            if "error" not in row:
                print(f"{row['audio_filepath']}\t{row['text']}" if len(decoded) > 1 else row["text"])
    return status_of(decoded) or status_of(tuned_on)


def status_of(rows: Sequence[Row]) -> int:
    """Give the exit status: a recipe can go on without single rows, but not without all of them."""
    errors = sum("error" in row for row in rows)
    return (1 if errors == len(rows) else SOME_ROWS_FAILED) if errors else 0


def options_of(arguments: argparse.Namespace, model: FunASRNano) -> Options:
    for_joint = arguments.tune_on or arguments.ctc_weight or arguments.candidates
    for_joint = for_joint or arguments.length_bonus is not None
    mode = arguments.mode or ("joint" if model.ctc is not None or for_joint else "llm")
    beam = arguments.beam if arguments.beam is not None else 8 if mode == "joint" else 1
    return Options(mode, beam, chosen_weights(arguments), arguments.max_length, arguments.gate)


def settings_of(
    arguments: argparse.Namespace,
    options: Options,
    batches: BatchOptions,
    weights: Path,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Give what texts depend on, for the journal; batches, devices and shards change none."""
    content = json.dumps(config, sort_keys=True, default=str).encode()
    kept = arguments.out or arguments.tune_on  # without a journal nobody asks, and gigabytes need not be read
    return {
        "model": str(arguments.model.absolute()),
        "weights": content_digest(weights) if kept else None,
        "config": hashlib.blake2b(content, digest_size=8).hexdigest(),
        "mode": options.mode,
        "beam": options.beam_size,
        "max_length": options.max_length,
        "gate": options.gate,
        "dtype": arguments.dtype,
        "window": batches.window_s,
        "overlap": batches.overlap_s,
        "candidates": batches.candidates,
    }


def decode(
    recognizer: Recognizer,
    items: Sequence[Item],
    batches: BatchOptions,
    settings: dict[str, Any],
    out: Path | None,
    arguments: argparse.Namespace,
    verb: str = "decode",
) -> list[Row]:
    """Decode what is not decoded yet; gives all rows in order, and writes them to `out`."""
    started = time.monotonic()
    journal = None
    done: dict[str, Row] = {}
    if out is not None:
        journal = Journal(out, settings, arguments.fresh, arguments.fresh_if_changed)
        done = journal.done
    identities = [item.identity for item in items]
    left = [item for item, identity in zip(items, identities, strict=True) if identity not in done]
    identity_of = {item.key: identity for item, identity in zip(items, identities, strict=True)}
    earlier, audio_s = len(items) - len(left), 0.0
    try:
        with corpus_progress(len(items), verb, arguments.shard) as progress:
            if earlier:
                progress.advance(earlier, 0.0)
            for item, row, seconds in decode_items(recognizer, left, batches):
                if journal is not None:
                    journal.add(identity_of[item.key], row)
                else:
                    done[identity_of[item.key]] = row
                audio_s += seconds
                progress.advance(1, seconds)
        rows = [done[identity] for identity in identities]
        if journal is not None:
            journal.finish(identities)
    finally:
        if journal is not None:
            journal.close()
    tell(rows, verb, earlier, audio_s, time.monotonic() - started)
    return rows


def tell(rows: Sequence[Row], verb: str, earlier: int, audio_s: float, seconds: float) -> None:
    """Log the counts, the errors, and what looks wrong with the silence gate."""
    errors = [row for row in rows if "error" in row]
    silent = [row for row in rows if row.get("silence_gate")]
    log.info(
        "%s utterances %d already_done %d errors %d silent %d audio_s %.1f seconds %.1f audio_s/s %.1f",
        verb, len(rows), earlier, len(errors), len(silent), audio_s, seconds, audio_s / max(seconds, 1e-9),
    )  # fmt: skip
    for row in errors[:SHOWN_ERRORS]:
        log.warning("%s: %s", row["key"], row["error"])
    if len(errors) > SHOWN_ERRORS:
        log.warning('... and %d errors more; their rows have "error"', len(errors) - SHOWN_ERRORS)
    by_ctc = sum(row["silence_gate"] == "ctc" for row in silent)
    if by_ctc > MANY_SILENT * len(rows) and len(rows) > 1:
        log.warning(
            "the CTC branch hears nobody in %d of %d utterances; if somebody speaks there, it is not "
            "trained: --gate level does without it", by_ctc, len(rows),
        )  # fmt: skip


def tuned(
    recognizer: Recognizer,
    dev: Sequence[Item],
    batches: BatchOptions,
    settings: dict[str, Any],
    arguments: argparse.Namespace,
) -> tuple[JointWeights, list[Row]]:
    """Decode dev rows once, with candidates, and choose the weights; gives the rows too."""
    out: Path = arguments.weight_out
    unlabelled = [item.key for item in dev if item.error is None and not (item.reference or "").strip()]
    if unlabelled:
        raise ValueError(
            f"--tune-on: {len(unlabelled)} rows have no text to compare with, the first is {unlabelled[0]}"
        )
    arguments = argparse.Namespace(**{**vars(arguments), "shard": (1, 1)})
    rows = decode(
        recognizer, dev, replace(batches, candidates=True), {**settings, "candidates": True},
        out.with_name(out.name + ".candidates.jsonl"), arguments, "tune",
    )  # fmt: skip
    normalize = TextNormalizer()

    def count_errors(reference: str, hypothesis: str) -> tuple[int, int]:
        counts = character_errors([normalize(reference)], [normalize(hypothesis)])
        return counts.errors, counts.total

    usable = [
        ([Candidate.from_row(one) for one in row["candidates"]], row["reference"])
        for row in rows
        if row.get("candidates")
    ]
    found = tune(usable, count_errors)
    with replaced(out) as temporary:
        temporary.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    log.info(
        "tune ctc_weight %g length_bonus %g cer %.4f utterances %d of %d",
        found.weights.ctc_weight, found.weights.length_bonus, found.as_dict()["cer"], len(usable), len(rows),
    )  # fmt: skip
    return found.weights, rows
