"""Write encoder features of every utterance: one layer, several, or an aggregate of them.

Examples:
  python -m nest_ssl.bin.extract_features --model exp/small/pretrain/final.nemo \\
      --manifest data/dev.jsonl --out exp/features --layers all
  python -m nest_ssl.bin.extract_features --model exp/small/pretrain --manifest data/dev.jsonl \\
      --out exp/features --layers 8,-1 --mode mean

Each utterance has a file: (L, D, T) with --mode none and several layers, otherwise (D, T), float32 or
float16, as .npy or .safetensors (key `features`).  DIR/features.jsonl has the manifest's rows with
feature_filepath and feature_frames.  The same command again goes on with what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from nest_ssl.bin.arguments import Parser, channel, check_exists, device
from nest_ssl.bin.terminal import run
from nest_ssl.decoding.recordings import recordings_of_manifests

MODES = ("cat", "sum", "mean", "avg", "max", "min", "none", "weighted_sum")  # of modules/feature_aggregation


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    check_exists(arguments.model)
    recordings = recordings_of_manifests(arguments.manifest)

    # the words and files are right: only now torch, which takes seconds
    from nest_ssl.bin.extract_features_run import extract_features

    return extract_features(arguments, recordings)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("extract_features", description=__doc__)
    add = parser.add_argument
    model = ".nemo, .ckpt, checkpoint or run directory"
    add("--model", type=Path, required=True, metavar="PATH", help=model)
    several = "may be repeated"
    add("--manifest", type=Path, action="append", required=True, metavar="FILE", help=several)
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    layers = "from 0, or from the end as in --layers=-2,-1; all [-1]"
    add("--layers", type=numbers, default="-1", metavar="N,N", help=layers)
    add("--mode", choices=MODES, default="none", metavar="MODE", help=f"{', '.join(MODES)} [%(default)s]")
    add("--weights", type=weights, metavar="W,W", help="of weighted_sum [equal, sum 1]")
    add("--format", choices=("npy", "safetensors"), default="npy", help="[%(default)s]")
    add("--dtype", choices=("float32", "float16"), default="float32", help="[%(default)s]")
    seconds = "seconds of audio at once [%(default)s]"
    add("--batch-duration", type=float, default=60.0, metavar="S", help=seconds)
    add("--channel-selector", type=channel, metavar="N|average", help="of several channels")
    add("--device", type=device, help="cpu, cuda, cuda:1 ... [a GPU if there is one]")
    arguments = parser.parse_args(argv)
    if arguments.weights and arguments.mode != "weighted_sum":
        parser.error("--weights needs --mode weighted_sum")
    if not arguments.batch_duration > 0:
        parser.error("--batch-duration must be positive")
    return arguments


def numbers(text: str) -> list[int] | None:
    """Layer numbers separated by commas; None for `all`."""
    if text == "all":
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor numbers such as 0,8,-1") from None


def weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers such as 0.5,0.5") from None


if __name__ == "__main__":
    run(main)
