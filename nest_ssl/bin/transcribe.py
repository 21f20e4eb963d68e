"""Transcribe with a CTC model; score where the references are known.

Examples:
  python -m nest_ssl.bin.transcribe --model exp/ctc/best.nemo --manifest test.jsonl --out hyp.jsonl
  python -m nest_ssl.bin.transcribe --model exp/ctc/best.nemo call1.wav call2.flac

Prints the text of each FILE, or for manifests a summary with character and word error rates (references
normalised as the model's training text).  --out writes one JSON row for each recording: id, audio_filepath,
text, pred_text, score and its errors.  --beam N decodes by prefix beam search; --words FILE (one word a
line) restricts it to these words, or with --word-bonus favours them.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nest_ssl.bin.arguments import Parser, channel, device, output_file
from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.decoding.beam import beam_search
from nest_ssl.decoding.greedy import greedy_labels
from nest_ssl.decoding.recordings import (
    Recording,
    padded_batches,
    recordings_of_files,
    recordings_of_manifests,
)
from nest_ssl.decoding.word_list import WordList, read_words
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import write_rows
from nest_ssl.models.ctc_models import EncDecCTCModelBPE
from nest_ssl.text.error_rates import ErrorCounts, character_errors, word_errors
from nest_ssl.text.tokenizer import unknown_characters

SHOWN_WORDS = 10

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    device = arguments.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.model.is_dir():
        raise ValueError(f"{arguments.model} is a folder; name a .nemo in it, such as best.nemo")
    model = EncDecCTCModelBPE.restore_from(arguments.model).to(device).eval()
    recordings = (
        recordings_of_manifests(arguments.manifest)
        if arguments.manifest
        else recordings_of_files(arguments.files)
    )
    started = time.monotonic()
    rows = transcribe(model, recordings, device, arguments)
    seconds = time.monotonic() - started
    if arguments.out:
        write_rows(arguments.out, rows)
    if arguments.files and not arguments.out:
        for row in rows:
            print(f"{row['audio_filepath']}\t{row['pred_text']}" if len(rows) > 1 else row["pred_text"])
    summary = summarize(rows, recordings, seconds)
    if arguments.summary:
        with replaced(arguments.summary) as temporary:
            temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if summary["scored"]:
        print(
            f"CER {summary['cer']:.4f} ({summary['character_errors']} of {summary['characters']}) "
            f"WER {summary['wer']:.4f} ({summary['word_errors']} of {summary['words']}) "
            f"utterances {summary['scored']} without reference {summary['without_reference']} "
            f"audio {summary['audio_s']:.1f} s in {seconds:.1f} s"
        )
    elif arguments.manifest and not arguments.out:
        for row in rows:
            print(f"{row['id']}\t{row['pred_text']}")
    elif arguments.out:
        print(f"{arguments.out}: {len(rows)} utterances, none with a reference")
    return 0


@torch.inference_mode()
def transcribe(
    model: EncDecCTCModelBPE, recordings: list[Recording], device: torch.device, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row for each recording, in their order."""
    found: list[dict[str, Any]] = [{} for _ in recordings]
    sample_rate = int(model.cfg.sample_rate)
    decode = decoder(model, arguments)
    batches = padded_batches(recordings, arguments.batch_duration, sample_rate, arguments.channel_selector)
    with progress_bar(len(recordings), "utterance", "transcribe") as bar:
        for numbers, audio, lengths in batches:
            log_probs, frames, _ = model(
                input_signal=audio.to(device), input_signal_length=lengths.to(device)
            )
            for row, number in enumerate(numbers):
                scores = log_probs[row, : int(frames[row])].float().cpu().numpy()
                labels, score = decode(scores)
                found[number] = row_of(recordings[number], model, labels, score)
            bar.update(len(numbers))
    return found


def decoder(
    model: EncDecCTCModelBPE, arguments: argparse.Namespace
) -> Callable[[np.ndarray], tuple[list[int], float]]:
    """What turns (T, V) log probabilities into labels and a score."""
    if not arguments.beam:
        return lambda log_probs: greedy_labels(log_probs, model.blank)
    words = None
    if arguments.words:
        listed = read_words(arguments.words, model.tokenizer.normalize)
        name_words_that_cannot_be_found(arguments.words, listed, model)
        words = WordList(listed, model.tokenizer.pieces(), arguments.word_bonus)

    def best(log_probs: np.ndarray) -> tuple[list[int], float]:
        found = beam_search(log_probs, model.blank, arguments.beam, words)
        return (list(found[0].labels), found[0].score) if found else ([], float("-inf"))

    return best


