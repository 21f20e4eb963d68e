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
import time
from pathlib import Path

from nest_ssl.bin.arguments import Parser, channel, check_exists, chosen_device, device, output_file
from nest_ssl.bin.terminal import run
from nest_ssl.decoding.recordings import recordings_of_files, recordings_of_manifests
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import write_rows


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    check_exists(arguments.model)
    if arguments.model.is_dir():
        raise ValueError(f"{arguments.model} is a folder; name a .nemo in it, such as best.nemo")
    recordings = (
        recordings_of_manifests(arguments.manifest)
        if arguments.manifest
        else recordings_of_files(arguments.files)
    )

    # the words and files are right: only now torch, which takes seconds
    from nest_ssl.bin.transcribe_run import summarize, transcribe
    from nest_ssl.models.ctc_models import EncDecCTCModelBPE

    device = chosen_device(arguments.device)
    model = EncDecCTCModelBPE.restore_from(arguments.model).to(device).eval()
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
