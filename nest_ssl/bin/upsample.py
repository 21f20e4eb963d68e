"""Bring telephone recordings from 8 to 16 kHz: what the line did to them is kept, and nothing is added.

Example:
  python -m nest_ssl.bin.upsample --manifest data/calls.jsonl --out data/calls16k --channels split

writes data/calls16k/ and data/calls16k.jsonl.  Rows with offset and duration give exactly that part; any
coding is read that the other verbs read (G.711, GSM, AMR, ADPCM, ...).  Linear resampling only: no gain,
no dither, no noise reduction; what lies above 4 kHz stays below -60 dB.  The same command again goes on
where it was stopped.  Ends with status 3 when more recordings failed than --max-error-rate allows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nest_ssl.bin.corpus_options import add_corpus_options, finish, run_corpus
from nest_ssl.bin.terminal import run
from nest_ssl.telephone.upsampling import CHANNELS, QUALITIES, CallCorpus


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    corpus = CallCorpus(
        manifest=arguments.manifest,
        out=arguments.out,
        quality=arguments.quality,
        channels=arguments.channels,
        any_rate=arguments.any_rate,
        format=arguments.format,
    )
    run_corpus(corpus, arguments)
    return finish(corpus, arguments)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nest_ssl.bin.upsample",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--manifest", type=Path, required=True, help="JSON lines; audio of 8 kHz")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder; the manifest is written as OUT.jsonl"
    )
    parser.add_argument(
        "--quality",
        choices=tuple(QUALITIES),
        default="hq",
        help="hq, vhq: soxr, flat to 3.65 kHz; wide: flat to 3.8 kHz [%(default)s]",
    )
    parser.add_argument(
        "--channels",
        type=_channels,
        metavar="split|first|average|INDEX",
        help="of files with several, where the row has no channel_selector;\nsplit: an output for each. "
        "Without it such files are errors",
    )
    parser.add_argument(
        "--any-rate",
        action="store_true",
        help="take recordings of other rates than 8000 Hz, too: 16 kHz ones are\ncopied as they are",
    )
    add_corpus_options(parser)
    return parser.parse_args(argv)


def _channels(text: str) -> int | str:
    if text not in CHANNELS and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither {', '.join(CHANNELS)} nor an index from 0")
    return int(text) if text.isdigit() else text


if __name__ == "__main__":
    run(main)
