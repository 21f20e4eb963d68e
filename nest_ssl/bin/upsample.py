"""Bring telephone recordings from 8 to 16 kHz: what the line did is kept, and nothing is added.

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

from nest_ssl.bin.arguments import Parser
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
    parser = Parser("upsample", description=__doc__)
    add = parser.add_argument_group("what is upsampled").add_argument
    add("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines; audio of 8 kHz")
    add("--out", type=Path, required=True, metavar="DIR", help="folder; the manifest is DIR.jsonl")
    quality = "hq, vhq: soxr, flat to 3.65 kHz; wide: to 3.8 kHz [%(default)s]"
    add("--quality", choices=tuple(QUALITIES), default="hq", help=quality)
    several = "of several: split, first, average or an index from 0 [error]"
    add("--channels", type=_channels, metavar="WHICH", help=several)
    add(
        "--any-rate",
        action="store_true",
        help="take other rates than 8000 Hz, too; 16 kHz is copied",
    )
    add_corpus_options(parser)
    return parser.parse_args(argv)


def _channels(text: str) -> int | str:
    if text not in CHANNELS and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither {', '.join(CHANNELS)} nor an index from 0")
    return int(text) if text.isdigit() else text


if __name__ == "__main__":
    run(main)
