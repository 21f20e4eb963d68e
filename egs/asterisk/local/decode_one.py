"""Transcribe the test prompts with one of several systems, the weight of CTC chosen on the dev prompts.

Some systems transcribe a further set, with the same weight.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

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
    status = decode(model, arguments.test, out / f"{name}.jsonl", arguments.beam, chosen)
    if status == 0 and name in arguments.further_systems:
        suffix, _, manifest = arguments.further.partition("=")
        out = out / f"{name}_{suffix}.jsonl"
        status = decode(model, manifest, out, arguments.beam, ["--ctc-weight", weight])
    sys.exit(status)


def decode(model: Path, manifest: str, out: Path, beam: str, weight: list[object]) -> int:
    """Give the exit status, 0 also where single rows failed."""
    words = ["--model", model, "--manifest", manifest, "--out", out, "--fresh-if-changed"]
    words += ["--mode", "joint", "--beam", beam, *weight]
    words += ["--gate", "level"]  # a CTC branch trained for a minute may hear nobody at all
    command = [sys.executable, "-m", "nest_ssl.bin.decode", *map(str, words)]
    status = subprocess.run(command, check=False).returncode
    if status == SOME_ROWS_FAILED:
        print(f"{out.stem}: rows with errors are counted as empty texts by the stage score")
    return 0 if status == SOME_ROWS_FAILED else status


if __name__ == "__main__":
    main()
