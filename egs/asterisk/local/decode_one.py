"""Transcribe the test prompts with one of several systems, the weight of CTC chosen on the dev prompts."""

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
    parser.add_argument("--beam", required=True)
    arguments = parser.parse_args()
    name, _, run = arguments.systems[arguments.number - 1].partition("=")
    out = arguments.exp / "decode"
    words = ["--model", arguments.exp / (run or name) / "model", "--manifest", arguments.test]
    words += ["--fresh-if-changed", "--mode", "joint", "--beam", arguments.beam, "--tune-on", arguments.dev]
    words += ["--gate", "level"]  # a CTC branch trained for a minute may hear nobody at all
    words += ["--weight-out", out / f"{name}.weight.json", "--out", out / f"{name}.jsonl"]
    command = [sys.executable, "-m", "nest_ssl.bin.decode", *map(str, words)]
    status = subprocess.run(command, check=False).returncode
    if status == SOME_ROWS_FAILED:
        print(f"{name}: rows with errors are counted as empty texts by the stage score")
    sys.exit(0 if status == SOME_ROWS_FAILED else status)


if __name__ == "__main__":
    main()
