"""Transcribe the test prompts with one of several systems, the weight of CTC chosen on the dev prompts.

Some systems transcribe a further set, with the same weight.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from verbs import run_verb

SOME_ROWS_FAILED = 3  # of nest_ssl.bin.decode: all rows are written, some with "error"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, required=True, help="of the system, from 1")
    parser.add_argument("--systems", nargs="+", required=True, metavar="NAME[=RUN]", help="in order")
    parser.add_argument("--exp", type=Path, required=True, help="folder with RUN/model of each; gets decode/")
    parser.add_argument("--dev", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--further", required=True, metavar="SET=MANIFEST", help="for decode/NAME_SET.jsonl")
    parser.add_argument("--further-systems", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--beam", required=True)
    arguments = parser.parse_args()
    name, _, run = arguments.systems[arguments.number - 1].partition("=")
    out = arguments.exp / "decode"
    model = arguments.exp / (run or name) / "model"
    weight = out / f"{name}.weight.json"
    chosen = ["--tune-on", arguments.dev, "--weight-out", weight]
    decode(model, arguments.test, out / f"{name}.jsonl", arguments.beam, chosen)
    if name in arguments.further_systems:
        suffix, _, manifest = arguments.further.partition("=")
        decode(model, manifest, out / f"{name}_{suffix}.jsonl", arguments.beam, ["--ctc-weight", weight])


def decode(model: Path, manifest: str, out: Path, beam: str, weight: list[object]) -> None:
    """Write the texts of a manifest; ends this program if that fails, but not where single rows failed."""
    words = ["--model", model, "--manifest", manifest, "--out", out, "--fresh-if-changed"]
    words += ["--mode", "joint", "--beam", beam, *weight]
    words += ["--gate", "level"]  # a CTC branch trained for a minute may hear nobody at all
    if run_verb("decode", *words, accepted=(0, SOME_ROWS_FAILED)) == SOME_ROWS_FAILED:
        print(f"{out.stem}: rows with errors are counted as empty texts by the stage score")


if __name__ == "__main__":
    main()