def name_words_that_cannot_be_found(path: Path, listed: list[str], model: EncDecCTCModelBPE) -> None:
    """Warn of words with characters that the model does not write; ValueError if all words have some."""
    lost = [word for word in listed if unknown_characters(model.tokenizer, [word])]
    if not lost:
        return
    named = ", ".join(lost[:SHOWN_WORDS]) + (", ..." if len(lost) > SHOWN_WORDS else "")
    message = (
        f"{path}: the model does not write the characters of {len(lost)} of {len(listed)} words: {named}"
    )
    if len(lost) == len(listed):
        raise ValueError(message)
    log.warning("%s", message)


def row_of(recording: Recording, model: EncDecCTCModelBPE, labels: list[int], score: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": recording.utterance_id,
        "audio_filepath": str(recording.audio_path),
        "duration": round(recording.length_s, 4),
        "pred_text": model.text_of_labels(labels),
        "score": round(score, 4) if math.isfinite(score) else None,
    }
    if recording.reference is not None:
        row["text"] = model.tokenizer.normalize(recording.reference)
        characters = character_errors([row["text"]], [row["pred_text"]])
        words = word_errors([row["text"]], [row["pred_text"]])
        row |= {"character_errors": characters.errors, "word_errors": words.errors}
    return row


def summarize(rows: list[dict[str, Any]], recordings: list[Recording], seconds: float) -> dict[str, Any]:
    """Error rates over all rows with a reference."""
    scored = [row for row in rows if row.get("text")]
    references, hypotheses = [r["text"] for r in scored], [r["pred_text"] for r in scored]
    characters, words = ErrorCounts(), ErrorCounts()
    if scored:
        characters, words = character_errors(references, hypotheses), word_errors(references, hypotheses)
    return {
        "utterances": len(rows),
        "scored": len(scored),
        "without_reference": len(rows) - len(scored),
        "audio_s": round(sum(recording.length_s for recording in recordings), 2),
        "seconds": round(seconds, 2),
        "characters": characters.total,
        "character_errors": characters.errors,
        "cer": characters.rate if scored else None,
        "words": words.total,
        "word_errors": words.errors,
        "wer": words.rate if scored else None,
        "word_substitutions": words.substitutions,
        "word_deletions": words.deletions,
        "word_insertions": words.insertions,
    }


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("transcribe", description=__doc__)
    add = parser.add_argument_group("what is transcribed").add_argument
    add("--model", type=Path, required=True, metavar="FILE", help=".nemo of a CTC model")
    add("files", type=Path, nargs="*", metavar="FILE", help="audio files; their text is printed")
    add("--manifest", type=Path, action="append", metavar="FILE", help="rows; may be repeated")
    add("--out", type=output_file, metavar="FILE", help="JSON lines to write")
    add("--summary", type=output_file, metavar="FILE", help="JSON with the error rates to write")
    add("--channel-selector", type=channel, metavar="N|average", help="of several channels")
    add = parser.add_argument_group("how").add_argument
    add("--beam", type=int, default=0, metavar="N", help="prefixes kept; 0 decodes greedily [%(default)s]")
    add("--words", type=Path, metavar="FILE", help="word list; needs --beam")
    bonus = "for each word of the list; others may be said too"
    add("--word-bonus", type=float, metavar="NATS", help=bonus)
    seconds = "seconds of audio at once [%(default)s]"
    add("--batch-duration", type=float, default=60.0, metavar="S", help=seconds)
    add("--device", type=device, help="cpu, cuda, cuda:1 ... [a GPU if there is one]")
    arguments = parser.parse_intermixed_args(argv)
    if bool(arguments.manifest) == bool(arguments.files):
        parser.error("give either --manifest FILE or audio files")
    if arguments.beam < 0:
        parser.error("--beam must be at least 0")
    if arguments.words and not arguments.beam:
        parser.error("--words needs --beam N, such as --beam 16")
    if arguments.word_bonus is not None and not arguments.words:
        parser.error("--word-bonus needs --words FILE")
    if not arguments.batch_duration > 0:
        parser.error("--batch-duration must be positive")
    return arguments


if __name__ == "__main__":
    run(main)
