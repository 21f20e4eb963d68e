"""The work of the verb transcribe: every recording through the model, and the error rates."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nest_ssl.bin.terminal import progress_bar
from nest_ssl.decoding.beam import beam_search
from nest_ssl.decoding.greedy import greedy_labels
from nest_ssl.decoding.recordings import Recording, padded_batches
from nest_ssl.decoding.word_list import WordList, read_words
from nest_ssl.models.ctc_models import EncDecCTCModelBPE
from nest_ssl.text.error_rates import ErrorCounts, character_errors, word_errors
from nest_ssl.text.tokenizer import unknown_characters

log = logging.getLogger(__name__)

SHOWN_WORDS = 10


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
